from __future__ import annotations

from math import log

import pytest

from medgr2.models.confidence import letter_chance

HALF, SURE = log(0.5), log(0.999)


@pytest.mark.parametrize(
    "words",
    [
        [("<think>A.</think>", SURE), ("<answer>", SURE), ("B", HALF), ("</answer>", SURE)],
        [("<think>", SURE), ("B", SURE), ("</think><answer", SURE), (">B", HALF), ("</", SURE), ("answer>", SURE)],
        [("<answer>B</answer>", HALF)],
    ],
)
def test_it_is_the_chance_of_the_word_that_holds_the_letter(words: list[tuple[str, float]]) -> None:
    assert letter_chance(words, "B") == 0.5


def test_words_that_do_not_hold_the_letter_tell_nothing() -> None:
    assert letter_chance([("<answer>", SURE), ("C", HALF), ("</answer>", SURE)], "B") is None
    assert letter_chance([], "B") is None
