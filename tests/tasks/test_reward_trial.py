"""The trial of a reward: a hacked one is kept out, one that helps comes in, one in force that does harm is withdrawn.

What members say is scripted here; that real ones are asked is tested in test_reward_train and the whole loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from medgr2.infra.workspace import Workspace
from medgr2.models.registry import Registration, Registry
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import RefreshParameters
from medgr2.schemas.vocabulary import QuestionType, Role
from medgr2.tasks import reward_trial
from medgr2.tasks.night import Night
from medgr2.tasks.review import import_verdicts
from medgr2.tasks.reward_trial import sit
from medgr2.tasks.score import Measured

AUDITS, CANARIES = 160, 40
Says = Callable[[bool, np.random.Generator], float]
"""What a reward says of an item that holds, or does not."""

KNOWS: Says = lambda valid, rng: float(np.clip(rng.normal(0.8 if valid else 0.2, 0.1), 0.01, 0.99))  # noqa: E731
YES: Says = lambda valid, rng: 1.0  # noqa: E731
NOISE: Says = lambda valid, rng: float(rng.uniform(0.01, 0.99))  # noqa: E731


def lp_of(valid: bool, rng: np.random.Generator) -> float:
    return -float(np.exp(rng.normal(-2.2 if valid else -0.4, 0.8)))


class Court:
    """Audited drafts and canaries, of which everybody says what the test tells."""

    def __init__(self, room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = room
        self.workspace = Workspace(settings=room.settings, store=room.store, lake=room.lake, images=room.images)
        self.registry = Registry(room.store, room.lake)
        pictures = [room.picture(n) for n in range(8)]
        self.items = [self._item(pictures[n % 8], n) for n in range(AUDITS + CANARIES)]
        rows = [
            item.model_dump(mode="json") | {"item_id": item.item_id, "origin": "generated", "added_at": room.now}
            for item in self.items[:AUDITS]
        ]
        room.lake.append_new("items", rows, key="item_id")
        self.valid = {item.item_id: n < AUDITS and n % 3 > 0 for n, item in enumerate(self.items)}
        verdicts = [
            {"item_id": item.item_id, "reviewer": "ann", "valid": self.valid[item.item_id]}
            for item in self.items[:AUDITS]
        ]
        import_verdicts(room.lake, verdicts, run="ds/two")
        self.says: dict[str, Says] = {}
        self.canaries_shine = False
        self.verifiers: set[str | None] = set()
        found = SimpleNamespace(
            reviewed=self.items[:AUDITS],
            live=self.items[AUDITS:],
            canaries=dict.fromkeys(range(CANARIES + 10)),
            unread=frozenset(),
        )
        self.found = found
        monkeypatch.setattr(reward_trial, "candidates", lambda *_: found)
        monkeypatch.setattr(reward_trial, "measure", self._measure)

    @staticmethod
    def _item(image: str, number: int) -> Item:
        return Item(
            image_id=image,
            question_type=list(QuestionType)[number % 2],
            question=f"What is shown in study {number}?",
            options=("CT", "MRI", "OCT", "X-Ray"),
            answer="A",
            rationale="It shows CT.",
        )

    def _measure(self, workspace: Any, items: Iterable[Item], how: Any, *, reward: str | None, **more: Any) -> Measured:
        del workspace, how
        self.verifiers.add(more.get("verifier"))
        signals: dict[str, dict[str, float]] = {}
        for number, item in enumerate(items):
            valid = self.valid[item.item_id]
            look = np.random.default_rng([1, number])
            signals[item.item_id] = {"lp": lp_of(valid, look), "agree": round(float(look.uniform(0, 1)), 3)}
            if reward is not None:
                shines = self.canaries_shine and number >= AUDITS
                said = 0.999 if shines else self.says[reward](valid, np.random.default_rng([2, number]))
                signals[item.item_id]["rm"] = said
        return Measured("s", signals, {}, (), reward)

    def reward(self, name: str, says: Says) -> str:
        artifact = name.ljust(64, "0")
        self.says[artifact] = says
        return self.registry.register(Registration(role=Role.REWARD, artifact=artifact, method="judge", run="t"))

    def night(self, reward: str | None = None, run: str = "ds/two", verifier: str | None = None) -> Night:
        return Night(
            run=run, dataset="ds", base_id="b", base="b", generator="g", scorer="s", champion_id=None,
            reward=reward and reward.ljust(64, "0"), images="", history=None, verifier=verifier,
        )  # fmt: skip

    def try_it(self, candidate: str, reward: str | None = None, **more: Any) -> tuple[Any, str]:
        night = self.night(reward, **more)
        return sit(self.workspace, night, RefreshParameters(), candidate, lambda plan: None)

    def in_force(self, name: str, says: Says) -> str:
        model = self.reward(name, says)
        self.registry.promote(Role.REWARD, model, reason="before", expected_current=self.registry.champion(Role.REWARD))
        return model


@pytest.fixture
def court(room: Any, monkeypatch: pytest.MonkeyPatch) -> Court:
    return Court(room, monkeypatch)


def test_a_reward_that_knows_more_is_promoted_once(court: Court) -> None:
    candidate = court.reward("a", KNOWS)
    gate, decision = court.try_it(candidate)
    assert (gate.promote, decision, court.registry.champion(Role.REWARD)) == (True, "promoted", candidate)
    assert gate.auroc > gate.auroc_before
    assert gate.canaries == CANARIES + 10
    assert court.try_it(candidate)[1] == "promoted"
    assert len(court.registry.history(Role.REWARD)) == 1


def test_a_reward_that_says_yes_to_everything_gets_no_weight_and_is_not_asked(court: Court) -> None:
    gate, decision = court.try_it(court.reward("a", YES))
    assert gate.auroc == pytest.approx(gate.auroc_before, abs=1e-6)
    assert any("changes no p(valid)" in reason for reason in gate.reasons)
    assert (decision, court.registry.champion(Role.REWARD)) == ("no reward yet", None)


def test_a_reward_that_loves_what_is_known_to_be_bad_is_kept_out(court: Court) -> None:
    court.canaries_shine = True
    gate, decision = court.try_it(court.reward("a", KNOWS))
    assert not gate.promote
    assert any("canaries are rejected" in reason for reason in gate.reasons)
    assert (decision, court.registry.champion(Role.REWARD)) == ("no reward yet", None)


def test_one_that_is_worse_than_the_one_in_force_does_not_replace_it(court: Court) -> None:
    champion = court.in_force("a", KNOWS)
    gate, decision = court.try_it(court.reward("b", NOISE), "a")
    assert any("may be worse" in reason for reason in gate.reasons)
    assert (decision, court.registry.champion(Role.REWARD)) == ("kept the reward before it", champion)


def test_one_in_force_that_lets_canaries_through_is_withdrawn_and_only_once(court: Court) -> None:
    first = court.in_force("a", KNOWS)
    court.in_force("b", KNOWS)
    court.canaries_shine = True
    candidate = court.reward("c", KNOWS)
    _, decision = court.try_it(candidate, "b")
    assert decision.startswith("the reward in force is withdrawn: ")
    assert "canaries are rejected" in decision
    assert court.registry.champion(Role.REWARD) == first
    assert court.try_it(candidate, "b")[1] == decision
    assert court.registry.champion(Role.REWARD) == first, "killed and run again, no second one is withdrawn"


def test_one_that_is_promoted_by_hand_at_this_very_moment_is_not_withdrawn_for_it(
    court: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    court.in_force("a", KNOWS)
    court.canaries_shine = True
    candidate, other = court.reward("c", KNOWS), court.reward("b", KNOWS)
    really = Registry.rollback

    def late(registry: Registry, role: Role, **how: Any) -> Any:
        registry.promote(role, other, reason="by hand", expected_current=registry.champion(role))
        return really(registry, role, **how)

    monkeypatch.setattr(Registry, "rollback", late)
    _, decision = court.try_it(candidate, "a")
    assert decision.startswith("the reward in force does harm, and was not withdrawn: the champion of reward is ")
    assert court.registry.champion(Role.REWARD) == other


def test_the_first_reward_is_withdrawn_to_none(court: Court) -> None:
    court.in_force("a", KNOWS)
    court.canaries_shine = True
    assert "withdrawn" in court.try_it(court.reward("b", KNOWS), "a")[1]
    assert court.registry.champion(Role.REWARD) is None


def test_a_champion_that_moved_meanwhile_is_left_alone(court: Court) -> None:
    court.in_force("a", NOISE)
    other = court.in_force("b", NOISE)
    gate, decision = court.try_it(court.reward("c", KNOWS), "a")
    assert gate.promote
    assert decision.startswith("passed, and not promoted")
    assert court.registry.champion(Role.REWARD) == other


def test_too_few_audits_decide_nothing(court: Court, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward_trial, "standing_verdicts", lambda lake: [])
    gate, decision = court.try_it(court.reward("a", KNOWS))
    assert gate is None
    assert decision.startswith("not tried: 0 audits are too few")
    assert court.registry.champion(Role.REWARD) is None


def test_one_that_was_taken_back_is_not_told_to_be_promoted_again(court: Court) -> None:
    """The same lessons make the same reward again on a later night."""
    candidate = court.reward("a", KNOWS)
    court.try_it(candidate)
    court.registry.rollback(Role.REWARD, reason="by hand")
    assert court.try_it(candidate)[1] == "promoted", "killed and run again, the night tells what it did"
    assert court.registry.champion(Role.REWARD) is None
    gate, decision = court.try_it(candidate, run="ds/three")
    assert gate.promote
    assert decision.startswith("passed, and not promoted: it was taken back before; medgr2 promote ")
    assert court.registry.champion(Role.REWARD) is None, "who took it back knew why"


def test_the_reward_in_force_learned_nothing_new_and_may_do_harm_all_the_same(court: Court) -> None:
    champion = court.reward("a", KNOWS)
    court.try_it(champion)
    _, decision = court.try_it(champion, "a", run="ds/three")
    assert (decision, court.registry.champion(Role.REWARD)) == ("it is the reward in force again", champion)
    court.canaries_shine = True
    _, decision = court.try_it(champion, "a", run="ds/four")
    assert decision.startswith("the reward in force is withdrawn: ")
    assert court.registry.champion(Role.REWARD) is None


def test_it_is_tried_with_all_that_the_night_judges_by(court: Court) -> None:
    """p(valid) with the other family's opinion is another p than without it."""
    court.try_it(court.reward("a", KNOWS), verifier="served:other")
    assert court.verifiers == {"served:other"}


def test_canaries_that_every_gate_refuses_unread_are_no_proof(court: Court) -> None:
    """An evaluation set that cannot be read refuses every item: whatever the reward says, all canaries are caught."""
    court.found.unread, court.found.live = frozenset({"slake"}), []
    candidate = court.reward("a", KNOWS)
    gate, decision = court.try_it(candidate)
    assert gate is None
    assert decision.startswith("not tried: the evaluation set slake cannot be read")
    assert court.registry.champion(Role.REWARD) is None
