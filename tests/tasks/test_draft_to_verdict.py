"""Generate, gates, signals, verdicts and selection in one go, on the real tiny model and a real lake."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from medgr2.infra.settings import ComputeSettings, Settings, StorageSettings
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.models.gates import GateContext, sift
from medgr2.models.model_ref import base_model
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import GenerateParameters, ScoreParameters, SelectParameters
from medgr2.schemas.reports import Plan
from medgr2.schemas.vocabulary import Verdict
from medgr2.tasks.generate import drafted, generate
from medgr2.tasks.judge import judge
from medgr2.tasks.score import measure
from medgr2.tasks.select import select

HOW = GenerateParameters(samples=2)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("root")
    made = open_workspace(Settings(storage=StorageSettings(root=str(root)), compute=ComputeSettings(mode="inline")))
    rng = np.random.default_rng(1)
    rows = []
    for n in range(6):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, "PNG")
        report = "CT, chest, nodule, grade mild, upper left"
        split = "heldout" if n == 5 else "train"
        rows.append({"image_id": made.images.put(file.getvalue()), "split": split, "report": report, "modality": "CT"})
    made.lake.append_new("images", rows, key="image_id")
    return made


def pictures(workspace: Workspace) -> list[str]:
    """All of them, the held-out one too: the stage itself has to leave that out."""
    return sorted(workspace.lake.read("images", columns=["image_id"])["image_id"].to_pylist())


def test_a_second_pass_buys_nothing_and_says_the_same(workspace: Workspace) -> None:
    base = base_model(workspace.settings).revision
    plans: list[Plan] = []
    passes = []
    for run in ("n/1", "n/2"):
        report = generate(workspace, HOW, pictures(workspace), model=base, run=run, announce=plans.append)
        items = drafted(workspace, HOW, pictures(workspace), model=base, run=run)
        gated = sift(items, GateContext())
        passed = [item for item in items if not gated[item.item_id]]
        measured = measure(workspace, passed, ScoreParameters(answers=2), scorer=base, run=run, announce=plans.append)
        assert report.plan.found == 5 * 5 * 2  # the held-out image is not asked about
        assert all(one.conserved() for one in (report, *measured.reports))
        assert set(measured.signals) == {item.item_id for item in passed}
        assert all(set(found) == {"lp", "agree", "perm", "blind"} for found in measured.signals.values())
        rows = judge(gated, measured, None, tau=0.8, run=run)
        assert len(rows) == len(items)
        assert not any(row["verdict"] == Verdict.ACCEPTED for row in rows)
        chosen = select(items, rows, modality={}, held=(), parameters=SelectParameters(cap=10))
        assert chosen.add == ()
        passes.append((items, gated, measured.signals, [row["score_id"] for row in rows]))
    assert passes[0] == passes[1]
    assert [plan.new for plan in plans[:4]] == [plan.found for plan in plans[:4]]
    assert [plan.new for plan in plans[4:]] == [0, 0, 0, 0]


def test_what_never_passed_a_gate_never_reached_the_model(workspace: Workspace) -> None:
    stored = workspace.lake.read("outcomes", columns=["stage", "key"]).to_pylist()
    items = drafted(workspace, HOW, pictures(workspace), model=base_model(workspace.settings).revision, run="n/1")
    passed = [item_id for item_id, reasons in sift(items, GateContext()).items() if not reasons]
    for stage in ("score-answers", "score-orders", "score-blind"):
        assert len({row["key"] for row in stored if row["stage"] == stage}) == len(passed)


def test_another_prompt_of_the_judge_costs_only_judging(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    base = base_model(workspace.settings).revision
    plans: dict[str, Plan] = {}

    def note(plan: Plan) -> None:
        plans[plan.stage] = plan

    def night(run: str) -> None:
        generate(workspace, HOW, pictures(workspace), model=base, run=run, announce=note)
        items = drafted(workspace, HOW, pictures(workspace), model=base, run=run)
        measure(workspace, items[:4], ScoreParameters(answers=2), scorer=base, run=run, announce=note)

    night("n/3")
    monkeypatch.setattr("medgr2.tasks.score.load_prompt", lambda _: "Q: {question} Options: {options}")
    night("n/4")
    assert (plans["generate"].new, plans["generate"].because) == (0, ())
    for stage in ("score-answers", "score-orders", "score-blind"):
        assert (plans[stage].new, plans[stage].because) == (4, ("prompt",))


def test_a_night_tells_how_diverse_its_drafts_are(workspace: Workspace) -> None:
    base = base_model(workspace.settings).revision
    report = generate(workspace, HOW, pictures(workspace), model=base, run="n/5", announce=lambda _: None)
    assert report.diversity is not None
    assert report.diversity.drafts == len(drafted(workspace, HOW, pictures(workspace), model=base, run="n/5"))
    assert report.diversity.modalities == {"CT": report.diversity.drafts}
    assert report.diversity.type_entropy > 0.99


def test_items_are_in_the_lake_once(workspace: Workspace) -> None:
    rows = workspace.lake.read("items").to_pylist()
    assert len({row["item_id"] for row in rows}) == len(rows)
    assert all(Item.model_validate({k: row[k] for k in Item.model_fields}).item_id == row["item_id"] for row in rows)
