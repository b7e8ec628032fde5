"""A member of a crew that trains slowly where it is told to, as training_workers do; the first one writes the beats."""

from __future__ import annotations

import os

from training_workers import slow

from medgr2.models import crew_member
from medgr2.models.watch import Watch

if os.environ["RANK"] == "0":
    Watch.beat = slow(Watch.beat)  # type: ignore[method-assign]

if __name__ == "__main__":
    crew_member.main()
