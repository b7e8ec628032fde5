"""The alpha ledger: each look at a held-out version is asked to be surer than the one before.

One set of questions asked night after night promotes somebody by luck in the end. Of alpha the n-th look may spend
alpha / (n (n + 1)); all looks together never spend more than alpha, however much their answers have in common: the
bound is a sum and asks for no independence, which nights with the same questions and the same champion do not have.

A look is an object, exams/<role>/<n>.json, created once and never changed: of two that look at once, one is the later.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medgr2.infra.objects import ObjectStore
from medgr2.models.registry import Source
from medgr2.schemas.cycle_reports import Level
from medgr2.schemas.errors import ConflictError, DataError
from medgr2.schemas.vocabulary import Role

TRIES = 20
FRESH = 0.5
"""A version begins anew when at least this share of its items was in no version that was looked at."""
MembersOf = Callable[[Source], Collection[str]]


class Look(BaseModel):
    """One candidate, one champion, one held-out version: asked again, it is the same look."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    number: int = Field(description="Among all looks of the role.")
    look: int = Field(description="Among those that count for this held-out version.")
    alpha: float
    level: float = Field(description="Largest p at which the candidate counts as better.")
    heldout: Source
    candidate: str
    champion: str
    run: str
    looked_at: datetime

    def told(self) -> Level:
        return Level(look=self.look, level=self.level, spent=spent(self.alpha, self.look), alpha=self.alpha)


def level(alpha: float, look: int) -> float:
    return alpha / (look * (look + 1))


def spent(alpha: float, looks: int) -> float:
    """By so many looks: the sum of their levels."""
    return alpha * looks / (looks + 1)


class AlphaLedger:
    def __init__(self, store: ObjectStore, members_of: MembersOf) -> None:
        self._store = store
        self._members_of = members_of

    def looks(self, role: Role) -> list[Look]:
        """All looks of the role, the oldest first."""
        return [self._read(o.key) for o in sorted(self._store.list(_folder(role)), key=lambda o: o.key)]

    def counting(self, role: Role, heldout: Source) -> list[Look]:
        """The looks that count for this held-out version: at itself, and at those that had asked most of its items."""
        return _counting(self.looks(role), heldout, self._members_of)

    def look(self, role: Role, heldout: Source, *, candidate: str, champion: str, alpha: float, run: str) -> Look:
        """The look of this candidate: the one it had, or the next, which is spent now whatever comes of it."""
        for _ in range(TRIES):
            before = self.looks(role)
            asked = (heldout.digest, candidate, champion)
            for one in before:
                if (one.heldout.digest, one.candidate, one.champion) == asked:
                    return one
            n = len(_counting(before, heldout, self._members_of)) + 1
            new = Look(
                role=role,
                number=len(before),
                look=n,
                alpha=alpha,
                level=level(alpha, n),
                heldout=heldout,
                candidate=candidate,
                champion=champion,
                run=run,
                looked_at=datetime.now(UTC),
            )
            if self._store.create(f"{_folder(role)}{new.number:08d}.json", new.model_dump_json().encode()):
                return new
        raise ConflictError(
            f"{TRIES} others looked at {heldout.dataset}@{heldout.version} first",
            where=_folder(role),
            kept="every answer; no level was spent, and no champion was moved",
            next_command="run the same command again when fewer loops are active",
        )

    def _read(self, key: str) -> Look:
        try:
            return Look.model_validate_json(self._store.get(key))
        except ValidationError:
            raise DataError(
                "the record of a look at the held-out set is damaged, or was written by another release",
                where=key,
                kept="every answer and every champion; nothing was promoted",
                next_command="bring the object back from a backup: without it nobody knows how much of alpha is spent",
            ) from None


def _counting(looks: Sequence[Look], heldout: Source, members_of: MembersOf) -> list[Look]:
    """Since the last moment at which the version would have begun anew: by all the looks before it together, at
    whatever versions, at most so much of its items had been asked. Looks since then that asked none of them do not
    count."""
    if all(one.heldout.digest == heldout.digest for one in looks):
        return list(looks)
    items = frozenset(members_of(heldout))
    asked = {source.digest: items.intersection(members_of(source)) for source in {one.heldout for one in looks}}
    seen, since = set[str](), 0
    for at, one in enumerate(looks):
        seen |= asked[one.heldout.digest]
        if one.heldout.digest == heldout.digest or len(seen) > (1 - FRESH) * len(items):
            break
        since = at + 1
    return [one for one in looks[since:] if one.heldout.digest == heldout.digest or asked[one.heldout.digest]]


def _folder(role: Role) -> str:
    return f"exams/{role.value}/"
