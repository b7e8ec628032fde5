"""Signals, verdicts, and that nothing unscored is ever accepted."""

from __future__ import annotations

import io
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medgr2.infra.images import ImageStore
from medgr2.infra.lake import Lake
from medgr2.infra.opening import open_store
from medgr2.infra.settings import Settings, StorageSettings
from medgr2.models.calibration import Calibration, Quality
from medgr2.models.model_ref import base_model
from medgr2.models.signals import LOOKS, SIGNALS
from medgr2.schemas.errors import UsageError
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import ScoreParameters
from medgr2.schemas.vocabulary import QuestionType, Verdict
from medgr2.tasks.judge import judge, record_judgements
from medgr2.tasks.score import EXAM_FIELDS, Measured, ScoreWorker, recipe

FAIR = Quality(auroc=0.8, ece=0.05)
CALIBRATION = Calibration(
    scorer="s", features=("confidence", "agree"), mean=(0.0, 0.5), scale=(1.0, 0.5), weights=(2.0, 2.0), intercept=0.0,
    audits=50, valid=25, in_sample=FAIR, cross_validated=FAIR,
)  # fmt: skip
GOOD, POOR, REFUSED, LOST, ODD, EASY = ("1" * 64, "2" * 64, "3" * 64, "4" * 64, "5" * 64, "6" * 64)
SEEN = {"perm": 1.0, "blind": 0.25}
MEASURED = Measured(
    scorer="s",
    signals={
        GOOD: {"lp": -0.1, "agree": 1.0, **SEEN},
        POOR: {"lp": -3.0, "agree": 0.0, **SEEN},
        LOST: {"lp": 0.0, **SEEN},
        ODD: {"lp": math.nan, "agree": 1.0, **SEEN},
        EASY: {"lp": -0.1, "agree": 1.0, "perm": 1.0, "blind": 0.875},
    },
    cells={GOOD: ("k1", "k2")},
    reports=(),
)
REASONS: dict[str, tuple[str, ...]] = {REFUSED: ("identifier", "option_count")}
GATED = {item_id: REASONS.get(item_id, ()) for item_id in (GOOD, POOR, REFUSED, LOST, ODD, EASY)}


def verdicts(calibration: Calibration | None) -> dict[str, tuple[str, list[str]]]:
    rows = judge(GATED, MEASURED, calibration, tau=0.8, run="r")
    return {row["item_id"]: (row["verdict"], row["reasons"]) for row in rows}


def test_every_gated_item_gets_one_verdict() -> None:
    assert verdicts(CALIBRATION) == {
        GOOD: ("accepted", []),
        POOR: ("rejected", ["below_tau"]),
        REFUSED: ("rejected", ["identifier", "option_count"]),
        LOST: ("failed", ["no_agree"]),
        ODD: ("rejected", ["signal_is_no_number"]),
        EASY: ("rejected", ["needs_no_image"]),
    }


def test_without_a_calibration_nothing_is_accepted() -> None:
    found = verdicts(None)
    assert found[GOOD] == ("rejected", ["uncalibrated"])
    assert not any(verdict == Verdict.ACCEPTED for verdict, _ in found.values())


def test_an_item_that_was_never_scored_is_not_accepted() -> None:
    nothing = Measured("s", {}, {}, ())
    assert {row["verdict"] for row in judge(GATED, nothing, CALIBRATION, tau=0.01, run="r")} == {"failed", "rejected"}


def test_no_probability_overrules_a_person_who_looked() -> None:
    rows = judge(GATED, MEASURED, CALIBRATION, tau=0.8, run="r", refused={GOOD})
    by_id = {row["item_id"]: row for row in rows}
    assert (by_id[GOOD]["verdict"], by_id[GOOD]["reasons"]) == ("rejected", ["refused_by_reviewer"])
    assert by_id[GOOD]["p_valid"] > 0.9


