"""What a person says of a candidate that passed its exam."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Approver = Literal["gate", "person"]


class Approval(BaseModel):
    """A person's word, kept with the champion's move; written once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    approve: bool
    by: str = Field(default="", max_length=200, description="Empty: nobody answered in time.")
    comment: str = Field(default="", max_length=1000)
    at: datetime

    def text(self) -> str:
        said = "approved" if self.approve else "not approved"
        return f"{said} by {self.by}" + (f": {self.comment}" if self.comment else "") if self.by else self.comment
