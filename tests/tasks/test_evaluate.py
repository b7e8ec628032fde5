from __future__ import annotations

import hashlib
from typing import Any

import pytest
from PIL import Image

from medgr2.models.model_ref import materialise
from medgr2.schemas.cells import Outcome
from medgr2.schemas.errors import DataError
from medgr2.schemas.vocabulary import Verdict
from medgr2.tasks.evaluate import (
    WORKER,
    Condition,
    Others,
    answers,
    collect,
    evaluate_cells,
    evaluate_recipe,
    read_heldout,
    summary,
)
from medgr2.tasks.evaluate_worker import EvaluateWorker

ALL = (Condition.IMAGE, Condition.BLANK, Condition.SWAPPED)


def exam(room: Any, n: int = 4) -> Any:
    items = [room.item(room.picture(i, split="heldout", patient=f"p{i // 2}"), i, "human") for i in range(n)]
    return room.publish("heldout", items)


def test_every_item_under_every_condition_becomes_a_row(room: Any) -> None:
    heldout = exam(room)
    recipe = evaluate_recipe(room.base, longest=3)
    cells = evaluate_cells(recipe, read_heldout(room.lake, heldout), ALL)
    outcomes = room.run(recipe, WORKER, [cell for cell, _, _ in cells], batch_size=5)
    rows = collect(cells, outcomes, model_id="m" * 64, heldout=heldout, run="r")
    assert room.lake.append_new("evals", rows, key="eval_id") == 12
    assert room.lake.append_new("evals", rows, key="eval_id") == 0
    held = room.lake.read("evals", where={"model_id": "m" * 64, "digest": heldout.digest}).to_pylist()
    assert {(r["item_id"], r["condition"]) for r in held} == {(row["item_id"], c.value) for _, row, c in cells}
    # Three tokens are not enough for an answer: wrong, unparsed, and still in the denominator.
    result = summary(held)
    assert (result.n, result.micro.value, result.unparsed, result.blank) == (4, 0.0, 1.0, 0.0)


def test_the_worker_never_sees_the_key(room: Any) -> None:
    cells = evaluate_cells(evaluate_recipe(room.base), read_heldout(room.lake, exam(room)), ALL)
    assert {frozenset(cell.inputs) for cell, _, _ in cells} == {frozenset({"question", "options", "blank"})}


def test_conditions_show_the_picture_a_grey_one_or_another_patients(room: Any) -> None:
    heldout = read_heldout(room.lake, exam(room))
    recipe = evaluate_recipe(room.base)
    worker = EvaluateWorker(recipe, room.settings)
    patients = {row["image_id"]: row["patient_key"] for row in heldout}
    for cell, row, condition in evaluate_cells(recipe, heldout, ALL):
        shown = worker._picture(cell)
        if condition is Condition.IMAGE:
            assert shown.name == row["image_id"]
        elif condition is Condition.BLANK:
            with Image.open(shown) as picture:
                assert (picture.size, picture.getcolors()) == ((64, 64), [(64 * 64, (128, 128, 128))])
        else:
            assert patients[shown.name] != row["patient_key"]


def test_keys_do_not_depend_on_the_company(room: Any) -> None:
    heldout = read_heldout(room.lake, exam(room))
    recipe = evaluate_recipe(room.base)
    all_keys = {cell.key for cell, _, _ in evaluate_cells(recipe, heldout, ALL)}
    assert len(all_keys) == 12
    one = {cell.key for cell, _, _ in evaluate_cells(recipe, heldout[:1], (Condition.IMAGE, Condition.BLANK))}
    assert one < all_keys


def test_right_is_what_the_key_says(room: Any) -> None:
    heldout = exam(room)
    cells = evaluate_cells(evaluate_recipe(room.base), read_heldout(room.lake, heldout), (Condition.IMAGE,))
    given = [row["answer"] for _, row, _ in cells]
    given[0], given[1] = None, "A" if given[1] != "A" else "B"
    outcomes = {
        cell.key: Outcome.accepted(cell, {"answer": letter}) for (cell, _, _), letter in zip(cells, given, strict=True)
    }
    rows = collect(cells, outcomes, model_id="m", heldout=heldout, run="r")
    assert [r["correct"] for r in rows] == [False, False, True, True]
    assert [r["parsed"] for r in rows] == [False, True, True, True]
    assert [a.correct for a in answers(rows, Condition.IMAGE)] == [False, False, True, True]
    assert answers(rows, Condition.BLANK) == []


