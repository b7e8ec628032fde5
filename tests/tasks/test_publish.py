"""Publishing: a batch whose keys can be told without the pictures stays out, and what has to leave leaves."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from medgr2.infra.settings import load_settings
from medgr2.infra.versions import members, versions
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.errors import ExitCode
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import RefreshParameters
from medgr2.schemas.probe import Probed
from medgr2.schemas.reports import PublishReport
from medgr2.schemas.vocabulary import QuestionType
from medgr2.tasks.night import Night
from medgr2.tasks.publish import publish, refusal
from medgr2.tasks.review import import_verdicts

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LABELS = ("normal", "cyst", "nodule", "fibrosis")
EVEN, MAJORITY = (1, 1, 1, 1), (7, 1, 1, 1)


def written(number: int, weights: tuple[int, ...], seed: int, *, hedged: float = 0.0) -> list[Item]:
    """`hedged`: the share of items whose key, and no other option, says that it is likely."""
    rng = random.Random(seed)
    items = []
    for at in range(number):
        options = rng.sample(LABELS, 4)
        key = rng.choices(LABELS, weights)[0]
        if hedged and rng.random() < hedged:
            options[options.index(key)] = key = f"likely {key}"
        items.append(
            Item(
                image_id=sha256_hex(f"{seed} {at}".encode()), question_type=QuestionType.DISEASE,
                question="What is the diagnosis?", options=tuple(options), answer="ABCD"[options.index(key)],
                rationale=f"So it is {key}.",
            )
        )  # fmt: skip
    return items


class Clinic:
    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.workspace: Workspace = open_workspace(load_settings({"MEDGR2_STORAGE__ROOT": str(root)}))
        self.drafts: list[Item] = []
        self.history: dict[str, int | None] = {}
        monkeypatch.setattr("medgr2.tasks.publish.drafted", lambda *_, **__: self.drafts)
        monkeypatch.setattr("medgr2.tasks.publish.images_of", lambda *_: [])

    def night(self, name: str, drafts: list[Item], **select: Any) -> PublishReport:
        """What counts as history is the newest version, the first time that the night is published."""
        self.drafts = drafts
        parameters = RefreshParameters.model_validate({"dataset": "ds", "night": name, "select": select})
        run, lake = parameters.run, self.workspace.lake
        images = [{"image_id": one.image_id, "modality": "CT", "split": "train", "added_at": NOW} for one in drafts]
        lake.append_new("images", images, key="image_id")
        rows = [
            one.model_dump(mode="json") | {"item_id": one.item_id, "origin": "generated", "run": run, "added_at": NOW}
            for one in drafts
        ]
        lake.append_new("items", rows, key="item_id")
        judged = [
            {"score_id": f"{run}-{one.item_id}", "item_id": one.item_id, "p_valid": 0.9, "verdict": "accepted",
             "reasons": [], "run": run, "scored_at": NOW}
            for one in drafts
        ]  # fmt: skip
        lake.append_new("scores", judged, key="score_id")
        held = versions(lake, "ds")
        history = self.history.setdefault(name, held[-1].version if held else None)
        night = Night(
            run=run, dataset="ds", base_id="b", base="b", generator="g", scorer="s", champion_id=None, images="",
            history=history,
        )  # fmt: skip
        return publish(self.workspace, night, parameters)

    def refuse(self, item: Item) -> None:
        review = {"review_id": "r", "item_id": item.item_id, "reviewer": "x", "valid": False, "reviewed_at": NOW}
        self.workspace.lake.append_new("reviews", [review], key="review_id")


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clinic:
    return Clinic(tmp_path / "root", monkeypatch)


def test_a_clean_batch_is_published_with_what_the_probe_said(clinic: Clinic) -> None:
    report = clinic.night("one", written(600, EVEN, 1), cap=1000)
    assert report.probe is not None
    assert report.version is not None
    assert (report.probe.verdict, report.refused, refusal(report, "ds/one")) == (Probed.PASSES, False, None)
    assert report.added == report.version.items == sum(report.letters.values()) > 580
    told = report.version.card["blind_probe"]
    assert isinstance(told, dict)
    assert told["chance"] == 0.25
    assert "blind probe: 0.2" in report.line()


def test_a_batch_that_gives_itself_away_is_not_published_and_the_words_are_told(clinic: Clinic) -> None:
    report = clinic.night("one", written(400, MAJORITY, 2), balance_keys=False)
    assert (report.added, report.version, report.letters, report.refused) == (0, None, {}, True)
    assert report.left_out == {"given_away_without_the_image": 400}
    stopped = refusal(report, "ds/one")
    assert stopped is not None
    assert stopped.exit_code is ExitCode.NIGHT_STOPPED
    assert "'normal'" in str(stopped)
    assert "normal" not in report.line()  # a log gets counts alone


def test_balanced_the_same_batch_is_published(clinic: Clinic) -> None:
    report = clinic.night("one", written(400, MAJORITY, 1))
    assert not report.refused
    assert report.added > 100
    assert report.added + report.left_out["surplus_of_key"] + report.left_out.get("surplus_of_letter", 0) == 400


def test_a_batch_is_published_without_the_items_that_give_it_away(clinic: Clinic) -> None:
    batch = written(500, EVEN, 1, hedged=0.2)
    report = clinic.night("one", batch, cap=1000, balance_keys=False)
    assert report.probe is not None
    assert report.version is not None
    assert report.probe.thinned is not None
    assert (report.refused, refusal(report, "ds/one")) == (False, None)
    dropped = report.left_out["given_away_without_the_image"]
    assert (report.probe.thinned.dropped, report.added) == (dropped, report.version.items)
    assert report.added + sum(report.left_out.values()) == 500
    assert sum(report.letters.values()) == report.added == report.probe.items
    held = set(members(clinic.workspace.lake, report.version))
    hedged = {one.item_id for one in batch if one.key_text.startswith("likely")}
    assert len(hedged & held) < len(hedged) / 4
    told = report.version.card["blind_probe"]
    assert isinstance(told, dict)
    assert told["thinned"] == report.probe.thinned.model_dump()
    assert f"so {dropped} items that gave their key away are left out" in report.line()
    assert "likely" not in report.line()  # a log gets counts alone
    assert clinic.night("one", batch, cap=1000, balance_keys=False).version == report.version


def test_published_again_after_verdicts_a_thinned_batch_is_what_the_probe_saw(clinic: Clinic) -> None:
    """Thinned anew, other items go. Those that had stayed do not stay beside them: together they may tell a key."""
    lake, batch = clinic.workspace.lake, written(500, EVEN, 1, hedged=0.2)
    first = clinic.night("one", batch, cap=1000, balance_keys=False)
    for times in (1, 2):
        import_verdicts(
            lake, [{"item_id": one.item_id, "reviewer": "Dr. A", "valid": False} for one in batch[: 3 * times]]
        )
        again = clinic.night("one", batch, cap=1000, balance_keys=False)
        assert again.probe is not None
        assert again.version is not None
        assert again.added == again.version.items == again.probe.items
        assert again.added + sum(again.left_out.values()) == 500
    assert first.version is not None
    assert set(members(lake, first.version)) != set(members(lake, again.version))


def test_a_batch_that_is_refused_when_it_is_published_again_leaves_again(clinic: Clinic) -> None:
    batch = written(400, MAJORITY, 2)
    first = clinic.night("one", batch)
    assert first.added > 0
    again = clinic.night("one", batch, balance_keys=False)
    assert again.refused
    assert again.version is not None
    assert (again.added, again.version.items) == (0, 0)


def test_what_was_thinned_out_is_not_the_next_nights_batch(clinic: Clinic) -> None:
    batch = written(500, EVEN, 1, hedged=0.2)
    first = clinic.night("one", batch, cap=2000, balance_keys=False)
    second = clinic.night("two", [*batch, *written(60, EVEN, 5)], cap=2000, balance_keys=False)
    assert not second.refused
    given_away = first.left_out["given_away_without_the_image"]
    assert second.left_out == {"held": first.added, "given_away_before": given_away}
    assert second.added == 60
    assert clinic.night("one", batch, cap=2000, balance_keys=False).left_out == first.left_out


def test_a_refused_batch_leaves_the_version_and_lets_go_what_has_to_leave(clinic: Clinic) -> None:
    clean = written(200, EVEN, 1)
    first = clinic.night("one", clean).version
    leaky = written(300, MAJORITY, 2)
    second = clinic.night("two", leaky, balance_keys=False)
    assert second.refused
    assert second.version == first
    dropped = next(one for one in clean if one.item_id in members(clinic.workspace.lake, first))  # type: ignore[arg-type]
    clinic.refuse(dropped)
    again = clinic.night("two", leaky, balance_keys=False)
    assert again.refused
    assert first is not None
    assert again.version is not None
    assert (again.version.version, again.version.items) == (first.version + 1, first.items - 1)
    assert "blind_probe" not in again.version.card


def test_a_verdict_that_is_taken_back_takes_the_item_out_and_in_again(clinic: Clinic) -> None:
    lake, clean = clinic.workspace.lake, written(30, EVEN, 1)
    first = clinic.night("one", clean).version
    assert first is not None
    word = {"item_id": members(lake, first)[0], "reviewer": "Dr. A"}
    import_verdicts(lake, [word | {"valid": True}])
    assert clinic.night("two", clean).version == first
    import_verdicts(lake, [word | {"valid": False}], corrects=True)
    second = clinic.night("three", clean).version
    assert second is not None
    assert (second.items, word["item_id"] in members(lake, second)) == (first.items - 1, False)
    import_verdicts(lake, [word | {"valid": True}], corrects=True)
    third = clinic.night("four", clean).version
    assert third is not None
    assert members(lake, third) == members(lake, first)
    assert word["item_id"] not in members(lake, second)


def test_a_small_batch_is_published_and_said_to_be_small(clinic: Clinic) -> None:
    report = clinic.night("one", written(30, EVEN, 1))
    assert report.probe is not None
    assert (report.probe.verdict, report.added) == (Probed.TOO_FEW, 30)
    assert "too few" in report.line()


def test_nothing_to_add_is_nothing_to_probe(clinic: Clinic) -> None:
    report = clinic.night("one", [])
    assert (report.probe, report.version, report.refused) == (None, None, False)
