"""Review: taking in what people said of items, and what it comes to.

Nothing that was said is deleted. Who thinks better of it gives a new row, which names the one that it corrects; a
correction stands for the same draw, so it keeps the run, stratum and weight of what it corrects.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medgr2.infra.lake import Amendment, Lake
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
    def whose(self) -> Whose:
        return self.item_id, self.reviewer


Whose = tuple[str, str]
"""The item and its reviewer, who has one word on it at a time."""


@dataclass(frozen=True)
class Imported:
    added: int
    known: int
    corrections: int = 0
    """Of those added."""


def import_verdicts(
    lake: Lake,
    rows: Iterable[Mapping[str, Any]],
    *,
    run: str = "",
    lines: Sequence[int] | None = None,
    problems: Mapping[int, str] | None = None,
    where: str = "verdicts of reviewers",
    corrects: bool = False,
) -> Imported:
    """Take in verdicts, all or none. The same verdict again is known; another one by the same reviewer is refused or,
    with `corrects`, takes the place of the earlier.

    `lines` says where each row stands, else they count from 1; `problems` are those found before, line by line.
    """
    told, rows = dict(problems or {}), list(rows)
    said: dict[Whose, tuple[int, ReviewVerdict]] = {}
    for line, row in zip(lines or range(1, len(rows) + 1), rows, strict=True):
        try:
            verdict = ReviewVerdict.model_validate(dict(row))
        except ValidationError as problem:
            told[line] = _first_of(problem)
            continue
        before, earlier = said.setdefault(verdict.whose, (line, verdict))
        if earlier.valid != verdict.valid:
            told[line] = f"this reviewer says the opposite of the same item in line {before}"
    told |= _unknown(lake, said.values())
    number, now = len(rows) + len(problems or {}), datetime.now(UTC)
    added: list[dict[str, Any]] = []

    def add(stored: pa.Table) -> Amendment:
        holds = {(row["item_id"], row["reviewer"]): row for row in _standing(stored.to_pylist())}
        contradicted = {} if corrects else _contradicted(holds, said)
        if told or contradicted:
            raise _refused(told | contradicted, number, where, correctable=bool(contradicted))
        added[:] = [
            _row(verdict, holds.get(whose), run, now)
            for whose, (_, verdict) in sorted(said.items(), key=lambda entry: entry[0])
            if whose not in holds or holds[whose]["valid"] != verdict.valid
        ]
        return Amendment(replaces=False, parts=[added])

    if said or told:
        lake.amend("reviews", add, key="review_id")
    return Imported(len(added), len(said) - len(added), sum(row["corrects"] is not None for row in added))


def standing_verdicts(lake: Lake, run: str | None = None) -> list[dict[str, Any]]:
    """What each reviewer says of each item now, in all or as taken in under one run: who reads reviews, reads these."""
    return _standing(lake.read("reviews", where=None if run is None else {"run": run}).to_pylist())


def _standing(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    reviews = list(rows)
    taken_back = {row["corrects"] for row in reviews}
    return [row for row in reviews if row["review_id"] not in taken_back]


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


def _contradicted(
    holds: Mapping[Whose, Mapping[str, Any]], said: Mapping[Whose, tuple[int, ReviewVerdict]]
) -> dict[int, str]:
    return {
        line: f"this reviewer said the opposite of the item on {holds[whose]['reviewed_at']:%Y-%m-%d}"
        for whose, (line, verdict) in said.items()
        if whose in holds and holds[whose]["valid"] != verdict.valid
    }


def _row(verdict: ReviewVerdict, before: Mapping[str, Any] | None, run: str, now: datetime) -> dict[str, Any]:
    row = verdict.model_dump(mode="json") | {"run": run, "reviewed_at": now, "corrects": None}
    if before is None:
        return row | {"review_id": digest_of([*verdict.whose])}
    kept = {name: before[name] for name in ("run", "stratum", "weight", "review_id")}
    return row | kept | {"corrects": kept["review_id"], "review_id": digest_of([*verdict.whose, kept["review_id"]])}


def _refused(problems: Mapping[int, str], rows: int, where: str, *, correctable: bool) -> DataError:
    told = [f"  line {line}: {what}" for line, what in sorted(problems.items())]
    if len(told) > MOST_TOLD:
        told = [*told[:MOST_TOLD], f"  and {len(told) - MOST_TOLD} more"]
    return DataError(
        "\n".join((f"{len(problems)} of {rows} verdicts cannot be taken in:", *told)),
        where=where,
        kept="no verdict of this import; all earlier ones",
        next_command="correct or remove these rows, then give the same command again"
        + ("; with --corrects what a reviewer says now takes the place of what was said before" if correctable else ""),
    )
