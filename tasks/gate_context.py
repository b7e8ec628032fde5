"""What tonight's drafts are compared with: history, every evaluation set there is, and pictures that look alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from medgr2.infra import versions
from medgr2.infra.lake import Lake
from medgr2.models.gates import GateContext
from medgr2.models.look_alikes import LookAlikes, look_alikes
from medgr2.models.text_neighbours import as_a_whole, asked_and_told, shelve
from medgr2.schemas.errors import DataError, NotFoundError
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import EVALUATION_DATASETS, SEED
from medgr2.schemas.vocabulary import Split
from medgr2.tasks.generate import item_of
from medgr2.tasks.night import Night

EXAMS = (Split.HELDOUT, Split.VALIDATION)
AT_ONCE = 50_000


@dataclass(frozen=True)
class Compared:
    """What the gates know, and what a person should know of it."""

    context: GateContext
    sets: dict[str, int]
    """Items of each evaluation set that the drafts were compared with; none of a set that is not there."""


def compare_with(lake: Lake, night: Night, drafts: Iterable[Item]) -> Compared:
    held = members_of(lake, SEED)
    if night.history is not None:
        held.update(versions.members(lake, versions.resolve(lake, f"{night.dataset}@{night.history}")))
    exams, unread = _evaluation(lake)
    # Pictures first: what they need is given back before the texts are filed.
    images = _pictures(lake, {item.image_id for item in drafts}, held)
    history, history_texts = shelve(read_items(lake, held), as_a_whole)
    evaluation, evaluation_texts = shelve(read_items(lake, {i for ids in exams.values() for i in ids}), asked_and_told)
    splits = lake.read("images", columns=["image_id", "split"]).to_pylist()
    context = GateContext(
        heldout=frozenset(row["image_id"] for row in splits if row["split"] != Split.TRAIN),
        evaluation=evaluation,
        history=history,
        evaluation_texts=evaluation_texts,
        history_texts=history_texts,
        images=images,
        unread=unread,
    )
    return Compared(context, {name: len(ids) for name, ids in exams.items()})


def members_of(lake: Lake, dataset: str) -> set[str]:
    try:
        return set(versions.members(lake, versions.resolve(lake, dataset)))
    except NotFoundError:
        return set()  # not there yet; held-out images are refused one by one all the same


def read_items(lake: Lake, ids: Iterable[str]) -> Iterator[Item]:
    """A part at a time: of a million, not all are in memory at once."""
    for part in _parts(ids):
        for row in lake.read("items", where={"item_id": part}).to_pylist():
            yield item_of(row)


def _evaluation(lake: Lake) -> tuple[dict[str, set[str]], frozenset[str]]:
    """Their items, and the sets that cannot be read whole: nothing is then known to be apart from them."""
    exams: dict[str, set[str]] = {}
    unread: set[str] = set()
    for name in EVALUATION_DATASETS:
        try:
            exams[name] = members_of(lake, name)
            there = sum(lake.read("items", ["item_id"], {"item_id": part}).num_rows for part in _parts(exams[name]))
        except DataError:
            unread.add(name)
            continue
        if there < len(exams[name]):
            unread.add(name)
    return exams, frozenset(unread)


def _pictures(lake: Lake, tonight: set[str], history: set[str]) -> LookAlikes:
    asked_before: set[str] = set()
    for part in _parts(history):
        asked_before.update(lake.read("items", ["image_id"], {"item_id": part})["image_id"].to_pylist())
    rows = lake.read("images", columns=["image_id", "split", "origin", "fingerprint"]).to_pylist()
    known = lake.read("benchmarks", columns=["content", "fingerprint"]).to_pylist()
    contents = {row["content"] for row in known}
    return look_alikes(
        {row["image_id"]: row["fingerprint"] for row in rows if row["image_id"] in tonight},
        [
            *((row["image_id"], row["fingerprint"]) for row in rows if row["split"] in EXAMS),
            # A benchmark knows its files, and an image the file that it was made of.
            *((row["image_id"], row["fingerprint"]) for row in rows if row["origin"] in contents),
            *((row["content"], row["fingerprint"]) for row in known),
        ],
        {row["image_id"]: row["fingerprint"] for row in rows if row["image_id"] in asked_before},
    )


def _parts(ids: Iterable[str]) -> Iterator[list[str]]:
    ordered = sorted(ids)
    for start in range(0, len(ordered), AT_ONCE):
        yield ordered[start : start + AT_ONCE]
