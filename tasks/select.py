"""Select: which accepted items a dataset gains tonight, with a cap for each modality and question type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from medgr2.models.balance import by_key, by_letter, surplus
from medgr2.models.texts import plain
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import SelectParameters
from medgr2.schemas.vocabulary import Verdict

Slice = tuple[str, str]
COMMON = 8
"""Keys of a label that are enough to rank them by themselves."""


@dataclass(frozen=True)
class Selection:
    """What is added; every other scored item is left out for one named reason."""

    kept: tuple[Item, ...]
    """In the order of ids."""
    left_out: Mapping[str, str]
    modality: Mapping[str, str]
    """By image."""

    @property
    def add(self) -> tuple[str, ...]:
        return tuple(item.item_id for item in self.kept)

    @property
    def slices(self) -> dict[Slice, int]:
        return dict(sorted(Counter(_slice(item, self.modality) for item in self.kept).items()))

    @property
    def letters(self) -> dict[str, int]:
        return dict(sorted(Counter(item.answer for item in self.kept).items()))

    @property
    def reasons(self) -> dict[str, int]:
        return dict(sorted(Counter(self.left_out.values()).items()))

    def ids_of(self, reason: str) -> list[str]:
        return sorted(item_id for item_id, why in self.left_out.items() if why == reason)

    def without(self, dropped: Collection[str], reason: str) -> Selection:
        kept = tuple(item for item in self.kept if item.item_id not in dropped)
        return replace(self, kept=kept, left_out={**self.left_out, **dict.fromkeys(dropped, reason)})


def select(
    items: Iterable[Item],
    scores: Iterable[Mapping[str, Any]],
    *,
    modality: Mapping[str, str],
    held: Collection[str],
    given_away: Collection[str] = (),
    parameters: SelectParameters,
) -> Selection:
    """The best by p(valid), in each slice or in all. `held` are members of the dataset, `modality` is by image;
    `given_away` told their keys when another night was thinned, and by themselves would tell them the more."""
    score_of = {str(row["item_id"]): row for row in scores}
    left_out: dict[str, str] = {}
    ranked: list[tuple[float, str, Item]] = []
    for item_id, item in {item.item_id: item for item in items}.items():
        row = score_of.get(item_id)
        p = None if row is None else row["p_valid"]
        if row is None:
            left_out[item_id] = "unscored"
        elif row["verdict"] != Verdict.ACCEPTED:
            left_out[item_id] = str(row["verdict"])
        elif row["reasons"] or p is None:
            left_out[item_id] = "score_contradicts_itself"
        elif not p >= parameters.tau:  # no number is not good enough either
            left_out[item_id] = "below_tau"
        elif item_id in held:
            left_out[item_id] = "held"
        elif item_id in given_away:
            left_out[item_id] = "given_away_before"
        else:
            ranked.append((-p, item_id, item))
    kept = [item for _, _, item in sorted(ranked, key=lambda entry: entry[:2])]
    kept = _chosen(kept, left_out, modality, parameters)
    return Selection(tuple(sorted(kept, key=lambda item: item.item_id)), left_out, modality)


def _slice(item: Item, modality: Mapping[str, str]) -> Slice:
    return modality.get(item.image_id) or "unknown", item.question_type.value


def _chosen(
    ranked: list[Item], left_out: dict[str, str], modality: Mapping[str, str], parameters: SelectParameters
) -> list[Item]:
    pool = _even(ranked, left_out, parameters)
    in_slices = parameters.top_k is None
    most = parameters.cap if parameters.top_k is None else parameters.top_k
    taken: Counter[Slice | None] = Counter()
    kept: list[Item] = []
    for item in _by_label(pool, modality, in_slices=in_slices) if parameters.balance_keys else pool:
        where = _slice(item, modality) if in_slices else None
        if taken[where] < most:
            taken[where] += 1
            kept.append(item)
        else:
            left_out[item.item_id] = "cap" if in_slices else "top_k"
    chosen = {item.item_id for item in kept}
    return _even([item for item in pool if item.item_id in chosen], left_out, parameters)


def _by_label(pool: list[Item], modality: Mapping[str, str], *, in_slices: bool) -> list[Item]:
    """The best of every label before the second best of any: of an even sample the best alone are no even sample,
    since some labels are easier to be sure of. Labels that are rare are ranked together."""

    def stratum(item: Item) -> tuple[str, str, str]:
        return _slice(item, modality)[0] if in_slices else "", item.question_type, plain(item.key_text)

    common = {label for label, n in Counter(map(stratum, pool)).items() if n >= COMMON}
    strata = [label if label in common else (*label[:2], "") for label in map(stratum, pool)]
    size, seen = Counter(strata), Counter[tuple[str, str, str]]()
    place: list[tuple[float, int]] = []
    for at, label in enumerate(strata):
        place.append(((seen[label] + 0.5) / size[label], at))
        seen[label] += 1
    return [pool[at] for _, at in sorted(place)]


def _even(ranked: list[Item], left_out: dict[str, str], parameters: SelectParameters) -> list[Item]:
    """Without what has to go so that neither a label nor a letter is a good guess; the rest in the same order."""
    rules = {"surplus_of_key": by_key, "surplus_of_letter": by_letter}
    if not parameters.balance_keys:
        del rules["surplus_of_key"]
    for reason, rule in rules.items():
        dropped = surplus(ranked, rule)
        left_out.update(dict.fromkeys(dropped, reason))
        ranked = [item for item in ranked if item.item_id not in dropped]
    return ranked
