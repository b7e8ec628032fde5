"""What bought work cost, and how much of it may be bought."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


@dataclass(frozen=True, slots=True)
class Usage:
    """A reply that came is a call, and is paid for whether it could be used or not; a refused connection is none."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = field(default=0.0, compare=False)
    """From asked to answered, tries that came to nothing included; no two runs agree on it."""
    money: float = 0.0
    """In the currency of MEDGR2_GENERATOR__PRICE_IN and __PRICE_OUT."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls,
            self.tokens_in + other.tokens_in,
            self.tokens_out + other.tokens_out,
            self.seconds + other.seconds,
            self.money + other.money,
        )

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out


NOTHING_USED = Usage()


class Budget(BaseModel):
    """A limit for each that is given. Nothing is begun that could pass one of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    calls: int | None = Field(default=None, ge=0, description="Replies of the model.")
    tokens: int | None = Field(default=None, ge=0, description="Tokens read and written.")
    money: float | None = Field(default=None, ge=0, description="Price of the tokens, in the prices' currency.")

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.calls is None and self.tokens is None and self.money is None:
            raise ValueError("a budget names calls, tokens or money")
        return self
