"""Calibration: from a scorer's signals to p(valid), learned from what people said of audited items."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medgr2.infra.objects import ObjectStore
from medgr2.schemas.digest import canonical_json, digest_of
from medgr2.schemas.errors import DataError

FEWEST = 20
FEWEST_OF_A_KIND = 3
FOLDS = 5
REVIEW = "medgr2 review sample --out FILE.jsonl, fill it in, medgr2 review import FILE.jsonl"


def _confidence(lp: float) -> float:
    """lp crowds against zero and has a long tail; on a log scale a straight line can tell its items apart."""
    return -math.log(max(-lp, 1e-6))


def _log_odds(share: float) -> float:
    within = min(max(share, 1e-4), 1 - 1e-4)
    return math.log(within / (1 - within))


# What the regression sees: a name, the signal behind it, and its scale. A changed scale needs a new name.
FEATURES: dict[str, tuple[str, Callable[[float], float]]] = {
    "confidence": ("lp", _confidence),
    "agree": ("agree", float),
    "perm": ("perm", float),
    "trained": ("rm", _log_odds),
    "verified": ("verifier", _log_odds),
}


@dataclass(frozen=True, slots=True)
class Audit:
    """One item that people judged, with its signals."""

    item_id: str
    signals: Mapping[str, float | None]
    valid: bool


class Quality(BaseModel):
    """How well p(valid) sorts and how far it is from the share that was valid."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    auroc: float
    ece: float


