"""What it costs to hold tonight's items against a million others, and how well repeated texts are found.

python benchmarks/text_duplicates.py [--held 1000000] [--tonight 20000] [--full]

Half of the held items are long and specific (about 60 words that nobody else puts in this order), half are the short
templates of the embedded world. `--full` also judges the held items themselves as one night, each against each.
Recall and false alarms are told against the exact Jaccard index of every pair.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from itertools import islice

import numpy as np

from medgr2.models.gates import GateContext, sift
from medgr2.models.shelf import Shelf
from medgr2.models.text_neighbours import ALIKE, TextNeighbours, as_a_whole, asked_and_told, jaccard, shelve
from medgr2.schemas.items import Item
from medgr2.schemas.vocabulary import QuestionType
from medgr2_phantoms.questions import QUESTION_TYPES, ask
from medgr2_phantoms.world import sample_scene

WORDS = 30_000
"""Of the made language; the n-th most frequent is drawn with weight 1 / (n + 20), about as in clinical prose."""
BLOCK = 2000
Draw = np.random.Generator


def _made_items(draw: Draw, count: int) -> Iterator[Item]:
    weights = np.cumsum(1 / (np.arange(WORDS) + 20))
    lexicon = np.array([f"w{number:x}" for number in range(WORDS)])
    for start in range(0, count, BLOCK):
        rows = lexicon[np.searchsorted(weights, draw.random((BLOCK, 60)) * weights[-1])]
        for row in rows[: count - start].tolist():
            yield Item(
                image_id=draw.bytes(32).hex(), question_type=QuestionType.DISEASE, answer="A",
                question=" ".join(row[:16]) + "?",
                options=(" ".join(row[16:19]), " ".join(row[19:22]), " ".join(row[22:25]), " ".join(row[25:28])),
                rationale=" ".join([*row[28:], *row[16:19]]),
            )  # fmt: skip


def _template_items(draw: Draw, count: int) -> Iterator[Item]:
    """As the embedded world asks them. 2,000 scenes are enough: what is said of them is no more than that apart."""
    asked = []
    for number in range(2000):
        kind = QUESTION_TYPES[number % len(QUESTION_TYPES)]
        asked.append(ask(sample_scene(draw), kind, draw))
    for number in range(count):
        one = asked[number % len(asked)]
        yield Item(
            image_id=draw.bytes(32).hex(), question_type=QuestionType(one.question_type), question=one.question,
            options=one.options, answer=one.answer, rationale=one.rationale,
        )  # fmt: skip


def _items(seed: int, count: int) -> Iterator[Item]:
    draw = np.random.default_rng(seed)
    yield from _made_items(draw, count // 2)
    yield from _template_items(draw, count - count // 2)


def _edited(item: Item, changes: int, draw: Draw) -> Item:
    """About another image, some words of the rationale another."""
    told = item.rationale.split()
    for place in draw.choice(len(told) - 3, size=changes, replace=False):
        told[int(place)] = "".join(draw.choice(list("ghijkmnopq"), size=8))
    return item.model_copy(update={"image_id": draw.bytes(32).hex(), "rationale": " ".join(told)})


def recall(count: int) -> None:
    draw = np.random.default_rng(1)
    held = list(_items(2, count))
    long = held[: count // 2]
    shelf = TextNeighbours(text for item in held for text in as_a_whole(item))
    exact = [next(as_a_whole(item)).shingles for item in long]
    bins: dict[float, list[int]] = {}
    for item, original in zip(long, exact, strict=True):
        copy = next(as_a_whole(_edited(item, int(draw.integers(0, 9)), draw)))
        alike = jaccard(copy.shingles, original)
        edge = 0.7 if alike >= ALIKE else 0.6 if alike >= 0.6 else 0.0
        edge = next((one for one in (0.9, 0.8, 0.75) if alike >= one), edge)
        told = bins.setdefault(edge, [0, 0])
        told[0] += 1
        told[1] += shelf.twin(copy) is not None
    print(f"copies about another image, against {len(shelf)} held; refused where the exact Jaccard index is")
    for edge, (asked, found) in sorted(bins.items(), reverse=True):
        print(f"  {f'{edge} and more' if edge else 'below 0.6':<14} {found:>6} of {asked:<6} {found / asked:.4f}")
    fresh = [text for item in islice(_items(3, 2 * count), 2 * count) for text in as_a_whole(item)]
    alarms = [text for text in fresh if shelf.twin(text)]
    true = 0
    for text in alarms:
        true += any(jaccard(text.shingles, one) >= ALIKE for one in exact)
    short = sum(len(text.shingles) < text.least for text in fresh)
    print(f"  of {len(fresh)} others (half short templates; {short} too short to judge): {len(alarms)} refused, "
          f"{len(alarms) - true} of them wrongly")  # fmt: skip


def cost(held: int, tonight: int) -> None:
    before, wall = time.process_time(), time.perf_counter()
    history, history_texts = shelve(_items(4, held), as_a_whole)
    evaluation, evaluation_texts = shelve(_items(5, tonight), asked_and_told)
    context = GateContext(
        history=history, history_texts=history_texts, evaluation=evaluation, evaluation_texts=evaluation_texts
    )
    _say(f"{held} held and {tonight} of evaluation, read and filed", before, wall)
    # A tenth repeats what is held, a tenth what is evaluated on, with two words changed.
    draw, copies = np.random.default_rng(6), tonight // 10
    night = list(_items(7, tonight - 2 * copies))
    night += [_edited(item, 2, draw) for item in islice(_items(4, held), copies)]
    night += [_edited(item, 2, draw) for item in islice(_items(5, tonight), copies)]
    before, wall = time.process_time(), time.perf_counter()
    judged = sift(night, context)
    _say(f"{len(night)} of tonight through every gate", before, wall)
    reasons = [reason for told in judged.values() for reason in told]
    for reason in ("duplicate_of_history", "overlaps_evaluation", "duplicate_of_night"):
        print(f"  {reason}: {reasons.count(reason)}")


def each_against_each(count: int) -> None:
    before, wall = time.process_time(), time.perf_counter()
    tonight = TextNeighbours((text for item in _items(8, count) for text in as_a_whole(item)), shown=False)
    shelf, refused = Shelf(), 0
    for number, item in enumerate(_items(8, count)):
        if shelf.twin(item) or any(tonight.twin(text) for text in as_a_whole(item)):
            refused += 1
        else:
            shelf.add(item)
            tonight.show(number)
    _say(f"{count} of one night, each against each: {refused} refused", before, wall)


def _say(what: str, before: float, wall: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what}: {time.process_time() - before:.0f} s CPU, {time.perf_counter() - wall:.0f} s wall, "
          f"peak {peak:.0f} MB", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held", type=int, default=1_000_000)
    parser.add_argument("--tonight", type=int, default=20_000)
    parser.add_argument("--full", action="store_true", help="also the held items as one night, each against each")
    chosen = parser.parse_args()
    print(f"$ python {' '.join(sys.argv)}")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    recall(min(4000, chosen.held))
    cost(chosen.held, chosen.tonight)
    if chosen.full:
        each_against_each(chosen.held)


if __name__ == "__main__":
    main()
