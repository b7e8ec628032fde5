"""p(valid) is deterministic, refuses what cannot be calibrated, and says how good it is."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest

from medgr2.infra.objects_folder import FolderStore
from medgr2.models.calibration import Audit, Calibration, expected_calibration_error, fit, load, save
from medgr2.schemas.errors import DataError


def audits(n: int = 200, seed: int = 0, slope: float = 1.5) -> list[Audit]:
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        confidence, agree = float(rng.normal(3.0, 1.5)), float(rng.integers(0, 9)) / 8
        p = 1 / (1 + math.exp(-slope * (confidence - 3.0 + 2 * agree - 1)))
        rows.append(Audit(f"{i:064x}", {"lp": -math.exp(-confidence), "agree": agree}, bool(rng.random() < p)))
    return rows


def test_the_order_of_the_audits_does_not_matter() -> None:
    rows = audits()
    once = fit(rows, scorer="s")
    random.Random(3).shuffle(rows)
    assert fit(rows, scorer="s").id == once.id
    assert fit(rows[1:], scorer="s").id != once.id
    assert fit(rows, scorer="t").id != once.id


def test_it_learns_what_is_there_and_nothing_from_noise() -> None:
    told = fit(audits(400), scorer="s")
    assert all(weight > 0.3 for weight in told.weights)
    assert told.cross_validated.auroc > 0.7
    assert told.cross_validated.ece < 0.1
    noise = fit(audits(400, slope=0.0), scorer="s")
    assert 0.4 < noise.cross_validated.auroc < 0.6
    fresh = audits(4000, seed=9)
    p = [told.p(a.signals) for a in fresh]
    assert all(value is not None for value in p)
    assert expected_calibration_error(p, [a.valid for a in fresh]) < 0.06


def test_p_is_the_fitted_regression() -> None:
    calibration = fit(audits(), scorer="s")
    assert calibration.features == ("confidence", "agree")
    seen = (-math.log(0.7), 0.75)
    z = calibration.intercept + sum(
        w * (x - m) / s
        for x, m, s, w in zip(seen, calibration.mean, calibration.scale, calibration.weights, strict=True)
    )
    assert calibration.p({"lp": -0.7, "agree": 0.75}) == pytest.approx(1 / (1 + math.exp(-z)))
    assert (calibration.p({"lp": -1e300, "agree": 0.0}) or 0.0) < 1e-9
    best = calibration.p({"lp": 0.0, "agree": 1.0})
    assert best is not None
    assert 0.9 < best < 1.0  # a log-probability of zero is the surest there is, and still a number


@pytest.mark.parametrize("signals", [{}, {"lp": 1.0}, {"lp": None, "agree": 1.0}, {"lp": math.nan, "agree": 1.0}])
def test_no_signal_no_probability(signals: dict[str, float | None]) -> None:
    assert fit(audits(), scorer="s").p(signals) is None


def test_too_few_one_kind_or_no_number_are_refused() -> None:
    rows = audits(40)
    with pytest.raises(DataError, match="too few"):
        fit([], scorer="s")
    with pytest.raises(DataError, match="19 audits are too few"):
        fit(rows[:19], scorer="s")
    with pytest.raises(DataError, match="40 of 40 audited items are valid"):
        fit([Audit(a.item_id, a.signals, True) for a in rows], scorer="s")
    with pytest.raises(DataError, match="0 of 40"):
        fit([Audit(a.item_id, a.signals, False) for a in rows], scorer="s")
    with pytest.raises(DataError, match="'lp' of 1 of 41"):
        fit([*rows, Audit("f" * 64, {"lp": math.nan, "agree": 1.0}, True)], scorer="s")
    with pytest.raises(DataError, match="audited twice"):
        fit([*rows, rows[0]], scorer="s")


def test_a_signal_that_never_varies_does_no_harm() -> None:
    rows = [Audit(a.item_id, {**a.signals, "agree": 1.0}, a.valid) for a in audits()]
    assert math.isfinite(fit(rows, scorer="s").p({"lp": -1.0, "agree": 1.0}) or math.nan)


def test_it_is_kept_by_its_content(tmp_path: Path) -> None:
    store = FolderStore(str(tmp_path))
    calibration = fit(audits(), scorer="s")
    name = save(store, calibration)
    assert load(store, name) == calibration
    assert load(store, name).id == name
    other = calibration.model_copy(update={"intercept": 0.0})
    store.put(f"calibrations/{name}.json", other.model_dump_json().encode())
    with pytest.raises(DataError, match="damaged"):
        load(store, name)
    store.put(f"calibrations/{name}.json", b"{")
    with pytest.raises(DataError, match="damaged"):
        load(store, name)
    assert Calibration.model_validate_json(calibration.model_dump_json()) == calibration
