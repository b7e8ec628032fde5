"""The table of the loop's ablation as one picture: every arm, greedy and at temperature 1, with its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from medgr2.models.loop_table import ArmRow, Contrast

ROW, LEFT, WIDTH, TOP = 30, 240, 520, 64
GREEDY, SAMPLED = "#1b6ca8", "#c4572a"


def drawn(arms: Sequence[ArmRow], contrasts: Sequence[Contrast], command: str) -> str:
    """SVG text. A small dot is one seed, a large one the mean."""
    values = [v for arm in arms for v in (*arm.greedy_by_seed, *arm.avg_by_seed)]
    low, high = min(values) - 0.01, max(values) + 0.01
    height = TOP + ROW * len(arms) + 60 + 18 * len(contrasts)

    def x(value: float) -> float:
        return LEFT + WIDTH * (value - low) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 130}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="12" y="22" font-size="15">{escape(command)}</text>',
        f'<text x="12" y="42" fill="{GREEDY}">greedy</text><text x="70" y="42" fill="{SAMPLED}">temperature 1</text>',
    ]
    parts += [_tick(x(tick / 100), tick, len(arms)) for tick in range(int(low * 100) + 1, int(high * 100) + 1, 5)]
    for at, arm in enumerate(arms):
        y = TOP + ROW * at + ROW / 2
        parts.append(f'<text x="12" y="{y + 4}">{escape(arm.name)}</text>')
        for shift, mean, seeds, colour in (
            (-5, arm.greedy, arm.greedy_by_seed, GREEDY),
            (5, arm.avg, arm.avg_by_seed, SAMPLED),
        ):
            if mean is None:
                continue
            parts += [
                f'<circle cx="{x(v):.1f}" cy="{y + shift}" r="2.5" fill="{colour}" opacity="0.45"/>' for v in seeds
            ]
            parts.append(f'<circle cx="{x(mean):.1f}" cy="{y + shift}" r="5" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + WIDTH + 14}" y="{y + 4}">{_numbers(arm)}</text>')
    below = TOP + ROW * len(arms) + 40
    for at, c in enumerate(contrasts):
        line = f"{c.name}: {100 * c.gain:+.1f} greedy (p = {c.p_value:.1e})"
        if c.sampled is not None:
            line += f", {100 * c.sampled.gain:+.1f} at temperature 1 (p = {c.sampled.p_value:.1e})"
        parts.append(f'<text x="12" y="{below + 18 * at}" font-size="12">{escape(line)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _numbers(arm: ArmRow) -> str:
    return f"{arm.greedy:.3f}" + (f" / {arm.avg:.3f}" if arm.avg is not None else "")


def _tick(x: float, percent: int, rows: int) -> str:
    bottom = TOP + ROW * rows
    return (
        f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}" stroke="#ddd"/>'
        f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle" fill="#777">{percent / 100:.2f}</text>'
    )
