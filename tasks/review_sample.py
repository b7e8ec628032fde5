"""Which drafts people are asked about: half near tau, a quarter drawn from the accepted, a quarter from the top."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from medgr2.schemas.digest import digest_of
from medgr2.schemas.vocabulary import Verdict


class Stratum(StrEnum):
    """Why an item was asked about. Only what was drawn at random speaks for others than itself."""

    RANDOM = "random"
    NEAR_TAU = "near-tau"
    TOP = "top"
    SPREAD = "spread"


@dataclass(frozen=True, slots=True)
class Asked:
    """An item, its stratum, and for a random one how many were drawn (`taken`) of how many accepted ones (`of`)."""

    item_id: str
    stratum: Stratum
    taken: int = 0
    of: int = 0

    @property
    def weight(self) -> float | None:
        """For how many accepted items it stands, which is the inverse of its chance to be drawn."""
        return self.of / self.taken if self.stratum is Stratum.RANDOM else None


@dataclass(frozen=True)
class Sample:
    """In an order in which every stratum comes up early: who stops half-way has judged a bit of each."""

    asked: tuple[Asked, ...]
    notes: tuple[str, ...]
    """What became otherwise than was asked for, and why."""

    @property
    def strata(self) -> dict[str, int]:
        return dict(sorted(Counter(one.stratum.value for one in self.asked).items()))


def draw(scores: Iterable[Mapping[str, Any]], n: int, *, seed: int, reviewed: Collection[str] = ()) -> Sample:
    """`n` items of the newest judgements; never one that was reviewed, nor one that a gate refused.

    The random ones are drawn first, from all that are accepted: an item near tau or at the top is as likely among
    them as any other, so their plain share of valid ones estimates the precision of the accepted without bias.
    What a stratum lacks is asked near tau. Until there is a calibration there is no tau to be near: then evenly
    over the range of lp, so that the first calibration sees good and bad.
    """
    rows = sorted((r for r in scores if r["item_id"] not in reviewed), key=lambda r: str(r["item_id"]))
    judged = [row for row in rows if row["p_valid"] is not None]
    if not judged:
        return _spread(rows, n, seed)
    accepted = [row for row in judged if row["verdict"] == Verdict.ACCEPTED]
    # Lots are cast anew after each review: under one fixed order those left over from the last draw would all stand
    # behind the items that came in since, and the draw would be one of new items.
    lots = digest_of([seed, sorted(reviewed)])
    wanted = {Stratum.NEAR_TAU: n // 2, Stratum.TOP: n // 4}
    wanted[Stratum.RANDOM] = n - sum(wanted.values())
    drawn = _ids(sorted(accepted, key=lambda r: digest_of([lots, r["item_id"]])))[: wanted[Stratum.RANDOM]]
    chosen = {item_id: Asked(item_id, Stratum.RANDOM, len(drawn), len(accepted)) for item_id in drawn}
    nearest = _ids(sorted(judged, key=lambda r: (abs(r["p_valid"] - r["tau"]), r["item_id"])))
    _add(chosen, nearest, Stratum.NEAR_TAU, wanted[Stratum.NEAR_TAU])
    _add(chosen, _ids(sorted(accepted, key=lambda r: (-r["p_valid"], r["item_id"]))), Stratum.TOP, wanted[Stratum.TOP])
    _add(chosen, nearest, Stratum.NEAR_TAU, n - len(chosen))
    return Sample(_mixed(chosen.values(), seed), _notes(wanted, chosen.values(), n, len(accepted)))


def _spread(rows: Sequence[Mapping[str, Any]], n: int, seed: int) -> Sample:
    plain = _ids(sorted((r for r in rows if r["lp"] is not None), key=lambda r: (r["lp"], r["item_id"])))
    ids = plain if len(plain) <= n else [plain[(2 * i + 1) * len(plain) // (2 * n)] for i in range(n)]
    notes = ["no calibration yet: spread evenly over lp; they say nothing of the precision of what will be accepted"]
    if len(ids) < n:
        notes.append(f"only {len(ids)} drafts are left to ask about")
    return Sample(_mixed((Asked(item_id, Stratum.SPREAD) for item_id in ids), seed), tuple(notes))


def _add(chosen: dict[str, Asked], ids: Sequence[str], stratum: Stratum, quota: int) -> None:
    for item_id in [i for i in ids if i not in chosen][:quota]:
        chosen[item_id] = Asked(item_id, stratum)


def _notes(wanted: Mapping[Stratum, int], chosen: Collection[Asked], n: int, accepted: int) -> tuple[str, ...]:
    got = Counter(one.stratum for one in chosen)
    short = [f"{s.value} {got[s]} of {wanted[s]}" for s in (Stratum.RANDOM, Stratum.TOP) if got[s] < wanted[s]]
    notes = []
    if short:
        instead = max(0, got[Stratum.NEAR_TAU] - wanted[Stratum.NEAR_TAU])
        notes.append(
            f"{' and '.join(short)}: only {accepted} drafts that nobody reviewed are accepted; "
            f"{instead} more near tau instead"
        )
    if len(chosen) < n:
        notes.append(f"only {len(chosen)} drafts are left to ask about")
    return tuple(notes)


def _mixed(asked: Iterable[Asked], seed: int) -> tuple[Asked, ...]:
    return tuple(sorted(asked, key=lambda one: digest_of([seed, "order", one.item_id])))


def _ids(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return [str(row["item_id"]) for row in rows]
