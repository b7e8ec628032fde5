"""When a loop ends before its last cycle, and what it has spent until then."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Ground = Literal["no gain", "precision", "budget"]


class Spent(BaseModel):
    """What a cycle cost, over all its tries that got to the end of a stage."""

    model_config = ConfigDict(frozen=True)

    calls: int = 0
    tokens: int = 0
    money: float = 0.0
    hours: float = 0.0
    """Of its stages, one after the other, by the clock."""

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            calls=self.calls + other.calls,
            tokens=self.tokens + other.tokens,
            money=self.money + other.money,
            hours=self.hours + other.hours,
        )


class LoopBudget(BaseModel):
    """Of all cycles together. No cycle is begun that would pass a limit if it cost as much as the dearest before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    calls: int | None = Field(default=None, ge=0, description="Replies of the generator.")
    tokens: int | None = Field(default=None, ge=0, description="Tokens that it read and wrote.")
    money: float | None = Field(default=None, ge=0, description="Price of the tokens, in the prices' currency.")
    hours: float | None = Field(default=None, gt=0, description="By the clock, of the stages of finished cycles.")

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.model_dump(exclude_none=True) == {}:
            raise ValueError("a budget names calls, tokens, money or hours")
        return self


class StopParameters(BaseModel):
    """What ends a loop early. None of it changes what a cycle does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    patience: int = Field(
        default=2, ge=0, description="Cycles in a row whose gain is not clear before the loop ends; 0 never ends it."
    )
    precision: bool = Field(default=True, description="End when the audited precision falls by more than chance.")
    budget: LoopBudget | None = Field(default=None, description="Of all cycles together.")


class Stop(BaseModel):
    """Why a loop ended before its last cycle."""

    model_config = ConfigDict(frozen=True)

    after: int
    """The last cycle that was lived."""
    ground: Ground
    reason: str
