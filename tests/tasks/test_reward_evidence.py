"""What teaches a reward: people before the scorer, training pictures only, ids and verdicts and no text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from deltalake import DeltaTable
from pydantic import ValidationError

from medgr2.infra.versions import members, resolve
from medgr2.infra.workspace import Workspace
from medgr2.models.reward_lessons import Witness
from medgr2.schemas.errors import DataError
from medgr2.schemas.parameters import REWARD_LESSONS, RefreshParameters
from medgr2.tasks import reward_evidence
from medgr2.tasks.night import Night
from medgr2.tasks.review import import_verdicts
from medgr2.tasks.reward_evidence import counted, gather, publish, read
from medgr2.tasks.reward_folds import FOLDS, folds

NIGHT = Night(
    run="ds/two", dataset="ds", base_id="b", base="b", generator="g", scorer="s", champion_id=None, images="",
    history=None,
)  # fmt: skip


@pytest.fixture
def workspace(room: Any) -> Workspace:
    return Workspace(settings=room.settings, store=room.store, lake=room.lake, images=room.images)


def scored(room: Any, item: str, agree: float | None, run: str = "ds/two", at: int = 0, reasons: Any = ()) -> None:
    row = {
        "item_id": item, "agree": agree, "run": run, "reasons": list(reasons), "scorer": "s",
        "score_id": f"{item}{run}{at}", "scored_at": room.now.replace(second=at),
    }  # fmt: skip
    room.lake.append_new("scores", [row], key="score_id")


def said(room: Any, item: str, valid: bool, who: str = "ann") -> None:
    import_verdicts(room.lake, [{"item_id": item, "reviewer": who, "valid": valid}], run="ds/two")


def items(room: Any, count: int, origin: str = "generated", first: int = 0) -> list[str]:
    return [room.item(room.picture(first + n), first + n, origin) for n in range(count)]


def test_who_says_so_and_what(room: Any) -> None:
    always, never, half, unscored, liked, refused, tied, shortcut, elsewhere, before = items(room, 10)
    (human,) = items(room, 1, "human", 50)
    room.publish("seed", [human])
    for item, agree in ((always, 1.0), (never, 0.0), (half, 0.5), (liked, 0.0), (refused, 1.0), (tied, 1.0)):
        scored(room, item, agree)
    scored(room, unscored, None)
    scored(room, shortcut, 1.0, reasons=["needs_no_image"])
    scored(room, elsewhere, 1.0, run="other/two")
    scored(room, before, 0.0, run="ds/one")
    scored(room, before, 1.0, run="ds/two", at=1)
    said(room, liked, True)
    said(room, refused, False)
    said(room, tied, True)
    said(room, tied, False, "bob")
    assert gather(room.lake, NIGHT) == {
        human: (True, Witness.AUTHOR),
        always: (True, Witness.SCORER),
        never: (False, Witness.SCORER),
        before: (True, Witness.SCORER),  # as it was judged last
        liked: (True, Witness.AUDIT),
        refused: (False, Witness.AUDIT),
        tied: (True, Witness.SCORER),  # people do not say anything together
    }


def test_only_training_pictures_teach(room: Any) -> None:
    heldout = room.item(room.picture(1, split="heldout"), 1)
    quarantined = room.item(room.picture(2, split="quarantined"), 2)
    for item in (heldout, quarantined):
        scored(room, item, 1.0)
        said(room, item, True)
    assert gather(room.lake, NIGHT) == {}


def test_what_people_wrote_and_reviewed_is_no_draft(room: Any) -> None:
    (human,) = items(room, 1, "human")
    said(room, human, False)
    assert gather(room.lake, NIGHT) == {}


def test_the_lessons_are_a_version_and_hold_no_text(room: Any, workspace: Workspace) -> None:
    good, bad = items(room, 2)
    told = {good: (True, Witness.AUDIT), bad: (False, Witness.SCORER)}
    source, digest = publish(workspace, NIGHT, told)
    assert (source, digest) == publish(workspace, NIGHT, told)
    assert set(members(room.lake, resolve(room.lake, REWARD_LESSONS))) == {good, bad}
    (stored,) = (room.store.root / "rewards" / "evidence").iterdir()
    assert json.loads(stored.read_text()) == sorted([[good, True, "audit"], [bad, False, "scorer"]])
    found = read(room.lake, room.store, source, digest)
    assert {(one.item.item_id, one.holds, one.witness) for one in found} == {
        (good, True, Witness.AUDIT),
        (bad, False, Witness.SCORER),
    }
    # Another night knows better: its version replaces what is no lesson any more, and the first stays readable.
    later, other = publish(workspace, NIGHT, {bad: (True, Witness.AUDIT)})
    assert later.version == source.version + 1
    assert [one.holds for one in read(room.lake, room.store, later, other)] == [True]
    assert len(read(room.lake, room.store, source, digest)) == 2
    assert counted(told) == {"audit_holds": 1, "scorer_does_not": 1}


@pytest.mark.parametrize("wrong", [b"", b"[]", b'[["x", true, "audit"]]'])
def test_damaged_lessons_train_nothing(room: Any, workspace: Workspace, wrong: bytes) -> None:
    (good,) = items(room, 1)
    source, digest = publish(workspace, NIGHT, {good: (True, Witness.AUDIT)})
    (stored,) = (room.store.root / "rewards" / "evidence").iterdir()
    stored.write_bytes(wrong)
    with pytest.raises(DataError, match="damaged"):
        read(room.lake, room.store, source, digest)


def test_no_night_publishes_into_the_lessons() -> None:
    with pytest.raises(ValidationError, match="what rewards were taught"):
        RefreshParameters(dataset=REWARD_LESSONS)


def test_a_patient_stands_in_one_fold(room: Any) -> None:
    of_one = [room.picture(n, patient="ann") for n in range(8)]
    others = [room.picture(100 + n) for n in range(40)]
    found = folds(room.lake, [*of_one, *others])
    assert len({found[image] for image in of_one}) == 1
    assert {found[image] for image in others} == set(range(FOLDS))
    assert folds(room.lake, others[:3]) == {image: found[image] for image in others[:3]}
    assert folds(room.lake, ["gone"]) == folds(room.lake, ["gone"])


def test_the_same_lessons_are_the_same_version_whoever_taught_in_between(room: Any, workspace: Workspace) -> None:
    """Two loops share the root: a cycle that was killed finds its members all the same."""
    one, two, three = items(room, 3)
    ours = {one: (True, Witness.AUDIT), two: (False, Witness.AUDIT)}
    first = publish(workspace, NIGHT, ours)
    publish(workspace, NIGHT.model_copy(update={"run": "other/two"}), {three: (True, Witness.AUDIT)})
    assert publish(workspace, NIGHT, ours) == first


def test_lessons_that_another_loop_changes_meanwhile_are_published_again(
    room: Any, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = items(room, 3)
    publish(workspace, NIGHT, {one: (True, Witness.AUDIT), two: (True, Witness.AUDIT)})
    really, raced = reward_evidence.versions.publish, []

    def late(lake: Any, **how: Any) -> Any:
        if not raced:
            raced.append(really(lake, **{**how, "add": [], "remove": [one], "run": "other/two"}))
        return really(lake, **how)

    monkeypatch.setattr(reward_evidence.versions, "publish", late)
    told = {one: (True, Witness.AUDIT), three: (False, Witness.AUDIT)}
    source, digest = publish(workspace, NIGHT, told)
    assert raced
    assert {found.item.item_id for found in read(room.lake, room.store, source, digest)} == {one, three}


def test_a_picture_that_was_replaced_teaches_no_more(room: Any) -> None:
    """Its successor looks like it, may stand in the other fold, and would be judged by who knows the picture."""
    old, new, audited, kept = items(room, 4)
    for item in (old, new, audited, kept):
        scored(room, item, 1.0)
    said(room, audited, True)
    rows = room.lake.read("items", ["item_id", "image_id"]).to_pylist()
    image = {row["item_id"]: row["image_id"] for row in rows}
    for minute, given in enumerate(([image[old], image[audited]], [image[new]])):
        note = {"file_id": "f", "images": given, "verdict": "accepted", "seen_at": room.now.replace(minute=minute)}
        room.lake.append("files", [note], once=f"f{minute}")
    assert set(gather(room.lake, NIGHT)) == {new, kept}


def test_what_the_scorer_says_of_corrected_facts_teaches_nothing(room: Any) -> None:
    stale, seen = items(room, 2)
    for item in (stale, seen):
        scored(room, item, 1.0)
    said(room, seen, True)
    DeltaTable(room.lake.uri("items")).update({"context": "'report:what it said before'"})
    assert gather(room.lake, NIGHT) == {seen: (True, Witness.AUDIT)}, "a person looked at the picture itself"
