"""What commands print: a plain table for people, JSON for programs. Never a row of patient data unasked."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import click

MAX_CELL = 60


def emit(rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str = "nothing yet") -> None:
    if as_json:
        click.echo(_json(list(rows)))
        return
    if not rows:
        click.echo(empty)
        return
    columns = list(rows[0])
    cells = [[_short(row.get(c)) for c in columns] for row in rows]
    widths = [max(len(c), *(len(row[i]) for row in cells)) for i, c in enumerate(columns)]
    click.echo("  ".join(c.ljust(w) for c, w in zip(columns, widths, strict=True)).rstrip())
    for row in cells:
        click.echo("  ".join(v.ljust(w) for v, w in zip(row, widths, strict=True)).rstrip())


def emit_one(document: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(_json(document))
        return
    _tree(document, 0)


def _tree(value: Mapping[str, Any], depth: int) -> None:
    pad = "  " * depth
    for name, v in value.items():
        if isinstance(v, Mapping):
            click.echo(f"{pad}{name}:")
            _tree(v, depth + 1)
        elif isinstance(v, list | tuple) and v and isinstance(v[0], Mapping):
            click.echo(f"{pad}{name}:")
            for i, one in enumerate(v):
                if i:
                    click.echo(f"{pad}  -")
                _tree(one, depth + 1)
        else:
            click.echo(f"{pad}{name}: {_text(v)}")


def _json(value: Any) -> str:
    return json.dumps(_finite(value), default=_plain, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()
    if isinstance(value, Decimal):  # what DuckDB makes of a sum of integers
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(_text(v) for v in value) or "-"
    return str(value)


def _short(value: Any) -> str:
    text = _text(value).replace("\n", " ")
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 3] + "..."
