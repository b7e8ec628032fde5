"""Select: which accepted items a dataset gains tonight, with a cap for each modality and question type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from medgr2.schemas.items import Item
from medgr2.schemas.vocabulary import Verdict

Slice = tuple[str, str]


@dataclass(frozen=True)
class Selection:
    """`add` in the order of ids; every other scored item is left out for one named reason."""

    add: tuple[str, ...]
    left_out: Mapping[str, str]
    slices: Mapping[Slice, int]
    letters: Mapping[str, int]

    @property
    def reasons(self) -> dict[str, int]:
        return dict(sorted(Counter(self.left_out.values()).items()))


def select(
    items: Iterable[Item],
    scores: Iterable[Mapping[str, Any]],
    *,
    modality: Mapping[str, str],
    held: Collection[str],
    cap: int,
    tau: float,
) -> Selection:
    """The best by p(valid) in each slice. `held` are the members of the dataset, `modality` is by image."""
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
        elif p < tau:
            left_out[item_id] = "below_tau"
        elif item_id in held:
            left_out[item_id] = "held"
        else:
            ranked.append((-p, item_id, item))
    taken: list[Item] = []
    slices: Counter[Slice] = Counter()
    for _, item_id, item in sorted(ranked, key=lambda entry: entry[:2]):
        where = (modality.get(item.image_id) or "unknown", item.question_type.value)
        if slices[where] >= cap:
            left_out[item_id] = "cap"
            continue
        slices[where] += 1
        taken.append(item)
    return Selection(
        add=tuple(sorted(item.item_id for item in taken)),
        left_out=left_out,
        slices=dict(sorted(slices.items())),
        letters=dict(sorted(Counter(item.answer for item in taken).items())),
    )
