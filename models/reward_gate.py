"""The gate of a reward: what a candidate must show on items that people judged, and that no reward was taught.

Both the candidate's p(valid) and the present one's are cross-validated on the same items, so neither has seen what
it is measured on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medgr2.models.calibration import expected_calibration_error
from medgr2.models.paired import mcnemar
from medgr2.models.precision import wilson
from medgr2.schemas.cycle_reports import GateReport

FEWEST, FEWEST_OF_A_KIND = 60, 10
LOSS = 0.02
"""AUROC that a candidate may lose by the lower bound: of as many audits as a night has, no bound lies nearer."""
PRECISION, ECE, SLICE_LOSS, SLICE_FROM, CANARIES = 0.90, 0.07, 0.05, 30, 0.95
Z90_ONE_SIDED = 1.2815515655446004
ROUNDS = 500
SLICE_OF_A_KIND = 5
CLEAR = 0.05
NO_CHANGE = 1e-6


@dataclass(frozen=True, slots=True)
class Judged:
    """One audited item. Without a reward in force the present p is that of the other signals alone."""

    candidate: float
    present: float
    valid: bool
    slices: tuple[str, ...]
    """Its modality, its question type."""


def decide(judged: Sequence[Judged], canaries: Sequence[float], *, tau: float) -> GateReport:
    """`canaries`: the candidate's p of items that are known to be bad. Every reason against it is told."""
    valid = sum(one.valid for one in judged)
    if len(judged) < FEWEST or min(valid, len(judged) - valid) < FEWEST_OF_A_KIND:
        few = (
            f"{len(judged)} audited items, {valid} of them valid: "
            f"at least {FEWEST} and {FEWEST_OF_A_KIND} of each kind are needed to tell"
        )
        return GateReport(promote=False, reasons=(few,), audits=len(judged))
    rows = _sorted(judged)
    found = _measured(rows, canaries, tau)
    against = _against(found, rows)
    reasons = against or (f"AUROC {found.auroc:.3f}, before {found.auroc_before:.3f}",)
    return found.model_copy(update={"promote": not against, "reasons": reasons})


def harm(judged: Sequence[Judged], with_it: Sequence[float], without: Sequence[float], *, tau: float) -> str:
    """Why a reward in force does harm, if it does: here the candidate is the p that it has a part in, and the present
    one the p of the other signals alone. `with_it` and `without` are those of the canaries."""
    valid = sum(one.valid for one in judged)
    if len(judged) < FEWEST or min(valid, len(judged) - valid) < FEWEST_OF_A_KIND:
        return ""
    p, alone, truth = _columns(_sorted(judged))
    if (gain := _gain(p, alone, truth, 0.90)) < 0:
        return f"AUROC {_auroc(truth, p):.3f} is less than {_auroc(truth, alone):.3f} without it: gain <= {gain:.3f}"
    caught, before = (sum(c < tau for c in ps) / len(ps) if ps else 1.0 for ps in (with_it, without))
    slipped, saved = (
        sum(a >= tau > b for a, b in zip(one, other, strict=True))
        for one, other in ((with_it, without), (without, with_it))
    )
    # Of forty canaries one or two slip through by luck.
    if caught < CANARIES and slipped > saved and mcnemar(saved, slipped) <= CLEAR:
        return f"{caught:.3f} of {len(with_it)} canaries are rejected, and {before:.3f} without it"
    return ""


def _sorted(judged: Sequence[Judged]) -> list[Judged]:
    return sorted(judged, key=lambda one: (one.slices, one.candidate, one.present, one.valid))


def _measured(rows: Sequence[Judged], canaries: Sequence[float], tau: float) -> GateReport:
    p, before, valid = _columns(rows)
    kept = valid[p >= tau]
    share = float(kept.mean()) if len(kept) else None
    return GateReport(
        promote=False,
        reasons=(),
        audits=len(rows),
        auroc=_auroc(valid, p),
        auroc_before=_auroc(valid, before),
        gain_low=_gain(p, before, valid, 0.10),
        ece=expected_calibration_error(p, valid),
        precision=share,
        precision_low=wilson(share, len(kept), Z90_ONE_SIDED)[0] if share is not None else None,
        canaries=len(canaries),
        canaries_rejected=sum(c < tau for c in canaries) / len(canaries) if canaries else None,
    )


def _against(found: GateReport, rows: Sequence[Judged]) -> tuple[str, ...]:
    reasons = []
    if found.gain_low is None or found.gain_low < -LOSS:
        reasons.append(
            f"AUROC {found.auroc:.3f} may be worse than {found.auroc_before:.3f}: gain >= {found.gain_low:.3f}"
        )
    if all(abs(row.candidate - row.present) < NO_CHANGE for row in rows):
        reasons.append("it changes no p(valid): nothing is gained by asking it")
    elif found.auroc is not None and found.auroc_before is not None and found.auroc <= found.auroc_before:
        # The calibration gives a coin next to no weight, so that it is not much worse: asked every night all the same.
        reasons.append(f"AUROC {found.auroc:.3f} is no gain over {found.auroc_before:.3f}")
    if found.precision_low is None:
        reasons.append("nothing that was audited reaches tau")
    elif found.precision_low < PRECISION:
        reasons.append(
            f"precision {found.precision:.3f} at tau may be as low as {found.precision_low:.4f}: below {PRECISION}"
        )
    if found.ece is None or found.ece > ECE:
        reasons.append(f"ECE {found.ece:.3f} is above {ECE}")
    reasons += [f"worse on {name}: AUROC {was:.3f} -> {now:.3f}" for name, (was, now) in _worse(rows).items()]
    if found.canaries_rejected is None:
        reasons.append("no canary was judged")
    elif found.canaries_rejected < CANARIES:
        reasons.append(f"only {found.canaries_rejected:.3f} of {found.canaries} canaries are rejected")
    return tuple(reasons)


def _worse(rows: Sequence[Judged]) -> Mapping[str, tuple[float, float]]:
    found = {}
    for name in sorted({name for row in rows for name in row.slices}):
        p, before, valid = _columns([row for row in rows if name in row.slices])
        # With one bad item of thirty the order says nothing: it is what that item happens to be.
        if len(valid) >= SLICE_FROM and min(valid.sum(), len(valid) - valid.sum()) >= SLICE_OF_A_KIND:
            was, now = _auroc(valid, before), _auroc(valid, p)
            if now < was - SLICE_LOSS:
                found[name] = (was, now)
    return found


def _gain(p: Any, before: Any, valid: Any, quantile: float) -> float:
    """A bound of what is gained in AUROC over `before`, by a paired bootstrap over the items."""
    import numpy as np

    rng = np.random.default_rng(0)
    gains = []
    for _ in range(ROUNDS):
        drawn = rng.integers(len(valid), size=len(valid))
        if 0 < valid[drawn].sum() < len(drawn):
            gains.append(_auroc(valid[drawn], p[drawn]) - _auroc(valid[drawn], before[drawn]))
    return float(np.quantile(gains, quantile))


def _columns(rows: Sequence[Judged]) -> tuple[Any, Any, Any]:
    import numpy as np

    return (
        np.array([row.candidate for row in rows]),
        np.array([row.present for row in rows]),
        np.array([row.valid for row in rows], dtype=bool),
    )


def _auroc(valid: Any, p: Any) -> float:
    """By ranks, ties sharing theirs: the bootstrap asks a thousand times, and scikit-learn takes ten times as long."""
    import numpy as np

    _, place, counts = np.unique(p, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[place]
    good = int(valid.sum())
    return float((ranks[valid].sum() - good * (good + 1) / 2) / (good * (len(p) - good)))