def test_a_calibration_of_another_scorer_is_refused() -> None:
    with pytest.raises(UsageError, match="another scorer"):
        judge(GATED, MEASURED, CALIBRATION.model_copy(update={"scorer": "t"}), tau=0.8, run="r")


def test_the_same_judgement_has_the_same_id_and_another_one_another() -> None:
    def ids(**changes: Any) -> list[str]:
        how: dict[str, Any] = {"calibration": CALIBRATION, "tau": 0.8, "run": "r", **changes}
        return [row["score_id"] for row in judge({GOOD: ()}, MEASURED, **how)]

    assert ids() == ids(run="another night")
    assert ids() != ids(tau=0.7)
    assert ids() != ids(calibration=None)


def test_a_row_says_where_it_came_from() -> None:
    (row,) = judge({GOOD: ()}, MEASURED, CALIBRATION, tau=0.8, run="r")
    assert (row["cell"], row["calibration"], row["scorer"]) == ("k1,k2", CALIBRATION.id, "s")
    assert row["p_valid"] == pytest.approx(1 / (1 + math.exp(-(2 * math.log(10) + 2))))


def test_one_stage_a_look() -> None:
    plain, eager = ScoreParameters(), ScoreParameters(answers=16)
    assert recipe("orders", "m", plain) == recipe("orders", "m", eager)
    assert recipe("answers", "m", plain).digest != recipe("answers", "m", eager).digest
    assert recipe("orders", "m", plain).digest != recipe("orders", "n", plain).digest
    assert len({recipe(name, "m", plain).stage for name in LOOKS}) == len(LOOKS)
    assert len(set(SIGNALS)) == len(SIGNALS)


def test_the_worker_measures_every_signal_the_same_in_any_batch(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = Settings(storage=StorageSettings(root=str(tmp_path_factory.mktemp("root"))))
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    image = ImageStore(open_store(settings.storage), settings.storage.cache_folder).put(file.getvalue())
    base = base_model(settings).revision
    items = [
        Item(
            image_id=image,
            question_type=QuestionType.DISEASE,
            question="What is the diagnosis?",
            options=("cyst", "nodule", "normal", "fibrosis"),
            answer="ABCD"[n % 4],
            rationale=f"CT of the chest shows {('cyst', 'nodule', 'normal', 'fibrosis')[n % 4]}" + " and so on" * n,
        )
        for n in range(6)
    ]
    for name, look in LOOKS.items():
        how = recipe(name, base, ScoreParameters())
        cells = [
            how.cell(image=image, parents=(i.item_id,), inputs=i.model_dump(mode="json", include={*EXAM_FIELDS}))
            for i in items
        ]
        worker = ScoreWorker(how, settings)
        found = [list(worker(cells)), [o for cell in cells for o in worker([cell])]]
        for signal in look.signals:
            together, alone = ({o.key: (o.value or {})[signal] for o in outcomes} for outcomes in found)
            assert together == pytest.approx(alone, abs=1e-9)
            assert all(math.isfinite(value) for value in together.values())
            assert len(set(together.values())) > 1


def test_the_newest_row_of_a_run_is_what_holds(tmp_path: Path) -> None:
    lake = Lake(StorageSettings(root=str(tmp_path)))
    first = judge({GOOD: ()}, MEASURED, None, tau=0.5, run="r")
    other = judge({GOOD: ("gate",)}, MEASURED, None, tau=0.5, run="r")
    for rows, added in ((first, 1), (first, 0), (other, 1), (other, 0), (first, 1), (first, 0)):
        later = [{**row, "scored_at": datetime.now(UTC)} for row in rows]
        assert record_judgements(lake, later, "r") == added
        newest = max(lake.read("scores").to_pylist(), key=lambda row: row["scored_at"])
        assert newest["reasons"] == rows[0]["reasons"]
    assert record_judgements(lake, [{**row, "run": "s"} for row in first], "s") == 1
