"""Thinning: a batch that the blind probe stops, without the items whose keys its rule is surest of.

Whoever drops what a rule gets right has lowered what it gets right, and perhaps not what it can learn. So a share is
enough only if a rule that learns from thinned items tells next to nothing of *all* items about images that had no part
in the thinning, and if the probe itself does not stop what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from medgr2.models.blind_probe import FOLDS, MARGIN, probe
from medgr2.models.blind_rule import Looks
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.items import Item
from medgr2.schemas.probe import BlindProbe, Probed, Thinned

STEP = 0.05
MOST = 0.5
"""A batch of which more would have to go is not published: how it was asked for is what has to change."""
FEWEST_IMAGES = 2 * FOLDS
"""They are parted twice."""
ROUNDS = 2
"""Ways of parting the images over which an item's margin is averaged."""


@dataclass(frozen=True, slots=True)
class Rest:
    dropped: frozenset[str]
    probe: BlindProbe


def thin(items: Sequence[Item], found: BlindProbe) -> Rest | None:
    """None where no share up to `MOST` is enough. The same items give the same answer in any order. `found`: what the
    probe made of them."""
    if found.images < FEWEST_IMAGES or found.accuracy is None or found.chance is None or found.limit is None:
        return None
    # The margin of the probe; less where the batch is so small that luck may hide more: twice the margin has to be
    # out of the question. Of some hundred items and fewer that is never shown.
    enough = found.chance + 2 * MARGIN - (found.limit - found.chance)
    if enough < found.chance:
        return None
    ordered = sorted(items, key=lambda item: item.item_id)
    looks = Looks(ordered)
    everything = range(len(ordered))
    by_margin = surest_first(looks, everything)
    folds = [(surest_first(looks, learning), trying) for learning, trying in _parted(looks, everything, 0)]
    shares = (step * STEP for step in range(1, round(MOST / STEP) + 2))
    for (share, taught), (_, farther) in pairwise((share, _taught(looks, folds, share)) for share in shares):
        if max(taught, farther) > enough:  # the first that is enough by luck is followed by one that is not
            continue
        dropped = {ordered[at].item_id for at in by_margin[: round(share * len(ordered))]}
        left = probe(item for item in ordered if item.item_id not in dropped)
        if left.verdict is not Probed.LEAKS:
            told = Thinned(dropped=len(dropped), whole=found.accuracy, taught=round(taught, 4))
            return Rest(frozenset(dropped), left.model_copy(update={"thinned": told, "cues": found.cues}))
    return None


def _taught(looks: Looks, folds: Sequence[tuple[list[int], list[int]]], share: float) -> float:
    """What is learned of thinned items, tried on all of those about other images."""
    credit = 0.0
    for surest, trying in folds:
        said = looks.said(looks.weights(sorted(surest[round(share * len(surest)) :])))
        credit += sum(looks.credit(at, said[at]) for at in trying)
    return credit / len(looks.all)


def surest_first(looks: Looks, members: Sequence[int]) -> list[int]:
    """By the margin of the key, as rules see it that learned from other images of the members."""
    margin = dict.fromkeys(members, 0.0)
    for number in range(ROUNDS):
        for learning, trying in _parted(looks, members, number):
            said = looks.said(looks.weights(learning))
            for at in trying:
                margin[at] += looks.margin(at, said[at])
    return sorted(members, key=lambda at: (-margin[at], looks.all[at].item_id))


def _parted(looks: Looks, members: Sequence[int], number: int) -> list[tuple[list[int], list[int]]]:
    """Those of most images, and those of the rest, in turn."""
    images = sorted({looks.all[at].image for at in members}, key=lambda image: sha256_hex(f"{number} {image}".encode()))
    fold = {image: place % FOLDS for place, image in enumerate(images)}
    sides: list[tuple[list[int], list[int]]] = [([], []) for _ in range(FOLDS)]
    for at in members:
        for here, (learning, trying) in enumerate(sides):
            (trying if fold[looks.all[at].image] == here else learning).append(at)
    return sides
