"""What a night says of its generator, and whether its precision fell since the night before."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from medgr2.models.alarms import figures
from medgr2.models.precision import wilson
from medgr2.schemas.reports import AuditedShare
from medgr2.tasks import vigil
from medgr2.tasks.night import Night

NIGHT = Night(
    run="ds/two", dataset="ds", base_id="a" * 64, base="a" * 64, generator="a" * 64, scorer="a" * 64,
    champion_id=None, images="0" * 64, history=None,
)  # fmt: skip


def judged(room: Any, items: list[str], p: list[float | None], run: str = "ds/one", day: int = 1) -> None:
    rows = [
        {"score_id": f"{run}-{item}-{day}", "item_id": item, "p_valid": one, "run": run,
         "scored_at": datetime(2026, 1, day, tzinfo=UTC)}
        for item, one in zip(items, p, strict=True)
    ]  # fmt: skip
    room.lake.append_new("scores", rows, key="score_id")


def test_the_valid_share_is_of_all_drafts_by_their_last_judgement(room: Any) -> None:
    drafts = [room.item(room.picture(n), n) for n in range(4)]
    audited = room.item(room.picture(9), 9, "human")
    assert vigil.valid_share(room.lake, "ds/one") is None
    judged(room, drafts, [None] * 4)
    assert vigil.valid_share(room.lake, "ds/one") is None, "nobody has audited anything yet"
    judged(room, [*drafts, audited], [0.9, 0.5, 0.2, None, 1.0], day=2)
    assert vigil.valid_share(room.lake, "ds/one") == pytest.approx(1.6 / 4), "one of four was refused by a gate"
    judged(room, drafts, [0.1] * 4, run="ds/two", day=3)
    assert vigil.valid_share(room.lake, "ds/one") == pytest.approx(1.6 / 4), "of its own night"


def share(valid: int) -> AuditedShare:
    low, high = wilson(valid / 40, 40)
    return AuditedShare(audited=40, value=valid / 40, low=low, high=high)


def test_a_fall_is_told_since_the_night_that_it_fell_from(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert vigil.fallen(room.lake, NIGHT, share(20)) == "", "the first night fell from nothing"
    monkeypatch.setattr(vigil, "night_before", lambda *_: figures("ds/one", [], [], share(38)))
    assert vigil.fallen(room.lake, NIGHT, share(37)) == ""
    assert vigil.fallen(room.lake, NIGHT, None) == "", "nobody audited tonight"
    told = vigil.fallen(room.lake, NIGHT, share(26))
    assert told.startswith("audited precision fell from 0.950 [")
    assert told.endswith("since ds/one")
