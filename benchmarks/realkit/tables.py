"""What the seeds of the kit gave, as tables: arms, pairs of arms, sources, and the nights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from realkit.arms import SeedOfKit

from medgr2.models.loop_claims import CONTRASTS, FILTERED, GRPO, OF_SEED, START, UNFILTERED
from medgr2.models.loop_table import Table

SHOWN = (START, OF_SEED, UNFILTERED, FILTERED, GRPO)


def document(seeds: Sequence[SeedOfKit]) -> dict[str, Any]:
    # An arm that a seed could not have, because nothing was published, is in no table.
    there = [name for name in seeds[0].sat if all(name in one.sat for one in seeds)]
    table = Table([{name: one.sat[name] for name in there} for one in seeds])
    pairs = [pair for pair in CONTRASTS if {*pair} <= {*there}]
    return {
        "pictures and questions": [{"seed": one.seed, **one.counts, "cpu_seconds": one.cpu_seconds} for one in seeds],
        "nights": [{"seed": one.seed, "night": name, **night} for one in seeds for name, night in one.nights.items()],
        "arms": [arm.model_dump(exclude={"seeds"}) for arm in table.arms()],
        "contrasts": [table.contrast(*pair).row() for pair in pairs],
        "by_source": by_source(seeds, [name for name in SHOWN if name in there]),
    }


def by_source(seeds: Sequence[SeedOfKit], names: Sequence[str]) -> list[dict[str, Any]]:
    """Greedy accuracy of the arms on each source and question type, all seeds together."""
    marks: dict[tuple[str, str], dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for one in seeds:
        for name in names:
            for answer in one.sat[name].answers:
                marks[answer.question_type, one.source[answer.image_id]][name].append(answer.correct)
    return [
        {"question_type": kind, "source": source, "n": len(of[names[0]])} | {name: fmean(of[name]) for name in names}
        for (kind, source), of in sorted(marks.items())
    ]


def printed(found: dict[str, Any]) -> str:
    parts = []
    for name in ("pictures and questions", "nights", "arms", "contrasts", "by_source"):
        rows = [{key: _cell(value) for key, value in row.items() if key not in LONG} for row in found[name]]
        if rows:
            parts.append(f"{name.replace('_', ' ')}:\n{_aligned(rows)}")
    for night in found["nights"]:
        told = [f"{kind.replace('_', ' ')} {_counted(night[kind])}" for kind in ("reasons", "left_out") if night[kind]]
        parts.append(f"seed {night['seed']}, {night['night']}: " + "; ".join(told))
    return "\n\n".join(parts)


LONG = {"reasons", "left_out", "not_calibrated", "greedy_by_seed", "avg_by_seed"}


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 1 and (value == 0 or abs(value) >= 0.001) else f"{value:.3g}"
    return "-" if value is None else str(value)


def _aligned(rows: Sequence[dict[str, str]]) -> str:
    names = list(rows[0])
    width = {name: max(len(name), *(len(row[name]) for row in rows)) for name in names}
    lines = [{name: name for name in names}, *rows]
    return "\n".join("  " + "  ".join(row[name].ljust(width[name]) for name in names).rstrip() for row in lines)
