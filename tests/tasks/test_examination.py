"""Who may be examined on what, and what is said of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from medgr2.infra.query import query
from medgr2.infra.workspace import Workspace
from medgr2.models.answer_forms import Answering, answering_in
from medgr2.models.model_ref import base_model, policy_model
from medgr2.models.registry import Registration, Registry
from medgr2.schemas.cells import Cell, Outcome
from medgr2.schemas.errors import DataError, NightStoppedError, NotFoundError, UsageError
from medgr2.schemas.reports import Plan
from medgr2.schemas.vocabulary import Role
from medgr2.tasks import evaluate
from medgr2.tasks.evaluate import summary
from medgr2.tasks.evaluate_worker import EvaluateWorker
from medgr2.tasks.evaluation_report import report
from medgr2.tasks.examination import examine, find_model
from medgr2.tasks.model_story import heldout as heldout_of
from medgr2.tasks.model_story import stories
from medgr2.tasks.night import register_given
from medgr2.tasks.remembered import remembered


def quiet(plan: Plan) -> None:
    del plan


@pytest.fixture
def workspace(room: Any) -> Workspace:
    return Workspace(settings=room.settings, store=room.store, lake=room.lake, images=room.images)


def exam(room: Any, n: int = 8, dataset: str = "heldout") -> Any:
    return room.publish(dataset, [room.item(room.picture(i, split="heldout"), i, "human") for i in range(n)])


def policy(room: Any, *, sources: tuple[Any, ...] = (), parent: str = "", recipe: str = "r") -> str:
    entry = Registration(
        role=Role.POLICY, artifact=room.base, method="sft", parent=parent, sources=sources, recipe=recipe, run="test"
    )
    return Registry(room.store, room.lake).register(entry)


def test_a_model_is_found_by_role_by_the_beginning_of_its_id_or_as_the_base(room: Any, workspace: Workspace) -> None:
    registry = Registry(room.store, room.lake)
    base, start = (register_given(registry, given(workspace.settings)) for given in (base_model, policy_model))
    assert find_model(workspace, "base")["model_id"] == base
    assert find_model(workspace, "start")["model_id"] == start != base
    with pytest.raises(UsageError, match="policy has no champion yet"):
        find_model(workspace, "policy")
    mine = policy(room)
    assert find_model(workspace, mine[:10])["model_id"] == mine
    registry.promote(Role.POLICY, mine, reason="", expected_current=None)
    assert find_model(workspace, "policy")["model_id"] == mine
    with pytest.raises(UsageError, match="a reward judges items"):
        find_model(workspace, "reward")
    with pytest.raises(NotFoundError):
        find_model(workspace, "no such")


def test_what_is_shared_with_the_lessons_of_a_parent_is_refused(room: Any, workspace: Workspace) -> None:
    heldout = exam(room)
    patient = room.source("lessons", [room.item(room.picture(90, patient="patient-3"), 90)])
    clean = room.source("more", [room.item(room.picture(91), 91)])
    grandparent = policy(room, sources=(patient,), recipe="first")
    child = policy(room, sources=(clean,), parent=grandparent, recipe="second")
    with pytest.raises(DataError, match="0 images and 1 patients are both in the training data"):
        examine(workspace, find_model(workspace, child), heldout, run="r", announce=quiet)
    assert room.lake.read("evals").num_rows == 0
    alone = policy(room, sources=(clean,), recipe="third")
    assert len(examine(workspace, find_model(workspace, alone), heldout, run="r", announce=quiet)) == 24


def test_slices_that_a_model_was_taught_are_in_domain(room: Any, workspace: Workspace) -> None:
    heldout = exam(room)
    lessons = room.source("lessons", [room.item(room.picture(90 + i), 90 + i) for i in (2, 6)])  # 92, 96: CT
    model = find_model(workspace, policy(room, sources=(lessons,)))
    rows = examine(workspace, model, heldout, run="r", announce=quiet, samples=2)
    found = report(room.lake, model, heldout, rows, remembered(workspace, model["model_id"]), run="r")
    assert {name: s.taught for name, s in found.by_modality.slices.items()} == {
        "CT": True, "MRI": False, "OCT": False, "X-Ray": False,
    }  # fmt: skip
    accuracy = {name: s.accuracy.value for name, s in found.by_modality.slices.items()}
    assert found.by_modality.in_domain == accuracy["CT"]
    others = [accuracy[name] for name in ("MRI", "OCT", "X-Ray")]
    assert found.by_modality.cross_domain == pytest.approx(sum(others) / 3)
    assert found.by_question_type.slices["Modality Recognition"].taught
    assert found.by_question_type.cross_domain is None
    assert (found.n, found.failed, found.on) == (8, 0, "heldout@1")
    assert found.macro.value == found.by_modality.macro
    right = sum(row["correct"] for row in rows if row["condition"] == "image")
    assert found.micro.value == right / 8
    assert found.other_scorers.vlmevalkit == right / 8
    assert found.sampled is not None
    assert found.agreement is not None
    assert found.calibration is not None
    assert found.calibration.accuracy == right / found.calibration.n


class Flaky(EvaluateWorker):
    """Fails one item with its own picture, as a worker does whose machine has no memory left."""

    failing: tuple[str, str] = ("", "")

    def __call__(self, cells: Sequence[Cell]) -> Iterable[Outcome]:
        for cell, outcome in zip(cells, super().__call__(cells), strict=True):
            bad = (cell.parents[0], cell.image) == self.failing and not cell.inputs["blank"]
            yield Outcome.failed(cell, "out_of_memory") if bad else outcome


def test_what_failed_is_wrong_and_listed_until_a_later_exam(
    room: Any, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    heldout = exam(room)
    items = evaluate.read_heldout(room.lake, heldout)
    monkeypatch.setattr(evaluate, "WORKER", f"{__name__}:Flaky")
    monkeypatch.setattr(Flaky, "failing", (items[0]["item_id"], items[0]["image_id"]))
    model = find_model(workspace, "base")

    with pytest.raises(NightStoppedError, match="1 of 24 cells failed, more than the limit of 0%"):
        examine(workspace, model, heldout, run="strict", announce=quiet)
    rows = examine(workspace, model, heldout, run="r", announce=quiet, count_failed=True)
    examine(workspace, model, heldout, run="r", announce=quiet, longest=3, count_failed=True)
    found = report(room.lake, model, heldout, rows, remembered(workspace, model["model_id"]), run="r")
    assert (found.n, found.failed, found.controls_failed) == (8, 1, 0)
    sql = found.listed.split("'", 1)[1].rsplit("'", 1)[0].replace("'\"'\"'", "'")
    listed = query(room.settings.storage, sql).to_pylist()
    unread = [row for row in rows if not row["parsed"]]
    assert {"item_id": items[0]["item_id"], "condition": "image", "failed": "out_of_memory"} in listed
    assert len(listed) == len(unread), "of this exam, not of the one with the short replies"
    view = "select accuracy, n from accuracy where condition = 'image'"
    (then,) = query(room.settings.storage, view).to_pylist()
    assert then == {"accuracy": found.micro.value, "n": 8}

    monkeypatch.setattr(Flaky, "failing", ("", ""))
    compute = room.settings.compute.model_copy(update={"attempts": 2})
    another = dataclasses.replace(workspace, settings=room.settings.model_copy(update={"compute": compute}))
    mended = examine(another, model, heldout, run="r", announce=quiet)
    assert [row["failed"] for row in mended] == [None] * 24
    (now,) = query(room.settings.storage, view).to_pylist()
    right = sum(row["correct"] for row in mended if row["condition"] == "image")
    assert now == {"accuracy": right / 8, "n": 8}


def test_two_models_are_compared_item_by_item(room: Any, workspace: Workspace) -> None:
    heldout = exam(room)
    base = find_model(workspace, "base")
    rows = examine(workspace, base, heldout, run="r", announce=quiet, samples=2)
    nobody = remembered(workspace, base["model_id"])
    worse = [{**row, "correct": False, "sampled": ["E", "E"]} if row["condition"] == "image" else row for row in rows]
    found = report(room.lake, base, heldout, worse, nobody, run="r", first=rows)
    assert found.against is not None
    right = sum(row["correct"] for row in rows if row["condition"] == "image")
    assert (found.against.greedy.wins, found.against.greedy.losses) == (0, right)
    assert found.against.sampled is not None
    first = report(room.lake, base, heldout, rows, nobody, run="r")
    assert first.against is None
    assert first.sampled is not None
    assert found.against.sampled.gain == pytest.approx(-first.sampled.micro.value)


def test_as_it_was_taught_to_answer_or_as_it_is_told_to(room: Any, workspace: Workspace) -> None:
    heldout = exam(room, 4)
    after = Answering(style="think-after")
    entry = Registration(role=Role.POLICY, artifact=room.base, method="sft", metrics={"answering": after.model_dump()})
    model = find_model(workspace, Registry(room.store, room.lake).register(entry))
    rows = examine(workspace, model, heldout, run="r", announce=quiet)
    # The base thinks first. Read as one that thinks afterwards, it has said nothing that counts.
    assert not any(row["parsed"] for row in rows)
    base = find_model(workspace, "base")
    assert any(row["parsed"] for row in examine(workspace, base, heldout, run="r", announce=quiet))
    told = examine(workspace, base, heldout, run="r", announce=quiet, answering=answering_in("think", told=True))
    assert {row["cell"] for row in told}.isdisjoint(row["cell"] for row in rows)


def test_only_an_exam_as_the_gate_asks_it_stands_for_the_model(room: Any, workspace: Workspace) -> None:
    heldout = exam(room)
    model = find_model(workspace, "base")
    view = "select condition, n, accuracy, macro, parsed from accuracy order by 1"
    own = examine(workspace, model, heldout, run="r", announce=quiet)
    before = query(room.settings.storage, view).to_pylist()
    told = summary(own)
    image = next(row for row in before if row["condition"] == "image")
    assert (image["n"], image["accuracy"]) == (8, told.micro.value)
    assert image["macro"] == pytest.approx(told.macro.value)
    assert 0 < image["accuracy"] < 1

    cut = examine(workspace, model, heldout, run="r", announce=quiet, longest=3)
    assert not any(row["parsed"] for row in cut)
    examine(workspace, model, heldout, run="r", announce=quiet, samples=2)
    examine(workspace, model, heldout, run="r", announce=quiet, answering=answering_in("no-think", told=True))
    assert query(room.settings.storage, view).to_pylist() == before
    (shown,) = (heldout_of(story) for story in stories(workspace) if story["model_id"] == model["model_id"])
    assert shown == image["macro"]

    others = "select asked, own, accuracy from accuracy_as_asked where condition = 'image' order by 1"
    asked = {row["asked"]: (row["own"], row["accuracy"]) for row in query(room.settings.storage, others).to_pylist()}
    assert asked["answer.v1 think longest=3"] == (False, 0.0)
    assert asked["answer.v1 think longest=64"] == (True, image["accuracy"])
    assert asked.keys() - {"answer.v1 think longest=3", "answer.v1 think longest=64"} == {
        "answer.no-think.v1 no-think longest=64", "answer.v1 think longest=64 samples=2 sampled_at=1.0",
    }  # fmt: skip
    # Asked for in so many words, what the model does of itself is the same exam.
    again = examine(workspace, model, heldout, run="r", announce=quiet, longest=64)
    assert {row["eval_id"] for row in again} == {row["eval_id"] for row in own}


def test_rows_of_a_release_that_did_not_say_how_it_asked_hold_where_nothing_else_is_known(
    room: Any, workspace: Workspace
) -> None:
    heldout = exam(room)
    model = find_model(workspace, "base")
    rows = examine(workspace, model, heldout, run="r", announce=quiet, longest=3)
    later = datetime.now(UTC) + timedelta(hours=1)
    older = [row | {"eval_id": row["eval_id"][::-1], "asked": None, "own": None, "evaluated_at": later} for row in rows]
    room.lake.append_new("evals", older, key="eval_id")
    view = "select accuracy from accuracy where condition = 'image'"
    assert query(room.settings.storage, view).to_pylist() == [{"accuracy": 0.0}]
    own = summary(examine(workspace, model, heldout, run="r", announce=quiet))
    assert query(room.settings.storage, view).to_pylist() == [{"accuracy": own.micro.value}]
