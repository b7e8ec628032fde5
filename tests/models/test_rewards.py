from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from medgr2.models.grpo import in_band
from medgr2.models.rewards import Judged, Preset, RewardScheme
from medgr2.schemas.errors import DataError
from medgr2.schemas.vocabulary import AnswerStyle

DEFAULT = RewardScheme("default", longest=40)
PAPER = RewardScheme("paper", longest=40)
MED_R1 = RewardScheme("med-r1", longest=40)


def said(text: str, tokens: int = 20, quality: float = 0.9, options: int = 4) -> Judged:
    return Judged(text, tokens, key="B", options=options, quality=quality)


def test_right_beats_wrong_beats_unreadable() -> None:
    right = DEFAULT(said("<think>seen</think><answer>B</answer>"))
    wrong = DEFAULT(said("<think>seen</think><answer>C</answer>"))
    unreadable = DEFAULT(said("the answer is B"))
    assert (right, wrong, unreadable) == (pytest.approx(1.28), pytest.approx(0.1), 0.0)


@pytest.mark.parametrize(
    "text",
    [
        "<answer>A or B</answer>",
        "<answer>A</answer><answer>B</answer>",
        "<think><answer>B</answer></think>",
        "<answer>B</answer> because B is right",
        "<answer>b</answer>",
        "",
        "<answer>B</answer>" * 50,
    ],
)
def test_hedging_and_stuffing_earn_nothing(text: str) -> None:
    assert DEFAULT(said(text)) == 0.0


def test_a_letter_that_is_no_option_has_no_format_reward() -> None:
    assert DEFAULT(said("<answer>D</answer>", options=3)) == 0.0


def test_quality_can_not_outweigh_being_right() -> None:
    worst_right = DEFAULT(said("<answer>B</answer>", quality=0.0))
    best_wrong = DEFAULT(said("<answer>A</answer>", quality=1.0))
    assert worst_right > best_wrong + 0.9


def test_overlong_costs_gradually() -> None:
    rewards = [DEFAULT(said("<answer>B</answer>", tokens=n)) for n in (32, 33, 36, 40, 60)]
    assert rewards == pytest.approx([1.28, 1.155, 0.78, 0.28, 0.28])


@pytest.mark.parametrize("scheme", [DEFAULT, PAPER, MED_R1])
def test_a_reply_that_was_cut_off_is_no_answer_even_right_behind_the_letter(scheme: RewardScheme) -> None:
    whole = said("<think>seen</think><answer>B</answer>", tokens=40)
    cut = replace(whole, ended=False)
    assert scheme(cut) < scheme(whole)
    assert scheme(cut) == scheme(replace(said("<think>seen", tokens=40), ended=False))
    assert scheme(cut) <= 0


def test_med_r1_pays_a_point_for_the_letter_and_one_for_the_form() -> None:
    assert MED_R1(said("<think>seen</think><answer>B</answer>")) == 2.0
    assert MED_R1(said("<think>seen</think><answer>C</answer>")) == 1.0
    assert MED_R1(said("<answer>B</answer>")) == 1.0
    assert MED_R1(said("<think></think><answer>B</answer>")) == 1.0
    assert MED_R1(said("<answer>C</answer>")) == 0.0
    assert MED_R1(said("<answer>B or C</answer>")) == 0.0
    assert MED_R1(said("<think><answer>B</answer></think>")) == 0.0


@pytest.mark.parametrize(
    ("style", "right"),
    [
        ("no-think", "<answer>B</answer>"),
        ("think-after", "<answer>B</answer><think>seen</think>"),
        ("think", "<think>seen</think><answer>B</answer>"),
    ],
)
def test_each_style_is_paid_for_its_own_form(style: AnswerStyle, right: str) -> None:
    for preset in get_args(Preset):
        scheme = RewardScheme(preset, longest=40, style=style)
        others = ("think", "no-think", "think-after")
        worth = {text: scheme(said(text)) for text in (right, "<think>B</think>", "B")}
        assert max(worth, key=lambda text: worth[text]) == right
        assert all(
            RewardScheme(preset, longest=40, style=other)(said(right)) <= worth[right]  # type: ignore[arg-type]
            for other in others
        )


def test_paper_mixture_lets_quality_swamp_the_match() -> None:
    """Why it is not the default: a wrong answer to a good item is worth more than a right one to a poor item."""
    assert PAPER(said("<answer>A</answer>", quality=0.9)) > PAPER(said("<answer>B</answer>", quality=0.5))
    assert PAPER(said("<answer>B</answer>", quality=0.5)) == pytest.approx(0.6)


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_a_reward_that_is_no_number_stops_with_the_reason(preset: str) -> None:
    scheme = RewardScheme(preset, longest=40)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="nan"):
        scheme(said("<answer>B</answer>", quality=float("nan")))


def test_the_band_is_open_and_leaves_out_what_was_never_measured() -> None:
    rates = [None, 0.0, 0.1, 0.125, 0.5, 0.875, 0.95, 1.0]
    assert [r for r in rates if in_band(r)] == [0.125, 0.5, 0.875]
