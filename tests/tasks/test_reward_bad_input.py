"""What a reward layer may be given, through the whole of a night: it refuses or goes on without, and says which."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_ward import Evening, Ward

from medgr2.infra import versions
from medgr2.infra.artifacts import put_folder
from medgr2.models.calibration import FEATURES, Calibration, Quality
from medgr2.models.judging import JUDGE
from medgr2.models.prompts import load_prompt
from medgr2.models.registry import Registration, Registry
from medgr2.models.signals import SIGNALS, Answers, Blind, Exam, Orders
from medgr2.models.training import RECORD
from medgr2.schemas.errors import DataError, NightStoppedError
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import RefreshParameters, SelectParameters
from medgr2.schemas.vocabulary import QuestionType, Role
from medgr2.tasks import score_reward
from medgr2.tasks.judge import judge
from medgr2.tasks.review import import_verdicts
from medgr2.tasks.review_status import review_status
from medgr2.tasks.reward_folds import FOLDS
from medgr2.tasks.score import Measured
from medgr2.tasks.select import select

BASE = Path(__file__).parents[2] / "models" / "base"


def small(ward: Ward, night: str) -> RefreshParameters:
    return ward.how(night, generate={"question_types": ["Modality Recognition"], "repairs": 0})


def nothing_published(ward: Ward, evening: Evening) -> None:
    assert evening.accepted == evening.members == set()
    assert evening.published.added == 0
    assert evening.published.version is None
    assert versions.versions(ward.workspace.lake, "ds") == []


def test_nobody_has_looked_yet(fresh_ward: Ward) -> None:
    evening = fresh_ward.spend("one", fresh_ward.honest, parameters=small(fresh_ward, "one"))
    nothing_published(fresh_ward, evening)
    assert evening.report.calibration is None
    assert "0 audits are too few" in evening.report.uncalibrated_because
    assert evening.report.uncalibrated_because in evening.report.line()
    assert len(evening.with_reason("uncalibrated")) > 40
    assert evening.report.canaries_rejected is None, "nobody can be trusted with canaries yet"


def test_everybody_says_yes(fresh_ward: Ward) -> None:
    def yes(requests: Any) -> list[dict[str, Any]]:
        return [{"item_id": request["item_id"], "valid": True, "reason": ""} for request in requests]

    evening = fresh_ward.spend("one", fresh_ward.honest, yes, small(fresh_ward, "one"))
    nothing_published(fresh_ward, evening)
    audited = fresh_ward.workspace.lake.read("reviews").num_rows
    assert audited > 40
    assert f"{audited} of {audited} audited items are valid" in evening.report.uncalibrated_because
    assert "at least 3 of each kind" in evening.report.line()
    # Three that are not: the same night goes on from there, and buys nothing again.
    good = [item_id for item_id, item in evening.drafts.items() if fresh_ward.is_true(item)]
    bad = [item_id for item_id in evening.scores if item_id not in good and evening.scores[item_id]["lp"] is not None]
    said = [{"item_id": one, "reviewer": name, "valid": False} for one in bad for name in ("Dr. A", "Dr. B")]
    import_verdicts(fresh_ward.workspace.lake, said)
    again = fresh_ward.spend("one", parameters=small(fresh_ward, "one"))
    assert again.report.calibration is not None
    assert len(again.members) > 20
    assert fresh_ward.precision(again, again.members) == 1


def test_reviewers_who_contradict_each_other(fresh_ward: Ward) -> None:
    """As many say yes as no of every item: that settles nothing, and nothing is made of it."""
    parameters = small(fresh_ward, "one")
    evening = fresh_ward.spend("one", fresh_ward.honest, parameters=parameters)
    ids, turn = sorted(evening.drafts), cycle([True, False])
    said = [
        {"item_id": one, "reviewer": name, "valid": said is (name == "Dr. A")}
        for one, said in zip(ids, turn, strict=False)
        for name in ("Dr. A", "Dr. B")
    ]
    assert import_verdicts(fresh_ward.workspace.lake, said).added == 2 * len(ids)
    nothing_published(fresh_ward, again := fresh_ward.spend("one", parameters=parameters))
    assert "0 audits are too few" in again.report.uncalibrated_because
    told = review_status(fresh_ward.workspace)
    assert (told.settled, told.tied) == (0, len(ids))
    assert f"{len(ids)} tied, which count for nothing" in "\n".join(told.lines())
    assert told.agreements[0].kappa == pytest.approx(-1, abs=0.05)


def test_an_import_that_names_an_unknown_item(ward: Ward, honest_night: tuple[Ward, Evening]) -> None:
    lake, known = ward.workspace.lake, sorted(honest_night[1].members)[0]
    before = lake.read("reviews").num_rows
    said = [
        {"item_id": known, "reviewer": "Dr. A", "valid": False},
        {"item_id": "f" * 64, "reviewer": "Dr. A", "valid": False},
    ]
    with pytest.raises(DataError, match="line 2: item ffffffffffff is not in the lake") as refused:
        import_verdicts(lake, said)
    assert "no verdict of this import" in refused.value.kept
    assert lake.read("reviews").num_rows == before
    again = ward.spend("one")
    assert (again.published.version, again.report.calibration) == (
        honest_night[1].published.version,
        honest_night[1].report.calibration,
    )


def test_a_reward_of_another_architecture(ward: Ward, tmp_path: Path) -> None:
    """The night ends, says why and what to do, and publishes nothing; under another name it goes on without."""
    for fold in range(FOLDS):
        member = tmp_path / "reward" / score_reward.place(fold, 0)
        shutil.copytree(BASE, member)
        card = {"form": "yes-no", "prompt_name": JUDGE, "prompt": load_prompt(JUDGE), "architecture": "Qwen2VL"}
        (member / RECORD).write_text(json.dumps({"method": "reward", "judge": card}))
    workspace = ward.workspace
    registry = Registry(workspace.store, workspace.lake)
    artifact = put_folder(workspace.store, tmp_path / "reward")
    reward = registry.register(Registration(role=Role.REWARD, artifact=artifact, method="judge", run="test"))
    registry.promote(Role.REWARD, reward, reason="by hand", expected_current=None)
    before = workspace.lake.read("scores").num_rows
    for write in (ward.honest, None):  # and once more: it may not get used to it
        with pytest.raises(NightStoppedError) as stopped:
            ward.spend("two", write, ward.oracle, small(ward, "two"))
        assert "a reward model of another architecture: trained as Qwen2VL" in stopped.value.what
        assert "Idefics3" in stopped.value.what
        assert "nothing was published" in stopped.value.kept
        assert "medgr2 rollback reward" in stopped.value.next_command
        assert "--night" in stopped.value.next_command
    assert workspace.lake.read("scores").num_rows == before
    assert versions.resolve(workspace.lake, "ds").version == 1

    registry.rollback(Role.REWARD, reason="it cannot judge")
    evening = ward.spend("three", ward.honest, parameters=small(ward, "three"))
    assert evening.night.reward is None
    assert evening.report.accepted > 10


NO_NUMBERS = {"lp": math.nan, "agree": math.inf, "perm": math.nan, "blind": math.nan}
LOOK_OF = {"lp": Answers, "agree": Answers, "perm": Orders, "blind": Blind}


@pytest.mark.parametrize("which", ["ward", "fresh_ward"])
def test_a_signal_that_is_no_number(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """Of eight items one signal each. One of them p(valid) does not even look at. In a first night people are asked
    about nearly all drafts, so about some of these too."""
    ward: Ward = request.getfixturevalue(which)
    spoilt: dict[str, str] = {}
    for signal, look in LOOK_OF.items():
        monkeypatch.setattr(look, "measure", _spoiling(look.measure, signal, spoilt))
    sure = sorted(ward.workspace.lake.read("images", ["image_id"], {"split": "train"})["image_id"].to_pylist())[:20]

    def write(image: str, kind: str) -> dict[str, Any]:
        made = ward.true(image, kind, "two") if image in sure else ward.honest(image, kind, "two")
        if image in sure[:8]:
            spoilt[made["rationale"] + made["question"] + min(made["options"])] = [*NO_NUMBERS][sure.index(image) % 4]
        return made

    evening = ward.spend("two", write, ward.oracle if which == "fresh_ward" else None, small(ward, "two"))
    failed = {item_id for item_id, row in evening.scores.items() if row["verdict"] == "failed"}
    assert {signal for signal in NO_NUMBERS if evening.with_reason(f"no_{signal}")} == {*NO_NUMBERS}
    assert failed == set().union(*(evening.with_reason(f"no_{signal}") for signal in NO_NUMBERS))
    assert evening.report.failed == len(failed) == evening.published.left_out["failed"]
    # Another picture may happen to be asked in the very same words: it is spoilt as well.
    meant = [one for one in map(evening.drafts.__getitem__, failed) if one.image_id in sure]
    assert len(meant) >= len(NO_NUMBERS)
    assert all(map(ward.is_true, meant)), "else it might be for another reason"
    assert not failed & evening.members
    told = ward.workspace.lake.read("outcomes", where={"outcome": "failed", "run": evening.night.run}).to_pylist()
    assert {row["reason"] for row in told} == {"value_not_json"}
    assert evening.report.calibration is not None, evening.report.uncalibrated_because
    assert evening.report.accepted > 10
    assert evening.published.added > 5
    assert evening.report.mean_p is not None
    assert math.isfinite(evening.report.mean_p)


def _spoiling(measure: Any, signal: str, spoilt: dict[str, str]) -> Any:
    def measured(
        self: Any, engine: Any, prompt: str, exams: Sequence[Exam], parameters: Any, *more: Any
    ) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = measure(self, engine, prompt, exams, parameters, *more)
        return [
            record | {signal: NO_NUMBERS[signal]}
            if spoilt.get(exam.rationale + exam.question + min(exam.options)) == signal
            else record
            for exam, record in zip(exams, records, strict=True)
        ]

    return measured


def test_an_evaluation_set_that_is_not_there(fresh_ward: Ward) -> None:
    """It was never taken in: that is no reason to stop, and is told."""
    lake, root = fresh_ward.workspace.lake, fresh_ward.root
    DeltaTable(str(root / "lake" / "versions")).delete("dataset = 'heldout'")
    evening = fresh_ward.spend("one", fresh_ward.honest, fresh_ward.oracle, small(fresh_ward, "one"))
    assert set(evening.report.compared.values()) == {0}
    assert "compared with no evaluation set" in evening.report.line()
    # Its pictures are known all the same, and nobody is asked about them.
    heldout = lake.read("images", ["image_id"], {"split": "heldout"})["image_id"].to_pylist()
    assert len(heldout) == 20
    assert not {item.image_id for item in evening.drafts.values()} & {*heldout}
    assert evening.published.added > 10


def test_an_evaluation_set_that_cannot_be_read_whole(ward: Ward) -> None:
    lake, root = ward.workspace.lake, ward.root
    lost = versions.members(lake, versions.resolve(lake, "heldout"))[0]
    DeltaTable(str(root / "lake" / "items")).delete(f"item_id = '{lost}'")
    evening = ward.spend("two", ward.honest, ward.oracle, small(ward, "two"))
    assert evening.accepted == set()
    assert evening.with_reason("evaluation_unread") == {*evening.drafts}
    assert evening.report.reasons["evaluation_unread"] == evening.report.drafts > 40
    assert "leak check: heldout cannot be read whole, so no draft is accepted" in evening.report.alarms
    assert evening.published.added == 0
    assert versions.resolve(lake, "ds").version == 1


SOUND = st.floats(0.01, 0.8)
ODD = st.sampled_from([None, math.nan, math.inf, -math.inf, 1e308, -1e308, 0.9])
"""None: not measured."""
ASKED = (*SIGNALS, *score_reward.SIGNALS)
REASONS = st.sampled_from([[], [], [], ["identifier"], ["markup", "evaluation_unread"]])
FAIR = Quality(auroc=0.9, ece=0.01)
RARELY = st.integers(0, 4).map(lambda drawn: drawn == 0)


LOST = st.sampled_from(["", "", "", "", "row", "p", "number"])


@st.composite
def signals_of_one(draw: st.DrawFn) -> dict[str, float | None]:
    """Sound but for one of them: most often one that p(valid) does not look at, and so would not miss."""
    spoilt = draw(st.sampled_from(["none", "blind", "blind", "rm_std", *ASKED]))
    return {name: draw(ODD if name == spoilt else SOUND) for name in ASKED}


@settings(max_examples=300)
@given(
    rows=st.lists(st.tuples(REASONS, signals_of_one(), RARELY, LOST), min_size=1, max_size=12),
    weights=st.lists(st.floats(-5, 5), min_size=len(FEATURES), max_size=len(FEATURES)),
    calibrated=RARELY.map(lambda rarely: not rarely),
    trained=st.booleans(),
    tau=st.floats(0.01, 0.7),
    stricter=st.floats(0.01, 0.7),
)
def test_what_was_not_scored_is_never_published(
    rows: list[tuple[list[str], dict[str, float | None], bool, str]],
    weights: list[float],
    calibrated: bool,
    trained: bool,
    tau: float,
    stricter: float,
) -> None:
    """Whatever of the signals is missing or no number, whatever the calibration, and whatever became of the rows."""
    asked, reward = (ASKED, "r") if trained else (SIGNALS, None)
    items = [
        Item(
            image_id=f"{n:064x}", question_type=QuestionType.DISEASE, question=f"Question {n}?",
            options=("p", "q", "r", "s"), answer="ABCD"[n % 4], rationale="So.",
        )
        for n in range(len(rows))
    ]  # fmt: skip
    by_id = {item.item_id: row for item, row in zip(items, rows, strict=True)}
    signals = {
        item_id: {name: one for name, one in row[1].items() if one is not None and name in asked}
        for item_id, row in by_id.items()
        if not row[0]
    }
    features = tuple(name for name, (signal, _) in FEATURES.items() if signal in asked)
    n = len(features)
    calibration = Calibration(
        scorer="s", reward=reward, features=features, mean=(0.0,) * n, scale=(1.0,) * n, weights=tuple(weights[:n]),
        intercept=0.0, audits=50, valid=25, in_sample=FAIR, cross_validated=FAIR,
    )  # fmt: skip
    refused = {item_id for item_id, row in by_id.items() if row[2]}
    judged = judge(
        {item_id: tuple(row[0]) for item_id, row in by_id.items()},
        Measured("s", signals, {}, (), reward),
        calibration if calibrated else None,
        tau=tau,
        run="ds/one",
        refused=refused,
    )
    assert len(judged) == len(items)
    harm = {"": {}, "p": {"p_valid": None}, "number": {"p_valid": math.nan}}
    kept = [row | harm[lost] for row in judged if (lost := by_id[row["item_id"]][3]) != "row"]
    chosen = select(items, kept, modality={}, held=(), parameters=SelectParameters(tau=stricter))
    assert set(chosen.add) | set(chosen.left_out) == {*by_id}
    told = {row["item_id"]: row for row in kept}
    for item_id in chosen.add:
        found = signals[item_id]
        assert calibrated
        assert item_id not in refused
        assert set(found) == set(asked)
        assert all(math.isfinite(one) for one in found.values())
        assert told[item_id]["p_valid"] >= max(tau, stricter)
        assert told[item_id]["reasons"] == []
    for row in judged:
        assert (row["verdict"] == "accepted") is not bool(row["reasons"]), "who is not accepted is told why"
