"""Perturbations: from a good item bad ones, each made wrong in one known way, or None where that way does not apply.

What is made depends on the item, the pool and the seed alone, never on the order of anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from pydantic import ValidationError

from medgr2.models.perturbation_pool import Pool, asks_for_exception
from medgr2.models.perturbation_words import FLIPS, flips, mention, paraphrase, same_answer, synonyms_of
from medgr2.models.texts import named, plain
from medgr2.models.wording import article
from medgr2.schemas.digest import digest_of
from medgr2.schemas.items import Item
from medgr2.schemas.vocabulary import LETTERS, Flaw

GRADES = {"original": 10.0, "paraphrase": 6.0, "incoherent": 0.0, "irrelevant": -6.0}
"""Of the paper."""
TRIED = 16  # other items, for one that shares no answer


@dataclass(frozen=True, slots=True)
class Perturbed:
    """`certain`: wrong beyond doubt if the item was good. Some flips of a reason or a question could be true too."""

    item: Item
    kind: Flaw
    of: str
    """The item that it was made of."""
    certain: bool


Made = tuple[Item, bool]
Maker = Callable[[Item, Pool, Random], Iterator[Made | None]]


def perturb(item: Item, kind: Flaw, pool: Pool, seed: int = 0, *, certain: bool = False) -> Perturbed | None:
    """The item with this flaw; `certain`: only if it is wrong beyond doubt."""
    rng = Random(digest_of([item.item_id, str(kind), seed]))
    for made in _MAKERS[kind](item, pool, rng):
        if made is None or (certain and not made[1]):
            continue
        if made[0].item_id != item.item_id and (_claim(made[0]) == _claim(item) or not pool.says(made[0])):
            return Perturbed(made[0], kind, item.item_id, made[1])
    return None


def perturbations(item: Item, pool: Pool, seed: int = 0) -> list[Perturbed]:
    """One of every kind that applies."""
    made = (perturb(item, kind, pool, seed) for kind in Flaw)
    return [one for one in made if one is not None]


def graded(item: Item, pool: Pool, seed: int = 0) -> list[tuple[Item, float]]:
    """The four rewrites of the paper with their grades. What this item does not allow is left out."""
    rng = Random(digest_of([item.item_id, "graded", seed]))
    rewrites = [(item, GRADES["original"])]
    light = reworded(item, rng)
    rewrites += [(light, GRADES["paraphrase"])] if light is not None else []
    mixed = perturb(item, Flaw.INCOHERENT, pool, seed)
    rewrites += [(mixed.item, GRADES["incoherent"])] if mixed is not None else []
    # Irrelevant, or a reason for what is not there.
    kinds = rng.sample((Flaw.OFF_TOPIC, Flaw.WRONG_KEY), 2)
    beside = next((made for kind in kinds if (made := perturb(item, kind, pool, seed)) is not None), None)
    return rewrites + ([(beside.item, GRADES["irrelevant"])] if beside is not None else [])


def reworded(item: Item, rng: Random) -> Item | None:
    """The item in slightly other words, just as true. Options are labels and stay."""
    question = paraphrase(item.question, rng, item.options)
    rationale = paraphrase(item.rationale, rng, item.options)
    if question is None and rationale is None:
        return None
    return _with(item, question=question or item.question, rationale=rationale or item.rationale)


def _wrong_key(item: Item, _: Pool, rng: Random) -> Iterator[Made | None]:
    for letter in _wrong_letters(item, rng):
        rationale = _argues(item, item.options[LETTERS.index(letter)])
        yield _sure(_with(item, answer=letter, rationale=rationale) if rationale else None)


def _wrong_key_plain(item: Item, _: Pool, rng: Random) -> Iterator[Made | None]:
    for letter in _wrong_letters(item, rng):
        yield _sure(_with(item, answer=letter))


def _image_swap(item: Item, pool: Pool, rng: Random) -> Iterator[Made | None]:
    image = pool.other_picture(item, rng)
    yield _sure(_with(item, image_id=image) if image else None)


def _permuted(item: Item, _: Pool, rng: Random) -> Iterator[Made | None]:
    place = LETTERS.index(item.answer)
    for letter in _wrong_letters(item, rng):
        rest = [option for at, option in enumerate(item.options) if at != LETTERS.index(letter)]
        rng.shuffle(rest)
        rest.insert(place, item.options[LETTERS.index(letter)])
        yield _sure(_with(item, options=tuple(rest)))


def _synonym_distractor(item: Item, _: Pool, rng: Random) -> Iterator[Made | None]:
    places = [LETTERS.index(letter) for letter in _wrong_letters(item, rng)]
    names = [n for n in synonyms_of(item.key_text) if plain(n) not in {plain(o) for o in item.options}]
    for name in rng.sample(names, len(names)):
        for place in places:
            options = list(item.options)
            options[place] = name
            yield _sure(_with(item, options=tuple(options)))


def _flip(kind: Flaw) -> Maker:
    def make(item: Item, _: Pool, rng: Random) -> Iterator[Made | None]:
        parts = [_flipped_key, _flipped_rationale, _flipped_question]
        rng.shuffle(parts)
        for part in parts:
            ways = list(part(item, kind))
            rng.shuffle(ways)
            yield from ways

    return make


def _flipped_key(item: Item, kind: Flaw) -> Iterator[Made | None]:
    """The key and what argues for it say another thing, which no option said."""
    place = LETTERS.index(item.answer)
    others = [option for at, option in enumerate(item.options) if at != place]
    for new in flips(item.key_text, kind):
        rationale = _argues(item, new)
        if rationale is None or any(same_answer(new, option) for option in (item.key_text, *others)):
            continue
        options = (*item.options[:place], new, *item.options[place + 1 :])
        made = _with(item, options=options, rationale=rationale)
        yield (made, not asks_for_exception(item.question)) if made else None


def _flipped_rationale(item: Item, kind: Flaw) -> Iterator[Made | None]:
    """The key is still named somewhere: only who reads all of the reason sees that it is wrong."""
    for rationale in flips(item.rationale, kind):
        made = _with(item, rationale=rationale)
        yield (made, False) if made and mention(item.key_text).search(rationale) else None


def _flipped_question(item: Item, kind: Flaw) -> Iterator[Made | None]:
    for question in flips(item.question, kind):
        made = _with(item, question=question)
        yield (made, False) if made else None


def _off_topic(item: Item, pool: Pool, rng: Random) -> Iterator[Made | None]:
    """The question, or the reason, of an item about something else. A reason that is no reason for the key could still
    be true of the picture: it surely is not only where the other one was made by another modality."""
    for apart in (True, False):
        others = pool.other_items(item, apart=apart)
        for other in rng.sample(others, min(len(others), TRIED)):
            if any(same_answer(a, b) for a in item.options for b in other.options):
                continue
            foreign = "" not in (made_by := {pool.modality(item), pool.modality(other)}) and len(made_by) == 2
            ways = [(_with(item, question=other.question), apart)]
            if not named(other.rationale, item.options):
                ways.append((_with(item, rationale=other.rationale), foreign))
            for made, certain in rng.sample(ways, len(ways)):
                yield (made, certain) if made else None


def _incoherent(item: Item, _: Pool, rng: Random) -> Iterator[Made | None]:
    """The words of the reason in an order that says nothing."""
    said = item.rationale.split()
    for _attempt in range(4):
        mixed = rng.sample(said, len(said))
        if [plain(word) for word in mixed] != [plain(word) for word in said]:
            made = _with(item, rationale=" ".join(mixed))
            yield (made, False) if made else None


_MAKERS: dict[Flaw, Maker] = {
    Flaw.WRONG_KEY: _wrong_key,
    Flaw.WRONG_KEY_PLAIN: _wrong_key_plain,
    Flaw.IMAGE_SWAP: _image_swap,
    Flaw.PERMUTED: _permuted,
    Flaw.SYNONYM_DISTRACTOR: _synonym_distractor,
    **{kind: _flip(kind) for kind in FLIPS},
    Flaw.OFF_TOPIC: _off_topic,
    Flaw.INCOHERENT: _incoherent,
}


def _wrong_letters(item: Item, rng: Random) -> list[str]:
    """In random order, without those whose text could be true as well."""
    letters = [
        letter
        for letter, option in zip(LETTERS, item.options, strict=False)
        if letter != item.answer and not same_answer(option, item.key_text)
    ]
    return rng.sample(letters, len(letters))


def _argues(item: Item, new: str) -> str | None:
    """The rationale with the key as `new`, and `new` as the key. None where it never names the key."""
    key = item.key_text
    both = sorted({key, new, *item.options}, key=lambda text: -len(text))
    either = "|".join(mention(text).pattern for text in both)
    changed = False

    def turn(match: re.Match[str]) -> str:
        nonlocal changed
        said = plain(match["said"])
        if said not in (plain(key), plain(new)):
            return match[0]
        changed = changed or said == plain(key)
        other = _in_place_of(match["said"], *((key, new) if said == plain(key) else (new, key)))
        start = match.start() == 0 or item.rationale[: match.start()].rstrip().endswith((".", "!", "?", ":"))
        lead = article(match["article"], other)
        told = (lead + match["gap"] if lead else "") + other if match["article"] else other
        return told[:1].upper() + told[1:] if start else told

    pattern = rf"(?:\b(?P<article>an?)(?P<gap>\s+))?(?P<said>{either})"
    told = re.sub(pattern, turn, item.rationale, flags=re.IGNORECASE)
    return told if changed and told != item.rationale else None


def _in_place_of(said: str, phrase: str, other: str) -> str:
    """`other` in small letters where `phrase` was said so. Abbreviations keep theirs: COVID-19, X-Ray, CT."""
    small = phrase[:1].isupper() and said[:1].islower() and other[1:].islower()
    return other[:1].lower() + other[1:] if small else other


def _claim(item: Item) -> tuple[str, str, str]:
    return item.image_id, plain(item.question), plain(item.key_text)


def _with(item: Item, **changes: Any) -> Item | None:
    try:
        return Item.model_validate({**item.model_dump(), **changes})
    except ValidationError:
        return None


def _sure(item: Item | None) -> Made | None:
    return None if item is None else (item, True)
