"""What tonight's drafts are compared with: history, every evaluation set there is, and pictures that look alike."""

from __future__ import annotations

from collections.abc import Iterable

from medgr2.infra import versions
from medgr2.infra.lake import Lake
from medgr2.models.gates import GateContext
from medgr2.models.look_alikes import LookAlikes, look_alikes
from medgr2.models.shelf import Shelf
from medgr2.models.text_neighbours import TextNeighbours, as_a_whole, asked_and_told
from medgr2.schemas.errors import DataError, NotFoundError
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import EVALUATION_DATASETS, SEED
from medgr2.schemas.vocabulary import Split
from medgr2.tasks.generate import item_of
from medgr2.tasks.night import Night

EXAMS = (Split.HELDOUT, Split.VALIDATION)


def gate_context(lake: Lake, night: Night, drafts: Iterable[Item]) -> GateContext:
    history = members_of(lake, SEED)
    if night.history is not None:
        history.update(versions.members(lake, versions.resolve(lake, f"{night.dataset}@{night.history}")))
    held = items_of(lake, history)
    exams, unread = _evaluation(lake)
    splits = lake.read("images", columns=["image_id", "split"]).to_pylist()
    return GateContext(
        heldout=frozenset(row["image_id"] for row in splits if row["split"] != Split.TRAIN),
        evaluation=Shelf(exams),
        history=Shelf(held),
        evaluation_texts=TextNeighbours(text for item in exams for text in asked_and_told(item)),
        history_texts=TextNeighbours(text for item in held for text in as_a_whole(item)),
        images=_pictures(lake, {item.image_id for item in drafts}, {item.image_id for item in held}),
        unread=unread,
    )


def members_of(lake: Lake, dataset: str) -> set[str]:
    try:
        return set(versions.members(lake, versions.resolve(lake, dataset)))
    except NotFoundError:
        return set()  # not there yet; held-out images are refused one by one all the same


def items_of(lake: Lake, ids: set[str]) -> list[Item]:
    if not ids:
        return []
    return [item_of(row) for row in lake.read("items", where={"item_id": sorted(ids)}).to_pylist()]


def _evaluation(lake: Lake) -> tuple[list[Item], frozenset[str]]:
    """Their items, and the sets that cannot be read whole: nothing is then known to be apart from them."""
    exams: dict[str, Item] = {}
    unread: set[str] = set()
    for name in EVALUATION_DATASETS:
        try:
            ids = members_of(lake, name)
            found = items_of(lake, ids)
        except DataError:
            unread.add(name)
            continue
        if len(found) < len(ids):
            unread.add(name)
        exams.update({item.item_id: item for item in found})
    return list(exams.values()), frozenset(unread)


def _pictures(lake: Lake, tonight: set[str], asked_before: set[str]) -> LookAlikes:
    rows = lake.read("images", columns=["image_id", "split", "fingerprint"]).to_pylist()
    known = lake.read("benchmarks", columns=["content", "fingerprint"]).to_pylist()
    return look_alikes(
        {row["image_id"]: row["fingerprint"] for row in rows if row["image_id"] in tonight},
        [
            *((row["image_id"], row["fingerprint"]) for row in rows if row["split"] in EXAMS),
            *((row["content"], row["fingerprint"]) for row in known),
        ],
        {row["image_id"]: row["fingerprint"] for row in rows if row["image_id"] in asked_before},
    )
