"""Review: taking in what people said of items, and what it comes to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medgr2.infra.lake import Lake
from medgr2.models.calibration import Audit
from medgr2.models.precision import Precision, precision
from medgr2.schemas.digest import digest_of
from medgr2.schemas.errors import DataError
from medgr2.tasks.review_sample import Stratum

MOST_TOLD = 200
"""Problems that are listed; more than these are one mistake, not so many."""


class ReviewVerdict(BaseModel):
    """One person's word on one item."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    item_id: str = Field(pattern=r"^[0-9a-f]{64}$")
    reviewer: str = Field(min_length=1, max_length=200)
    valid: bool
    reason: str = Field(default="", max_length=2000)
    stratum: Stratum | None = Field(default=None, description="Why it was asked about.")
    weight: float | None = Field(default=None, ge=1, allow_inf_nan=False, description="See `Asked.weight`.")

    @property
    def review_id(self) -> str:
        return digest_of([self.item_id, self.reviewer])


@dataclass(frozen=True)
class Imported:
    added: int
    known: int


def import_verdicts(
    lake: Lake,
    rows: Iterable[Mapping[str, Any]],
    *,
    run: str = "",
    lines: Sequence[int] | None = None,
    problems: Mapping[int, str] | None = None,
    where: str = "verdicts of reviewers",
) -> Imported:
    """Take in verdicts, all or none. The same verdict again is known; another one by the same reviewer is refused.

    `lines` says where each row stands, else they count from 1; `problems` are those found before, line by line.
    """
    told, rows = dict(problems or {}), list(rows)
    said: dict[str, tuple[int, ReviewVerdict]] = {}
    for line, row in zip(lines or range(1, len(rows) + 1), rows, strict=True):
        try:
            verdict = ReviewVerdict.model_validate(dict(row))
        except ValidationError as problem:
            told[line] = _first_of(problem)
            continue
        before, earlier = said.setdefault(verdict.review_id, (line, verdict))
        if earlier.valid != verdict.valid:
            told[line] = f"this reviewer says the opposite of the same item in line {before}"
    told |= _unknown(lake, said.values()) | _contradicted(lake, said)
    if told:
        raise _refused(told, len(rows) + len(problems or {}), where)
    now = datetime.now(UTC)
    new = [
        {**verdict.model_dump(mode="json"), "review_id": review_id, "run": run, "reviewed_at": now}
        for review_id, (_, verdict) in sorted(said.items())
    ]
    added = lake.append_new("reviews", new, key="review_id") if new else 0
    return Imported(added=added, known=len(said) - added)


def settled(reviews: Iterable[Mapping[str, Any]]) -> dict[str, bool]:
    """What the majority says of each reviewed item. A tie settles nothing and the item is left out."""
    votes: dict[str, int] = defaultdict(int)
    for row in reviews:
        votes[str(row["item_id"])] += 1 if row["valid"] else -1
    return {item_id: vote > 0 for item_id, vote in sorted(votes.items()) if vote}


def audits(reviews: Iterable[Mapping[str, Any]], signals: Mapping[str, Mapping[str, float | None]]) -> list[Audit]:
    """The settled items that the scorer at hand has scored."""
    return [
        Audit(item_id, signals[item_id], valid) for item_id, valid in settled(reviews).items() if signals.get(item_id)
    ]


def audited_precision(reviews: Iterable[Mapping[str, Any]]) -> Precision | None:
    """Precision of what was accepted when the samples were drawn, from the settled items of their random strata.

    Give the reviews of one run to get that run's. None without a settled random item.
    """
    rows = list(reviews)
    weights = {
        str(row["item_id"]): float(row["weight"])
        for row in sorted(rows, key=lambda row: str(row["review_id"]))
        if row["stratum"] == Stratum.RANDOM and row["weight"]
    }
    return precision((valid, weights[item_id]) for item_id, valid in settled(rows).items() if item_id in weights)


def _first_of(problem: ValidationError) -> str:
    first = problem.errors(include_input=False, include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    if name == "item_id":
        return "item_id is not 64 hexadecimal digits: restore it from the sheet that was written"
    if name == "reviewer":
        return "reviewer is missing, or longer than 200 characters"
    return f"{name}: {first['msg']}"


def _unknown(lake: Lake, said: Iterable[tuple[int, ReviewVerdict]]) -> dict[int, str]:
    rows = list(said)
    if not rows:
        return {}
    ids = sorted({verdict.item_id for _, verdict in rows})
    known = set(lake.read("items", columns=["item_id"], where={"item_id": ids})["item_id"].to_pylist())
    return {
        line: f"item {verdict.item_id[:12]} is not in the lake"
        for line, verdict in rows
        if verdict.item_id not in known
    }


def _contradicted(lake: Lake, said: Mapping[str, tuple[int, ReviewVerdict]]) -> dict[int, str]:
    if not said:
        return {}
    stored = lake.read("reviews", columns=["review_id", "valid", "reviewed_at"], where={"review_id": sorted(said)})
    return {
        said[row["review_id"]][0]: f"this reviewer said the opposite of the item on {row['reviewed_at']:%Y-%m-%d}"
        for row in stored.to_pylist()
        if said[row["review_id"]][1].valid != row["valid"]
    }


def _refused(problems: Mapping[int, str], rows: int, where: str) -> DataError:
    told = [f"  line {line}: {what}" for line, what in sorted(problems.items())]
    if len(told) > MOST_TOLD:
        told = [*told[:MOST_TOLD], f"  and {len(told) - MOST_TOLD} more"]
    return DataError(
        "\n".join((f"{len(problems)} of {rows} verdicts cannot be taken in:", *told)),
        where=where,
        kept="no verdict of this import; all earlier ones",
        next_command="correct or remove these rows, then give the same command again",
    )