def test_failed_answers_are_not_left_out(room: Any) -> None:
    heldout = exam(room)
    cells = evaluate_cells(evaluate_recipe(room.base), read_heldout(room.lake, heldout), (Condition.IMAGE,))
    outcomes = {cell.key: Outcome.accepted(cell, {"answer": "A"}) for cell, _, _ in cells}
    lost = cells[2][0]
    outcomes[lost.key] = Outcome(key=lost.key, verdict=Verdict.FAILED, reasons=("deadline",))
    with pytest.raises(DataError, match="1 of 4 held-out answers are missing"):
        collect(cells, outcomes, model_id="m", heldout=heldout, run="r")


def test_a_training_image_is_no_exam_question(room: Any) -> None:
    stray = room.publish("heldout", [room.item(room.picture(1), 1, "human")])
    with pytest.raises(DataError, match="not held out"):
        read_heldout(room.lake, stray)


def test_answers_of_a_model_are_its_own(room: Any) -> None:
    """The same weights and items under two ids: two models' rows, one purchase."""
    heldout = exam(room, 2)
    assert materialise(room.base, room.settings).revision == room.base
    recipe = evaluate_recipe(room.base, longest=4)
    cells = evaluate_cells(recipe, read_heldout(room.lake, heldout), (Condition.IMAGE,))
    outcomes = room.run(recipe, WORKER, [cell for cell, _, _ in cells])
    for model_id in ("a" * 64, "b" * 64):
        rows = collect(cells, outcomes, model_id=model_id, heldout=heldout, run="r")
        assert room.lake.append_new("evals", rows, key="eval_id") == 2
    assert room.run(recipe, WORKER, [cell for cell, _, _ in cells]) == outcomes
    assert room.plans[-1].startswith("evaluate: 0 new, 2 reused")


def test_a_version_that_holds_more_is_an_exam_of_all_it_holds(room: Any) -> None:
    first = exam(room, 2)
    larger = exam(room, 3)
    assert (first.version, larger.version) == (1, 2)
    recipe = evaluate_recipe(room.base, longest=4)
    for heldout, items in ((first, 2), (larger, 3)):
        cells = evaluate_cells(recipe, read_heldout(room.lake, heldout), (Condition.IMAGE,))
        outcomes = room.run(recipe, WORKER, [cell for cell, _, _ in cells])
        rows = collect(cells, outcomes, model_id="m", heldout=heldout, run="r")
        assert room.lake.append_new("evals", rows, key="eval_id") == items
    assert room.plans[-1].startswith("evaluate: 1 new, 2 reused")


def test_samples_stand_beside_the_greedy_answer_and_change_nothing_of_it(room: Any) -> None:
    heldout = exam(room)
    items = read_heldout(room.lake, heldout)

    def rows(samples: int, batch_size: int) -> list[dict[str, Any]]:
        recipe = evaluate_recipe(room.base, samples=samples)
        cells = evaluate_cells(recipe, items, ALL)
        outcomes = room.run(recipe, WORKER, [cell for cell, _, _ in cells], batch_size=batch_size)
        return collect(cells, outcomes, model_id="m", heldout=heldout, run="r")

    greedy, sampled = rows(0, 12), rows(4, 5)
    told = ("item_id", "condition", "answer", "reply", "confidence", "correct")
    assert [[r[name] for name in told] for r in sampled] == [[r[name] for name in told] for r in greedy]
    assert all(r["sampled"] is None for r in greedy)
    for row in sampled:
        assert (row["sampled"] is not None) == (row["condition"] == Condition.IMAGE)
        assert row["sampled"] is None or len(row["sampled"]) == 4
    assert len({tuple(row["sampled"]) for row in sampled if row["sampled"]}) > 1
    room.lake.append_new("evals", sampled, key="eval_id")
    held = {r["eval_id"]: r for r in room.lake.read("evals").to_pylist()}
    assert [held[r["eval_id"]]["sampled"] for r in sampled] == [r["sampled"] for r in sampled]
    result = summary(sampled)
    assert result.sampled is not None
    right = [letter == r["key"] for r in sampled for letter in r["sampled"] or ()]
    assert result.sampled.micro.value == sum(right) / 16
    assert summary(greedy).sampled is None


