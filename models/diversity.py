"""Diversity: whether a night's drafts use the range that is there, or say the same again and again."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from medgr2.models.texts import words
from medgr2.schemas.items import Item
from medgr2.schemas.reports import Diversity

MOST = 20_000
"""Looked at word by word; more tell nothing new."""
ALIKE = 0.8
SIEVE = 0.6
"""Of the sketches: lower, so that hardly anything alike slips through; what is not alike is sorted out after it."""
PERMUTATIONS = 64
SHINGLE = 2
SEED = 1
CROWDS = 2
"""So many times its even share, and a type or modality crowds the others out."""


def diversity(items: Iterable[Item], modality: Mapping[str, str], *, types: int, modalities: int) -> Diversity:
    """`types` and `modalities`: how many of them were asked for or about."""
    drafts = sorted(items, key=lambda item: item.item_id)  # ids are hashes: the first ones are a fair sample
    by_type = Counter(item.question_type.value for item in drafts)
    by_modality = Counter(modality.get(item.image_id) or "unknown" for item in drafts)
    sample = drafts[:MOST]
    questions = [words(item.question) for item in sample]
    one, two, three = (_distinct(questions, n) for n in (1, 2, 3))
    return Diversity(
        drafts=len(drafts),
        looked_at=len(sample),
        question_types=dict(sorted(by_type.items())),
        modalities=dict(sorted(by_modality.items())),
        type_entropy=_entropy(by_type, types),
        modality_entropy=_entropy(by_modality, modalities),
        distinct=(one, two, three),
        near_duplicates=_near_duplicates(sample),
        letters=dict(sorted(Counter(item.answer for item in drafts).items())),
        hints=(*_hints(by_type, types), *_hints(by_modality, modalities)),
    )


def _entropy(counts: Counter[str], kinds: int) -> float:
    """1 for the even spread over so many kinds, and where there is no choice."""
    total, kinds = counts.total(), max(kinds, len(counts))
    if kinds < 2 or not total:
        return 1.0 if total else 0.0
    return round(-sum(n / total * math.log(n / total) for n in counts.values()) / math.log(kinds), 4) + 0.0


def _distinct(texts: Sequence[Sequence[str]], n: int) -> float:
    grams = Counter(tuple(text[at : at + n]) for text in texts for at in range(len(text) - n + 1))
    return round(len(grams) / grams.total(), 4) if grams else 0.0


def _near_duplicates(items: Sequence[Item]) -> float:
    """Of question and options: texts that are equal up to punctuation first, then by MinHash."""
    if not items:
        return 0.0
    texts = Counter((*words(item.question), "|", *_sorted_words(item)) for item in items)
    alike = sum(texts.values()) - len(texts)
    return round((alike + _sketched_alike(sorted(texts))) / len(items), 4)


def _sorted_words(item: Item) -> list[str]:
    """Options are shuffled: their order says nothing."""
    return [word for option in sorted(item.options) for word in words(option)]


def _sketched_alike(texts: Sequence[Sequence[str]]) -> int:
    from datasketch import MinHash, MinHashLSH

    shelf = MinHashLSH(threshold=SIEVE, num_perm=PERMUTATIONS)
    shingles = [{" ".join(text[at : at + SHINGLE]).encode() for at in range(len(text) - 1)} for text in texts]
    found = 0
    for number, sketch in enumerate(MinHash.bulk([sorted(one) for one in shingles], num_perm=PERMUTATIONS, seed=SEED)):
        close = shelf.query(sketch)
        # Candidates of the sieve are compared in full; one that stands for its likes is kept on the shelf.
        if any(_jaccard(shingles[number], shingles[other]) >= ALIKE for other in close):
            found += 1
        else:
            shelf.insert(number, sketch)
    return found


def _jaccard(a: set[bytes], b: set[bytes]) -> float:
    return len(a & b) / len(a | b) if a or b else 1.0


def _hints(counts: Counter[str], kinds: int) -> Iterable[str]:
    total, kinds = counts.total(), max(kinds, len(counts))
    for name, n in sorted(counts.items()):
        if kinds > CROWDS and n > CROWDS * total / kinds:
            share = total / kinds / n
            yield (
                f"{name} is {n / total:.0%} of the drafts, its even share is {1 / kinds:.0%}: "
                f'to ask for less of it, set quotas {{"{name}": {share:.2f}}}'
            )
