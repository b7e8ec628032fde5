"""Precision: the share of accepted items that are valid, estimated from those drawn from them at random."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

Z95 = 1.959963984540054


class Precision(BaseModel):
    """An estimate with its 95% Wilson interval."""

    model_config = ConfigDict(frozen=True)

    audited: int
    valid: int
    value: float
    low: float
    high: float
    effective: float
    """Items of one weight that would say as much (Kish): the interval is theirs."""

    def line(self) -> str:
        return (
            f"precision of the accepted: {self.value:.3f} [{self.low:.3f}, {self.high:.3f}], "
            f"{self.valid} of {self.audited} drawn at random were valid"
        )


def precision(verdicts: Iterable[tuple[bool, float]]) -> Precision | None:
    """From (valid, weight) of each audited item; its weight says for how many accepted items it stands.

    Only items that were drawn at random belong here: those picked for their p(valid) stand for nobody.
    """
    rows = list(verdicts)
    if not rows:
        return None
    total = math.fsum(weight for _, weight in rows)
    share = math.fsum(weight for valid, weight in rows if valid) / total
    effective = total**2 / math.fsum(weight**2 for _, weight in rows)
    low, high = wilson(share, effective)
    return Precision(
        audited=len(rows),
        valid=sum(valid for valid, _ in rows),
        value=share,
        low=low,
        high=high,
        effective=effective,
    )


def wilson(share: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Holds its level for small n and for shares near 0 and 1, where the plain interval is empty."""
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    middle, scale = share + z * z / (2 * n), 1 + z * z / n
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)
