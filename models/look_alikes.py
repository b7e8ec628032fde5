"""Which of tonight's images look like an evaluation image or like another one that is asked about, also mirrored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from medgr2.infra.neighbours import Neighbours
from medgr2.infra.pictures.fingerprint import comparable


@dataclass(frozen=True)
class LookAlikes:
    of_evaluation: frozenset[str] = frozenset()
    """Images of tonight that show what an evaluation image shows."""
    of_image: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Images of tonight, and others of tonight or held that show the same."""
    unseen: frozenset[str] = frozenset()
    """Images of tonight that could not be compared: without a fingerprint, or with one of another release."""

    def views(self, image_id: str) -> tuple[str, ...]:
        """The image and its look-alikes."""
        return (image_id, *sorted(self.of_image.get(image_id, ())))


def look_alikes(
    tonight: Mapping[str, bytes | None],
    evaluation: Iterable[tuple[str, bytes | None]] = (),
    held: Mapping[str, bytes | None] | None = None,
) -> LookAlikes:
    """Fingerprints by image. Of `evaluation` the first is the name of the content: an equal one is the same image,
    with a fingerprint or without."""
    exams = list(evaluation)
    names = {name for name, _ in exams}
    of_evaluation = {image for image in tonight if image in names}
    shown = [one for _, one in exams if one is not None and comparable(one)]
    others = {image: one for image, one in sorted((held or {}).items()) if image not in tonight}
    known = {image: one for image, one in others.items() if one is not None and comparable(one)}
    asked = {image: one for image, one in sorted(tonight.items()) if one is not None and comparable(one)}
    of_image: dict[str, set[str]] = defaultdict(set)
    order = [*known, *asked]
    neighbours = Neighbours([*shown, *known.values(), *asked.values()])
    for match in neighbours.pairs(first_new=len(shown) + len(known)):
        second = order[match.second - len(shown)]
        if match.first < len(shown):
            of_evaluation.add(second)
            continue
        first = order[match.first - len(shown)]
        of_image[second].add(first)
        if first in asked:
            of_image[first].add(second)
    return LookAlikes(
        frozenset(of_evaluation),
        {image: frozenset(others) for image, others in of_image.items()},
        frozenset(tonight.keys() - asked.keys()),
    )
