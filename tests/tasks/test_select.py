"""Selection: only what is scored and good enough, no more than the cap, the best first."""

from __future__ import annotations

import random
from typing import Any

from medgr2.schemas.items import Item
from medgr2.schemas.vocabulary import QuestionType
from medgr2.tasks.select import Selection, select

CT, MRI = "a" * 64, "b" * 64
MODALITY = {CT: "CT", MRI: "MRI"}


def item(number: int, image: str = CT, kind: QuestionType = QuestionType.DISEASE) -> Item:
    return Item(
        image_id=image, question_type=kind, question=f"Question {number}?", options=("p", "q", "r", "s"),
        answer="ABCD"[number % 4], rationale="So it is.",
    )  # fmt: skip


def row(one: Item, p: float | None, verdict: str = "accepted", reasons: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"item_id": one.item_id, "p_valid": p, "verdict": verdict, "reasons": list(reasons)}


def run(items: list[Item], scores: list[dict[str, Any]], *, cap: int = 100, held: set[str] | None = None) -> Selection:
    return select(items, scores, modality=MODALITY, held=held or set(), cap=cap, tau=0.8)


def test_every_item_is_added_or_left_out_for_a_reason() -> None:
    good, low, gated, failed, unscored, plain, held = (item(n) for n in range(7))
    scores = [
        row(good, 0.9),
        row(low, 0.79),
        row(gated, 0.99, reasons=("identifier",)),
        row(failed, None, "failed"),
        row(plain, None),
        row(held, 0.95),
    ]
    found = run([good, low, gated, failed, unscored, plain, held], scores, held={held.item_id})
    assert found.add == (good.item_id,)
    assert found.left_out == {
        low.item_id: "below_tau",
        gated.item_id: "score_contradicts_itself",
        failed.item_id: "failed",
        unscored.item_id: "unscored",
        plain.item_id: "score_contradicts_itself",
        held.item_id: "held",
    }
    assert sum(found.reasons.values()) + len(found.add) == 7


def test_the_cap_keeps_the_best_of_each_slice() -> None:
    items = [item(n) for n in range(10)] + [item(n, MRI) for n in range(3)] + [item(0, CT, QuestionType.GRADING)]
    scores = [row(one, 0.8 + 0.01 * n) for n, one in enumerate(items)]
    found = run(items, scores, cap=4)
    assert set(found.add) == {one.item_id for one in items[6:]}
    assert found.slices == {
        ("CT", "Disease Diagnosis"): 4,
        ("CT", "Lesion Grading"): 1,
        ("MRI", "Disease Diagnosis"): 3,
    }
    assert found.reasons == {"cap": 6}
    assert sum(found.letters.values()) == 8


def test_the_order_of_the_input_changes_nothing() -> None:
    items = [item(n) for n in range(30)]
    scores = [row(one, 0.8 + 0.1 * (n % 2)) for n, one in enumerate(items)]
    once = run(items, scores, cap=7)
    random.Random(4).shuffle(items)
    random.Random(5).shuffle(scores)
    assert run(items, scores, cap=7) == once


def test_an_image_of_unknown_modality_has_a_slice_of_its_own() -> None:
    stray = item(1, "c" * 64)
    assert run([stray], [row(stray, 0.9)]).slices == {("unknown", "Disease Diagnosis"): 1}
