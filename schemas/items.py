"""The item: one image-grounded question with its options, key and rationale."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from medgr2.schemas.digest import digest_of
from medgr2.schemas.vocabulary import LETTERS, QuestionType


class Draft(BaseModel):
    """What a generator must write, and all it may write."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    question: str = Field(min_length=3, max_length=2000)
    options: tuple[str, ...] = Field(min_length=2, max_length=8)
    answer: str = Field(description="Letter of the keyed option.")
    rationale: str = Field(min_length=1, max_length=8000)

    @field_validator("options")
    @classmethod
    def _options_have_text(cls, options: tuple[str, ...]) -> tuple[str, ...]:
        if any(not o.strip() for o in options):
            raise ValueError("an option is empty")
        return options

    @model_validator(mode="after")
    def _key_is_an_option(self) -> Self:
        if self.answer not in LETTERS[: len(self.options)]:
            raise ValueError(f"answer {self.answer!r} is not the letter of one of {len(self.options)} options")
        return self

    @property
    def key_text(self) -> str:
        return self.options[LETTERS.index(self.answer)]


class Item(Draft):
    """A draft bound to its image. `item_id` is the hash of the content, so the same item is the same row."""

    # Questions of public benchmarks have none; nothing that is taught may be without.
    rationale: str = Field(max_length=8000)
    image_id: str = Field(pattern=r"^[0-9a-f]{64}$")
    question_type: QuestionType

    @property
    def item_id(self) -> str:
        return digest_of(
            [self.image_id, self.question_type, self.question, list(self.options), self.answer, self.rationale]
        )