def test_as_many_items_as_told_are_also_sampled_and_the_same_of_every_model(room: Any) -> None:
    items = read_heldout(room.lake, exam(room))

    def sampled(model: str, most: int | None) -> set[str]:
        recipe = evaluate_recipe(model, samples=4, sampled_items=most)
        return {row["item_id"] for cell, row, _ in evaluate_cells(recipe, items, ALL) if "samples" in cell.inputs}

    assert len(items) == 4
    assert sampled("a", 2) == sampled("b", 2) == {row["item_id"] for row in items[:2]}
    assert len(sampled("a", None)) == 4
    recipe = evaluate_recipe(room.base, samples=4, sampled_items=2)
    cells = evaluate_cells(recipe, items, (Condition.IMAGE,))
    outcomes = room.run(recipe, WORKER, [cell for cell, _, _ in cells])
    assert sorted(len(outcomes[cell.key].value.get("sampled", ())) for cell, _, _ in cells) == [0, 0, 4, 4]


def test_an_answer_that_was_drawn_but_not_readable_is_wrong(room: Any) -> None:
    heldout = exam(room)
    cells = evaluate_cells(evaluate_recipe(room.base, samples=2), read_heldout(room.lake, heldout), (Condition.IMAGE,))
    outcomes = {
        cell.key: Outcome.accepted(cell, {"answer": row["answer"], "sampled": [row["answer"], None]})
        for cell, row, _ in cells
    }
    rows = collect(cells, outcomes, model_id="m", heldout=heldout, run="r")
    room.lake.append_new("evals", rows, key="eval_id")
    result = summary(room.lake.read("evals").to_pylist())
    assert result.sampled is not None
    assert (result.micro.value, result.sampled.micro.value) == (1.0, 0.5)


def test_a_confidence_is_the_chance_of_the_letter_that_was_chosen(room: Any) -> None:
    heldout = exam(room)
    recipe = evaluate_recipe(room.base)
    cells = evaluate_cells(recipe, read_heldout(room.lake, heldout), (Condition.IMAGE,))
    outcomes = room.run(recipe, WORKER, [cell for cell, _, _ in cells])
    for outcome in outcomes.values():
        value = outcome.value or {}
        assert value["answer"] is not None
        assert value["reply"].endswith(f"<answer>{value['answer']}</answer>")
        # Greedy decoding took the likeliest of all the words there are.
        assert 0.2 < value["confidence"] <= 1


def test_the_other_picture_is_any_of_the_other_patients() -> None:
    """The same draw as from a list of all the others, made anew for every item, without making it."""
    rows = [
        {
            "item_id": f"item {n}",
            "image_id": f"{n * 7919 % 61:02}",
            "patient_key": f"p{n * 7919 % 61 % 9}" if n % 5 else "",
        }
        for n in range(300)
    ]
    patients = {row["image_id"]: str(row["patient_key"] or row["image_id"]) for row in rows}
    rows = [row | {"patient_key": patients[row["image_id"]]} for row in rows]
    others, shown = Others(rows), set()
    for row in rows:
        left = sorted({r["image_id"] for r in rows if r["patient_key"] != row["patient_key"]})
        drawn = int(hashlib.sha256(row["item_id"].encode()).hexdigest()[:15], 16)
        assert others.instead_of(row) == left[drawn % len(left)]
        shown.add(others.instead_of(row))
    assert len(shown) > 50
    with pytest.raises(DataError, match="one patient only"):
        Others(rows[:1]).instead_of(rows[0])


def test_who_is_blind_is_shown_nothing_at_all(room: Any) -> None:
    heldout = read_heldout(room.lake, exam(room))
    recipe = evaluate_recipe(room.base)
    cells = [cell for cell, _, _ in evaluate_cells(recipe, heldout, (Condition.BLIND, Condition.IMAGE))]
    assert [cell.image for cell in cells[:4]] == [""] * 4
    together = room.run(recipe, WORKER, cells, batch_size=8)
    values = [together[cell.key].value or {} for cell in cells]
    assert all(value["reply"] for value in values)
    # The same question without a picture, alone in its batch or beside others that have one.
    (alone,) = EvaluateWorker(recipe, room.settings)(cells[1:2])
    assert alone.value == values[1]
    assert [v["reply"] for v in values[:4]] != [v["reply"] for v in values[4:]]
