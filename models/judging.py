"""What a reward model is asked, and where in a vision-language model its verdict is read: training and scoring share
every line of it, so that a claim looks the same to both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medgr2.models.engines.chats import ChatWriter, open_picture
from medgr2.models.engines.seam import Exchange, Request
from medgr2.schemas.errors import DataError, UsageError
from medgr2.schemas.vocabulary import LETTERS

Form = Literal["yes-no", "head"]
JUDGE = "judge.v1"
LOWEST, HIGHEST = -6.0, 10.0
"""The grades of the paper."""
WORDS = ("Yes", "No")


@dataclass(frozen=True, slots=True)
class Claim:
    """An item before a judge: to this question about this picture the answer is this letter, for this reason."""

    image_path: Path
    question: str
    options: tuple[str, ...]
    answer: str
    rationale: str


def judging_text(template: str, claim: Claim) -> str:
    lettered = dict(zip(LETTERS, claim.options, strict=False))
    if claim.answer not in lettered:
        raise DataError(
            f"a claim names an answer that is none of its {len(claim.options)} options",
            kept="no claim of this batch was read",
            next_command="judge only items that have passed their gates",
        )
    return template.format(
        question=claim.question,
        options=" ".join(f"{letter}) {option}" for letter, option in lettered.items()),
        answer=claim.answer,
        key=lettered[claim.answer],
        rationale=claim.rationale,
    )


def grade_of(score: float) -> float:
    return LOWEST + (HIGHEST - LOWEST) * score


def score_of(grade: float) -> float:
    """In [0, 1]. What is no number stays none: the caller refuses it."""
    return grade if math.isnan(grade) else min(1.0, max(0.0, (grade - LOWEST) / (HIGHEST - LOWEST)))


class JudgeReader:
    """Claims in the words and pixels of one model."""

    def __init__(self, processor: Any, template: str) -> None:
        self._processor = processor
        self._template = template
        self._chats = ChatWriter(processor)

    def text(self, claim: Claim) -> str:
        return self._chats.write(Request(claim.image_path, judging_text(self._template, claim)))

    def inputs(self, claims: Sequence[Claim]) -> dict[str, Any]:
        """Padded on the left, so that every claim ends at the last place. Positions count real tokens; where pictures
        have axes of their own, the model counts them itself."""
        inputs = self._processor(
            text=[self.text(claim) for claim in claims],
            images=[[open_picture(claim.image_path)] for claim in claims],
            padding=True,
            padding_side="left",
            add_special_tokens=False,
            return_tensors="pt",
        )
        if "image_grid_thw" in inputs:
            return dict(inputs)
        positions = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        return {**inputs, "position_ids": positions}

    def words(self) -> tuple[int, int]:
        """The token that Yes begins with as a reply, and that of No."""
        asked = "?"
        prompt = self._chats.write(Request(None, asked))
        found: list[list[int]] = []
        for word in WORDS:
            shown = self._chats.write(Request(None, asked, earlier=(Exchange(asked, word),)))
            # A template may set a space between its mark of the assistant's turn and the reply.
            after = shown[len(prompt) :] if shown.startswith(prompt) else word
            spelled = after[: after.find(word)] + word if word in after else word
            found.append([self._first(spelled), self._first(word)])
        for yes, no in zip(*found, strict=True):
            if yes is not None and no is not None and yes != no:
                return yes, no
        raise UsageError(
            "Yes and No begin with the same token in this model: one token can not tell them apart",
            next_command='train a reward model with a head instead: form "head"',
        )

    def _first(self, text: str) -> Any:
        ids = self._processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids[0] if ids else None


def log_odds(model: Any, inputs: dict[str, Any], words: tuple[int, int]) -> Any:
    """Of Yes against No as the next token, over these two alone."""
    logits = model(**inputs, use_cache=False, logits_to_keep=1).logits[:, -1]
    return logits[:, words[0]] - logits[:, words[1]]


def head_values(model: Any, head: Any, inputs: dict[str, Any]) -> Any:
    """What the head reads from the state after the last token: 0 is the lowest grade and 1 the highest."""
    state = model.model(**inputs, use_cache=False).last_hidden_state[:, -1]
    return head(state.to(head.weight.dtype))[:, 0]


def refuse_no_number(values: Sequence[float], what: str) -> None:
    if broken := sum(not math.isfinite(value) for value in values):
        raise DataError(
            f"{broken} of {len(values)} {what} are not finite numbers",
            kept="no claim of this batch was scored",
            next_command="train the reward model again; an item without a score is never published",
        )
