"""Batches of items of which it is known how their keys were drawn and worded."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.items import Item
from medgr2.schemas.vocabulary import QuestionType

FINDINGS = ("normal", "nodule", "cyst", "haemorrhage", "calcification", "fibrosis")
STEMS = ("What is the diagnosis?", "Which diagnosis fits the image?", "What disease is seen?")
Write = Callable[[str, list[str], random.Random], tuple[str, list[str]]]


def as_is(key: str, rivals: list[str], rng: random.Random) -> tuple[str, list[str]]:
    return key, rivals


def batch(
    number: int,
    *,
    write: Write = as_is,
    prior: Sequence[int] = (1,) * 6,
    places: Sequence[int] = (1,) * 4,
    options: int = 4,
    an_image: int = 2,
    seed: int = 3,
) -> list[Item]:
    """Questions whose key is drawn by `prior` over the findings and put at a place drawn by `places`."""
    rng = random.Random(seed)
    items = []
    for at in range(number):
        key = rng.choices(FINDINGS, prior)[0]
        rivals = rng.sample([finding for finding in FINDINGS if finding != key], options - 1)
        key, rivals = write(key, rivals, rng)
        rng.shuffle(rivals)
        place = rng.choices(range(options), places[:options])[0]
        items.append(
            Item(
                image_id=sha256_hex(str(at // an_image).encode()),
                question_type=QuestionType.DISEASE,
                question=rng.choice(STEMS),
                options=(*rivals[:place], key, *rivals[place:]),
                answer="ABCDE"[place],
                rationale="So it is.",
            )
        )
    return items
