"""Selection: only what is scored and good enough, no more than the cap, the best first."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from medgr2.models.blind_probe import probe
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import SelectParameters
from medgr2.schemas.probe import Probed
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


def run(items: list[Item], scores: list[dict[str, Any]], *, held: set[str] | None = None, **how: Any) -> Selection:
    return select(items, scores, modality=MODALITY, held=held or set(), parameters=SelectParameters(**how))


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


def test_a_score_that_is_no_number_is_not_good_enough() -> None:
    one = item(1)
    assert run([one], [row(one, float("nan"))]).left_out == {one.item_id: "below_tau"}


def test_top_k_takes_the_best_in_all_and_no_cap() -> None:
    items = [item(n) for n in range(10)] + [item(n, MRI) for n in range(3)]
    scores = [row(one, 0.85 + 0.01 * n) for n, one in enumerate(items)]
    found = run(items, scores, top_k=5, cap=1)
    assert set(found.add) == {one.item_id for one in items[8:]}
    assert found.reasons == {"top_k": 8}


def test_top_k_takes_nothing_below_tau() -> None:
    good, low = item(1), item(2)
    assert run([good, low], [row(good, 0.81), row(low, 0.7)], top_k=2).add == (good.item_id,)


def majority(number: int) -> list[Item]:
    """'normal' is the key of seven in ten."""
    labels = ("normal", "cyst", "nodule", "fibrosis")
    rng = random.Random(3)
    items = []
    for at in range(number):
        options = rng.sample(labels, 4)
        key = rng.choices(labels, (7, 1, 1, 1))[0]
        items.append(
            Item(
                image_id=sha256_hex(str(at).encode()), question_type=QuestionType.DISEASE,
                question="What is the diagnosis?", options=tuple(options), answer="ABCD"[options.index(key)],
                rationale=f"So it is {key}.",
            )
        )  # fmt: skip
    return items


def test_the_surplus_of_a_label_goes_the_worst_first_and_the_rest_tells_nothing() -> None:
    items = majority(2000)
    rng = random.Random(5)
    scores = [row(one, round(rng.uniform(0.8, 1.0), 6)) for one in items]
    p = {one["item_id"]: one["p_valid"] for one in scores}
    found = run(items, scores, cap=10_000)
    kept = [one for one in items if one.item_id in found.add]
    normal = [one for one in kept if one.key_text == "normal"]
    assert len(kept) > 0.35 * len(items)
    assert len(normal) / len(kept) < 0.28
    assert set(found.reasons) == {"surplus_of_key"}
    dropped = [one for one in items if one.key_text == "normal" and one.item_id in found.left_out]
    assert len(dropped) > 0.9 * len(found.left_out)
    assert max(p[one.item_id] for one in dropped) <= min(p[one.item_id] for one in normal)
    assert probe(items).verdict is Probed.LEAKS
    assert probe(kept).verdict is Probed.PASSES


def test_a_cap_is_filled_with_what_leaves_it_even() -> None:
    items = majority(2000)
    scores = [row(one, 0.9 if one.key_text == "normal" else 0.85) for one in items]
    scores = [one | {"p_valid": one["p_valid"] + at / 1e6} for at, one in enumerate(scores)]
    found = run(items, scores, cap=400)
    assert set(found.reasons) == {"cap", "surplus_of_key"}
    assert probe([one for one in items if one.item_id in found.add]).verdict is not Probed.LEAKS


def test_top_k_is_filled_up_with_what_leaves_it_even() -> None:
    """The best are of one label; enough of the others stand below them."""
    items = [one for one in majority(3000) if one.key_text != "normal"]
    scores = [row(one, (0.95 if one.key_text == "cyst" else 0.85) + at / 1e6) for at, one in enumerate(items)]
    found = run(items, scores, top_k=300)
    kept = Counter(one.key_text for one in items if one.item_id in found.add)
    assert len(found.add) > 0.8 * 300
    assert max(kept.values()) < 0.45 * len(found.add)
    assert set(found.reasons) <= {"top_k", "surplus_of_key", "surplus_of_letter"}
    assert len(found.add) + len(found.left_out) == len(items)


def test_without_balancing_the_surplus_stays() -> None:
    items = majority(400)
    found = run(items, [row(one, 0.9) for one in items], balance_keys=False)
    assert found.reasons == {}
    assert len(found.add) == 400


def test_letters_lose_a_surplus_that_chance_does_not_explain() -> None:
    items = [item(n if n % 5 else 0) for n in range(1000)]
    items = [one.model_copy(update={"question": f"Question {n}?"}) for n, one in enumerate(items)]
    assert Counter(one.answer for one in items)["A"] == 400
    scores = [row(one, 0.8 + n / 10_000) for n, one in enumerate(items)]
    found = run(items, scores, cap=10_000, balance_keys=False)
    assert set(found.reasons) == {"surplus_of_letter"}
    assert found.letters["A"] <= 0.28 * len(found.add)
    assert [found.letters[letter] for letter in "BCD"] == [200, 200, 200]