class Calibration(BaseModel):
    """A logistic regression on standardised features of the signals. Its id is the digest of its content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scorer: str = Field(description="Revision of the model whose signals these are; no other's may be put in.")
    reward: str | None = Field(default=None, description="The trained reward that looked as well, if one did.")
    features: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float
    audits: int
    valid: int
    in_sample: Quality
    cross_validated: Quality

    @property
    def id(self) -> str:
        return digest_of(self.model_dump(mode="json", exclude_none=True))

    def p(self, signals: Mapping[str, float | None]) -> float | None:
        """p(valid); None when a signal is missing or no number, since a guess would count as a judgement."""
        z = self.intercept
        for name, mean, scale, weight in zip(self.features, self.mean, self.scale, self.weights, strict=True):
            value = _feature(name, signals)
            if value is None:
                return None
            z += weight * (value - mean) / scale
        return 1.0 / (1.0 + math.exp(-z)) if z >= 0 else math.exp(z) / (1.0 + math.exp(z))


def fit(
    audits: Sequence[Audit], *, scorer: str, reward: str | None = None, features: Sequence[str] | None = None
) -> Calibration:
    """On these features, or on all whose signal was measured. The order of the audits does not matter."""
    rows, features, x, y = _table(audits, features)
    mean, scale, weights, intercept = _regress(x, y)
    inside, outside = _predict(x, mean, scale, weights, intercept), _cross_validated(x, y)
    return Calibration(
        scorer=scorer,
        reward=reward,
        features=tuple(features),
        mean=_rounded(mean),
        scale=_rounded(scale),
        weights=_rounded(weights),
        intercept=round(float(intercept), 12),
        audits=len(rows),
        valid=int(y.sum()),
        in_sample=quality(inside, y),
        cross_validated=quality(outside, y),
    )


def out_of_fold(audits: Sequence[Audit], features: Sequence[str] | None = None) -> dict[str, float]:
    """p(valid) of each audited item, by a calibration that was fitted without it."""
    rows, _, x, y = _table(audits, features)
    return dict(zip((row.item_id for row in rows), _cross_validated(x, y).tolist(), strict=True))


def quality(p: Any, valid: Any) -> Quality:
    from sklearn.metrics import roc_auc_score

    return Quality(auroc=round(float(roc_auc_score(valid, p)), 6), ece=round(expected_calibration_error(p, valid), 6))


def expected_calibration_error(p: Any, valid: Any, bins: int = 10) -> float:
    """Mean gap between p and the share that was valid, over bins of equal width, weighted by their size."""
    import numpy as np

    p, valid = np.asarray(p, dtype=np.float64), np.asarray(valid, dtype=np.float64)
    place = np.minimum((p * bins).astype(int), bins - 1)
    gaps = [(place == b).sum() * abs(p[place == b].mean() - valid[place == b].mean()) for b in np.unique(place)]
    return float(sum(gaps) / len(p))


def save(store: ObjectStore, calibration: Calibration) -> str:
    store.create(_key(calibration.id), canonical_json(calibration.model_dump(mode="json")))
    return calibration.id


def load(store: ObjectStore, calibration_id: str) -> Calibration:
    try:
        found = Calibration.model_validate_json(store.get(_key(calibration_id)))
    except ValidationError:
        found = None
    if found is None or found.id != calibration_id or not set(found.features) <= set(FEATURES):
        raise DataError(
            f"calibration {calibration_id[:12]} is damaged or of another version", where=store.uri, next_command=REVIEW
        )
    return found


def _feature(name: str, signals: Mapping[str, float | None]) -> float | None:
    signal, scale = FEATURES[name]
    value = signals.get(signal)
    return scale(value) if value is not None and math.isfinite(value) else None


def _key(calibration_id: str) -> str:
    return f"calibrations/{calibration_id}.json"


def _check(rows: Sequence[Audit], features: Sequence[str]) -> None:
    if len({audit.item_id for audit in rows}) < len(rows):
        raise DataError("an item is audited twice: settle its verdict first", where="calibration")
    if len(rows) < FEWEST:
        raise DataError(
            f"{len(rows)} audits are too few to calibrate: at least {FEWEST} are needed",
            where="calibration",
            kept="every verdict so far",
            next_command=REVIEW,
        )
    good = sum(audit.valid for audit in rows)
    if min(good, len(rows) - good) < FEWEST_OF_A_KIND:
        raise DataError(
            f"{good} of {len(rows)} audited items are valid: at least {FEWEST_OF_A_KIND} of each kind are needed",
            where="calibration",
            kept="every verdict so far",
            next_command=REVIEW,
        )
    for name in features:
        broken = sum(_feature(name, audit.signals) is None for audit in rows)
        if broken:
            raise DataError(
                f"the signal {FEATURES[name][0]!r} of {broken} of {len(rows)} audited items is no number",
                where="calibration",
                next_command="score these items again, or leave them out",
            )


def _table(audits: Sequence[Audit], features: Sequence[str] | None) -> tuple[list[Audit], Sequence[str], Any, Any]:
    """In the order of their ids, on these features or on all whose signal was measured."""
    import numpy as np

    rows = sorted(audits, key=lambda audit: audit.item_id)
    if features is None:
        measured = {signal for audit in rows for signal, value in audit.signals.items() if value is not None}
        features = [name for name, (signal, _) in FEATURES.items() if signal in measured]
    _check(rows, features)
    x = np.array([[_feature(name, audit.signals) for name in features] for audit in rows], dtype=np.float64)
    return rows, features, x, np.array([audit.valid for audit in rows], dtype=np.int64)


def _cross_validated(x: Any, y: Any) -> Any:
    import numpy as np
    from sklearn.model_selection import StratifiedKFold

    outside = np.zeros(len(y))
    folds = min(FOLDS, int(y.sum()), int(len(y) - y.sum()))
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=0).split(x, y):
        outside[test] = _predict(x[test], *_regress(x[train], y[train]))
    return outside


def _regress(x: Any, y: Any) -> tuple[Any, Any, Any, Any]:
    from sklearn.linear_model import LogisticRegression

    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale < 1e-12] = 1.0  # a signal that never varies says nothing, and must not divide by zero
    fitted = LogisticRegression(max_iter=1000, tol=1e-10).fit((x - mean) / scale, y)
    return mean, scale, fitted.coef_[0], fitted.intercept_[0]


def _predict(x: Any, mean: Any, scale: Any, weights: Any, intercept: Any) -> Any:
    import numpy as np

    return 1.0 / (1.0 + np.exp(-((x - mean) / scale @ weights + intercept)))


def _rounded(values: Any) -> tuple[float, ...]:
    # Twelve digits: the last bits depend on the linear algebra library, and the id must not.
    return tuple(round(float(value), 12) for value in values)
