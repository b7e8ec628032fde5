"""Agreement: how far two reviewers who judged the same items say the same, beyond what chance would give."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

from pydantic import BaseModel, ConfigDict

FEWEST_SHARED = 10
"""With fewer shared items one verdict more or less moves kappa by a tenth and more."""


class Agreement(BaseModel):
    """Two reviewers, the items that both judged, and Cohen's kappa over them, or why there is none."""

    model_config = ConfigDict(frozen=True)

    reviewers: tuple[str, str]
    shared: int
    same: int
    kappa: float | None
    why_not: str = ""

    def line(self) -> str:
        told = f"{self.reviewers[0]} and {self.reviewers[1]}: the same of {self.same} of {self.shared} shared items"
        return f"{told}, kappa {self.kappa:.3f}" if self.kappa is not None else f"{told}; no kappa: {self.why_not}"


def agreements(reviews: Iterable[Mapping[str, Any]]) -> tuple[Agreement, ...]:
    """Every pair of reviewers that judged an item in common, in the order of their names."""
    said: dict[str, dict[str, bool]] = defaultdict(dict)
    for row in reviews:
        said[str(row["item_id"])][str(row["reviewer"])] = bool(row["valid"])
    pairs: dict[tuple[str, str], list[tuple[bool, bool]]] = defaultdict(list)
    for verdicts in said.values():
        for first, second in combinations(sorted(verdicts), 2):
            pairs[first, second].append((verdicts[first], verdicts[second]))
    return tuple(_agreement(reviewers, both) for reviewers, both in sorted(pairs.items()))


def kappa(both: Iterable[tuple[bool, bool]]) -> float | None:
    """Cohen's kappa; None where chance alone explains everything: both said one and the same of every item."""
    from sklearn.metrics import cohen_kappa_score

    first, second = zip(*both, strict=True)
    if len({*first, *second}) == 1:
        return None
    return round(float(cohen_kappa_score(first, second, labels=[False, True])), 6)


def _agreement(reviewers: tuple[str, str], both: list[tuple[bool, bool]]) -> Agreement:
    counts = Counter(both)
    same = counts[True, True] + counts[False, False]
    value, why = None, f"fewer than {FEWEST_SHARED} are shared"
    if len(both) >= FEWEST_SHARED:
        try:
            value = kappa(both)
            why = "both said one and the same of every item" if value is None else ""
        except ImportError:
            why = "scikit-learn is missing: pip install 'medgr2[models]'"
    return Agreement(reviewers=reviewers, shared=len(both), same=same, kappa=value, why_not=why)
