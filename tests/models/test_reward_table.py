"""The table of an ablation, on items whose truth is made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from medgr2.models.reward_table import Arm, Known, arms, at_tau, averaged
from medgr2.schemas.errors import DataError


def known(count: int = 400, *, audited: int = 100) -> list[Known]:
    """lp tells the valid items well, agree a little, perm not at all."""
    rng = np.random.default_rng(3)
    found = []
    for n in range(count):
        valid = bool(rng.random() < 0.7)
        lp = -float(np.exp(rng.normal(-3.0 if valid else 0.0, 1.0)))
        agree = float(np.clip(rng.normal(0.6 if valid else 0.4, 0.3), 0, 1))
        signals = {"lp": lp, "agree": agree, "perm": float(rng.random())}
        found.append(Known(f"{n:064x}", signals, valid, n < audited))
    return found


def by_name(table: list[Arm]) -> dict[str, Arm]:
    return {arm.name: arm for arm in table}


def test_each_signal_alone_and_left_out() -> None:
    table = by_name(arms(known(), scorer="s", tau=0.8))
    assert set(table) == {
        "all", "only confidence", "only agree", "only perm", "without confidence", "without agree", "without perm",
    }  # fmt: skip
    assert table["only confidence"].auroc > 0.95 > 0.8 > table["only agree"].auroc > 0.6
    assert 0.35 < table["only perm"].auroc < 0.65
    assert table["without confidence"].auroc < table["all"].auroc - 0.1
    assert table["without perm"].auroc == pytest.approx(table["all"].auroc, abs=0.02)
    assert all(arm.items == 300 for arm in table.values())


def test_what_was_audited_is_not_measured() -> None:
    rows = known()
    lied = [Known(k.item_id, k.signals, k.valid != k.audited, k.audited) for k in rows]
    # Audits that say the opposite turn the order round: the others show it.
    assert by_name(arms(lied, scorer="s", tau=0.8))["all"].auroc < 0.1
    assert by_name(arms(rows, scorer="s", tau=0.8))["all"].auroc > 0.9


def test_only_items_of_both_kinds_can_be_told_apart() -> None:
    alike = [Known(k.item_id, k.signals, True, False) if not k.audited else k for k in known()]
    with pytest.raises(DataError, match="one kind"):
        arms(alike, scorer="s", tau=0.8)


def test_precision_and_what_is_kept() -> None:
    assert at_tau([0.9, 0.8, 0.7, 0.1], [True, False, True, True], 0.8) == (0.5, 1 / 3)
    assert at_tau([0.1], [True], 0.8) == (None, 0.0)


def test_the_mean_over_seeds_has_what_every_seed_has() -> None:
    one = [Arm(name="all", items=10, auroc=0.9, ece=0.1, precision=0.9, kept=0.5), Arm(name="x", items=1, auroc=0.5)]
    two = [Arm(name="all", items=30, auroc=0.8, ece=0.3, precision=None, kept=0.0)]
    (mean,) = averaged([one, two])
    assert (mean.items, mean.auroc, mean.ece) == (40, pytest.approx(0.85), pytest.approx(0.2))
    assert mean.precision is None, "a seed that keeps nothing has no precision to average"
