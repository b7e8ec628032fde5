"""Vigil: known-bad items slipped among a night's drafts, and this night's judgements beside the last one's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from medgr2.infra.lake import Lake
from medgr2.models.alarms import Figures, figures
from medgr2.models.canaries import canaries
from medgr2.models.gates import GATES, GateContext
from medgr2.models.perturbation_pool import Pool
from medgr2.models.stop_rules import fell
from medgr2.schemas.items import Item
from medgr2.schemas.reports import AuditedShare
from medgr2.schemas.vocabulary import Origin
from medgr2.tasks.judge import newest
from medgr2.tasks.night import Night
from medgr2.tasks.review import audited_precision, standing_verdicts

_JUDGED = ["item_id", "run", "p_valid", "lp", "rm", "scored_at", "score_id"]


def tonights_canaries(lake: Lake, good: Sequence[Item], count: int) -> list[Item]:
    """Made of questions that people wrote. The same questions give the same ones, so a killed night finds its own."""
    if not good or count == 0:
        return []
    rows = lake.read("images", columns=["image_id", "modality"], where={"image_id": sorted({i.image_id for i in good})})
    modality = {row["image_id"]: row["modality"] or "" for row in rows.to_pylist()}
    return [made.item for made in canaries(good, count, 0, Pool(good, modality))]


def refused(item: Item, context: GateContext) -> tuple[str, ...]:
    """By the gates that look at an item alone: a canary hides no twin, and is none."""
    return tuple(reason for gate in GATES if (reason := gate(item, context)))


def precision_of(lake: Lake, run: str) -> AuditedShare | None:
    found = audited_precision(standing_verdicts(lake, run))
    if found is None:
        return None
    return AuditedShare(audited=found.audited, value=found.value, low=found.low, high=found.high)


def valid_share(lake: Lake, run: str) -> float | None:
    """Of all that was drafted, by what audits say of the like of it; what a gate refused is not valid. None without a
    calibration."""
    last = newest(lake.read("scores", columns=_JUDGED, where={"run": run}).to_pylist())
    written = lake.read("items", ["item_id"], {"item_id": sorted(last), "origin": Origin.GENERATED.value})
    found = [last[item_id]["p_valid"] for item_id in written["item_id"].to_pylist()]
    return sum(p or 0.0 for p in found) / len(found) if any(p is not None for p in found) else None


def fallen(lake: Lake, night: Night, precision: AuditedShare | None) -> str:
    """How the audited precision of the accepted fell since the night before, if it did by more than chance."""
    before = night_before(lake, night) if precision is not None else None
    return f"{fall} since {before.run}" if before is not None and (fall := fell(precision, before.precision)) else ""


def figures_of(run: str, rows: Iterable[Mapping[str, Any]], precision: AuditedShare | None) -> Figures:
    judged = list(rows)
    return figures(
        run,
        [row["p_valid"] for row in judged if row["p_valid"] is not None],
        [row["lp"] for row in judged if row["lp"] is not None],
        precision,
        [row["rm"] for row in judged if row["rm"] is not None],
    )


def night_before(lake: Lake, night: Night) -> Figures | None:
    """Of the same dataset, the last one that was judged before this one began."""
    began = datetime.fromtimestamp(night.began / 1e9, UTC)
    rows = [
        row
        for row in lake.read("scores", columns=_JUDGED).to_pylist()
        if row["run"].startswith(f"{night.dataset}/") and row["run"] != night.run and row["scored_at"] < began
    ]
    if not rows:
        return None
    run = max(rows, key=lambda row: (row["scored_at"], row["score_id"]))["run"]
    last = newest(row for row in rows if row["run"] == run)
    written = lake.read("items", ["item_id"], {"item_id": sorted(last), "origin": Origin.GENERATED.value})
    drafts = [last[item_id] for item_id in written["item_id"].to_pylist()]
    return figures_of(run, drafts, precision_of(lake, run))
