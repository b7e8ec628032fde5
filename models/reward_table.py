"""The table of an ablation: how well p(valid) tells valid items, from all signals, from each alone, and without each.

Fitted on the audited items only; measured on all others, which people have not seen either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from pydantic import BaseModel, ConfigDict

from medgr2.models.calibration import Audit, Calibration, fit, quality
from medgr2.schemas.errors import DataError


@dataclass(frozen=True, slots=True)
class Known:
    """An item with its signals and the truth about it."""

    item_id: str
    signals: Mapping[str, float]
    valid: bool
    audited: bool


class Arm(BaseModel):
    """One way to make p(valid), on items that it was not fitted on."""

    model_config = ConfigDict(frozen=True)

    name: str
    items: int
    auroc: float
    ece: float | None = None
    precision: float | None = None
    """Of what is kept at tau; none where nothing is."""
    kept: float | None = None
    """Share of the valid items that is kept at tau."""


def arms(known: Sequence[Known], *, scorer: str, tau: float) -> list[Arm]:
    audits = [Audit(one.item_id, one.signals, one.valid) for one in known if one.audited]
    rest = [one for one in known if not one.audited]
    if len({one.valid for one in rest}) < 2:
        raise DataError("all items that were not audited are of one kind: nothing can be told apart", where="ablation")
    whole = fit(audits, scorer=scorer)
    names = whole.features
    subsets = {"all": names, **{f"only {name}": (name,) for name in names}}
    subsets |= {f"without {name}": tuple(n for n in names if n != name) for name in names if len(names) > 1}
    return [_arm(name, fit(audits, scorer=scorer, features=features), rest, tau) for name, features in subsets.items()]


def _arm(name: str, calibration: Calibration, rest: Sequence[Known], tau: float) -> Arm:
    return as_it_is(name, {one.item_id: calibration.p(one.signals) or 0.0 for one in rest}, rest, tau)


def as_it_is(name: str, scores: Mapping[str, float], rest: Sequence[Known], tau: float) -> Arm:
    """Numbers in [0, 1] taken for p(valid), as they are."""
    p = [scores[one.item_id] for one in rest]
    truth = [one.valid for one in rest]
    found = quality(p, truth)
    precision, kept = at_tau(p, truth, tau)
    return Arm(name=name, items=len(rest), auroc=found.auroc, ece=found.ece, precision=precision, kept=kept)


def at_tau(p: Sequence[float], truth: Sequence[bool], tau: float) -> tuple[float | None, float]:
    passed = [valid for value, valid in zip(p, truth, strict=True) if value >= tau]
    return (sum(passed) / len(passed) if passed else None), sum(passed) / max(1, sum(truth))


def averaged(tables: Sequence[Sequence[Arm]]) -> list[Arm]:
    """The mean over seeds of the arms that every seed has."""
    shared = [arm.name for arm in tables[0] if all(arm.name in {a.name for a in table} for table in tables)]
    found = []
    for name in shared:
        same = [arm for table in tables for arm in table if arm.name == name]
        found.append(
            Arm(
                name=name,
                items=sum(arm.items for arm in same),
                auroc=fmean(arm.auroc for arm in same),
                ece=_mean([arm.ece for arm in same]),
                precision=_mean([arm.precision for arm in same]),
                kept=_mean([arm.kept for arm in same]),
            )
        )
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return fmean(there) if len(there) == len(values) else None
