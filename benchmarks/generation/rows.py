"""The rows that everybody is asked: an id and a text of about a kilobyte. Plain Python, as peers import it too."""

from __future__ import annotations

FACTS = (
    "Two views were taken on the same day, without contrast.",
    "The outline of the organ is smooth and of usual size.",
    "There is a round area of other brightness than what lies around it.",
    "Its border is sharp on the inner and blurred on the outer side.",
    "Nothing comparable is seen on the other side.",
    "The picture is of good quality, with little motion.",
    "No earlier pictures are there to compare it with.",
    "Vessels run around the area and not through it.",
)
KINDS = (
    "Modality Recognition",
    "Anatomy Identification",
    "Disease Diagnosis",
    "Lesion Grading",
    "Other Biological Attributes",
)


def rows(count: int, *, edited: int = 0) -> list[dict[str, str]]:
    """The first `edited` rows keep their id and say something else."""
    return [{"id": f"row-{n:07}", "text": text_of(n, edited=n < edited)} for n in range(count)]


def text_of(n: int, *, edited: bool = False) -> str:
    told = " ".join(FACTS[(n * 5 + step * 3) % len(FACTS)] for step in range(12))
    again = " The picture was replaced by a better one." if edited else ""
    return (
        f'Picture {n}. Write one question of the type "{KINDS[n % len(KINDS)]}" about it, with four options, the '
        f"letter of the right one and a rationale, as one JSON object. What is known of the picture: {told}{again}"
    )
