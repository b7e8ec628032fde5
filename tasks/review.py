"""Review: which items people should look at, and taking in what they said."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medgr2.infra.lake import Lake
from medgr2.models.calibration import Audit
from medgr2.schemas.digest import digest_of
from medgr2.schemas.errors import DataError

NEAR_TAU = 0.5
TOP = 0.25


class ReviewVerdict(BaseModel):
    """One person's word on one item."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    item_id: str = Field(pattern=r"^[0-9a-f]{64}$")
    reviewer: str = Field(min_length=1, max_length=200)
    valid: bool
    reason: str = Field(default="", max_length=2000)

    @property
    def review_id(self) -> str:
        return digest_of([self.item_id, self.reviewer])


@dataclass(frozen=True)
class Imported:
    added: int
    known: int


def sample_for_review(
    scores: Iterable[Mapping[str, Any]], n: int, *, seed: int, reviewed: Collection[str] = ()
) -> list[str]:
    """Ids of items worth a look: half nearest to tau, a quarter at random among the accepted, the rest from the top.

    Until there is a calibration there is no tau to be near: then evenly over the range of lp, so that the first
    calibration sees good and bad. What a gate refused is not asked about.
    """
    rows = sorted((r for r in scores if r["item_id"] not in reviewed), key=lambda r: str(r["item_id"]))
    judged = [row for row in rows if row["p_valid"] is not None]
    if not judged:
        plain = sorted((r for r in rows if r["lp"] is not None), key=lambda r: (r["lp"], r["item_id"]))
        if len(plain) <= n:
            return [str(row["item_id"]) for row in plain]
        return [str(plain[(2 * i + 1) * len(plain) // (2 * n)]["item_id"]) for i in range(n)]
    accepted = [row for row in judged if row["p_valid"] >= row["tau"]]
    orders: tuple[tuple[int, Sequence[Mapping[str, Any]]], ...] = (
        (round(n * NEAR_TAU), sorted(judged, key=lambda r: (abs(r["p_valid"] - r["tau"]), r["item_id"]))),
        (round(n * TOP), sorted(accepted, key=lambda r: (-r["p_valid"], r["item_id"]))),
        (n, sorted(accepted, key=lambda r: digest_of([seed, r["item_id"]]))),
        (n, sorted(judged, key=lambda r: digest_of([seed, r["item_id"]]))),
    )
    chosen: dict[str, None] = {}
    for quota, order in orders:
        taken = 0
        for row in order:
            if len(chosen) == n or taken == quota:
                break
            if row["item_id"] not in chosen:
                chosen[str(row["item_id"])] = None
                taken += 1
    return list(chosen)


def import_verdicts(lake: Lake, rows: Iterable[Mapping[str, Any]], *, run: str = "") -> Imported:
    """Take in verdicts, all or none. The same verdict again is known; another one by the same reviewer is refused."""
    said: dict[str, ReviewVerdict] = {}
    for number, row in enumerate(rows, start=1):
        try:
            verdict = ReviewVerdict.model_validate(dict(row))
        except ValidationError as problem:
            first = problem.errors(include_input=False, include_url=False)[0]
            name = ".".join(str(part) for part in first["loc"])
            raise _refused(f"row {number}: {name}: {first['msg']}") from None
        before = said.setdefault(verdict.review_id, verdict)
        if before.valid != verdict.valid:
            raise _refused(
                f"row {number}: {verdict.reviewer!r} says both valid and not valid of {verdict.item_id[:12]}"
            )
    known_items = set(lake.read("items", columns=["item_id"]).column("item_id").to_pylist())
    unknown = sorted({v.item_id for v in said.values()} - known_items)
    if unknown:
        raise _refused(f"{len(unknown)} of the items are not in the lake, the first is {unknown[0]}")
    stored = lake.read("reviews", columns=["review_id", "valid"]).to_pylist()
    for row in stored:
        verdict_again = said.get(row["review_id"])
        if verdict_again is not None and verdict_again.valid != row["valid"]:
            raise _refused(f"{verdict_again.reviewer!r} said otherwise of {verdict_again.item_id[:12]} before")
    now = datetime.now(UTC)
    new = [
        {**v.model_dump(), "review_id": review_id, "run": run, "reviewed_at": now}
        for review_id, v in sorted(said.items())
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


def _refused(what: str) -> DataError:
    return DataError(
        what,
        where="verdicts of reviewers",
        kept="no verdict of this import; all earlier ones",
        next_command="correct the rows and import them again",
    )
