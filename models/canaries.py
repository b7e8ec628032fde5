"""Canaries: items known to be bad beyond doubt. Whatever lets them through is not to be trusted tonight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from medgr2.models.perturbation_pool import Pool
from medgr2.models.perturbations import Perturbed, perturb
from medgr2.schemas.digest import digest_of
from medgr2.schemas.items import Item
from medgr2.schemas.vocabulary import Flaw

KINDS = (
    Flaw.WRONG_KEY,
    Flaw.WRONG_KEY_PLAIN,
    Flaw.IMAGE_SWAP,
    Flaw.PERMUTED,
    Flaw.LATERALITY,
    Flaw.NEGATION,
    Flaw.NUMBER,
    Flaw.OPPOSITE,
    Flaw.OFF_TOPIC,
)

Stratum = tuple[str, str]
Cage = tuple[Flaw, Stratum]


def canaries(items: Iterable[Item], n: int, seed: int, pool: Pool | None = None) -> list[Perturbed]:
    """Up to `n`, spread over kinds and over modality x question type. No item serves twice before all had a turn."""
    good = {item.item_id: item for item in items}
    among = pool if pool is not None else Pool(good.values())
    found: dict[str, Perturbed] = {}
    of_kind: Counter[Flaw] = Counter()
    of_stratum: Counter[Stratum] = Counter()
    served: set[str] = set()
    cages, later = _cages(good.values(), seed, among), dict[Cage, list[Item]]()
    while len(found) < n and (cages or later):
        if not cages:
            cages, later, served = _by_lot(later, seed), {}, set()
        kind, stratum = cage = min(cages, key=lambda c: (of_kind[c[0]], of_stratum[c[1]]))
        item = cages[cage].pop()
        if not cages[cage]:
            del cages[cage]
        if item.item_id in served:
            later.setdefault(cage, []).insert(0, item)
            continue
        made = perturb(item, kind, among, seed, certain=True)
        if made is None or made.item.item_id in found or made.item.item_id in good:
            continue
        found[made.item.item_id] = made
        of_kind[kind] += 1
        of_stratum[stratum] += 1
        served.add(item.item_id)
    return list(found.values())


def _cages(items: Iterable[Item], seed: int, pool: Pool) -> dict[Cage, list[Item]]:
    """For each kind and stratum its items, by lot."""
    cages: dict[Cage, list[Item]] = {}
    for item in items:
        for kind in KINDS:
            cages.setdefault((kind, (pool.modality(item), str(item.question_type))), []).append(item)
    for (kind, _), waiting in cages.items():
        waiting.sort(key=lambda item: _lot(seed, kind, item.item_id))
    return _by_lot(cages, seed)


def _by_lot(cages: dict[Cage, list[Item]], seed: int) -> dict[Cage, list[Item]]:
    """Which of two equally empty cages is served first."""
    return dict(sorted(cages.items(), key=lambda cage: _lot(seed, *cage[0])))


def _lot(seed: int, *what: object) -> str:
    return digest_of([seed, *(str(one) for one in what)])
