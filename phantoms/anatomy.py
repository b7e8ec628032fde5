"""How each anatomy is drawn: a structure map in [0, 1] over coordinates x, y in [-1, 1] (y grows downwards)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Field: TypeAlias = npt.NDArray[np.float64]
Structure: TypeAlias = Callable[[Field, Field], Field]


def disc(x: Field, y: Field, radius: float | Field, soft: float = 0.06) -> Field:
    """1 inside the radius, 0 outside, with a soft rim."""
    return np.clip((radius - np.hypot(x, y)) / soft + 0.5, 0.0, 1.0)


def band(value: Field, width: float, soft: float = 0.05) -> Field:
    """1 where |value| is under the width."""
    return np.clip((width - np.abs(value)) / soft + 0.5, 0.0, 1.0)


def _tiles(x: Field, y: Field, pitch: float, radius: float) -> Field:
    return disc((x + 4.0) % pitch - pitch / 2, (y + 4.0) % pitch - pitch / 2, radius)


def _brain(x: Field, y: Field) -> Field:
    inner = disc(x, y / 1.1, 0.7)
    return disc(x, y / 1.1, 0.86) - 0.5 * inner - 0.25 * inner * band(x, 0.06)


def _chest(x: Field, y: Field) -> Field:
    lobes = disc((x - 0.42) / 0.75, y / 1.3, 0.45) + disc((x + 0.42) / 0.75, y / 1.3, 0.45)
    return 0.65 * disc(x / 1.15, y, 0.85) - 0.4 * lobes + 0.3 * band(x, 0.08) * band(y, 0.8)


def _abdomen(x: Field, y: Field) -> Field:
    body = disc(x / 1.15, y / 0.85, 0.82)
    return 0.4 * body + 0.15 * body * band(x + 0.5, 0.4, 0.3) + 0.6 * disc(x, y - 0.5, 0.17)


def _knee(x: Field, y: Field) -> Field:
    return 0.2 * band(x, 0.8) + 0.4 * band(x, 0.45) * np.clip((np.abs(y) - 0.14) / 0.06, 0.0, 1.0)


def _scalp(x: Field, y: Field) -> Field:
    return 0.6 - 0.5 * np.clip(np.sin(13.0 * (x + 0.7 * y)) - 0.2, 0.0, 1.0)


def _trunk(x: Field, y: Field) -> Field:
    return 0.5 + 0.1 * np.sin(4.0 * x) * np.sin(4.0 * y)


def _palm(x: Field, y: Field) -> Field:
    return 0.5 + 0.25 * np.sin(16.0 * y + np.sin(3.0 * x))


def _face(x: Field, y: Field) -> Field:
    return 0.65 - 0.5 * _tiles(x, y, 0.4, 0.09)


def _macula(x: Field, y: Field) -> Field:
    return 0.6 - 0.5 * disc(x, y, 0.3, 0.3)


def _optic_disc(x: Field, y: Field) -> Field:
    return 0.45 + 0.55 * disc(x, y, 0.27, 0.1)


def _arcade(x: Field, y: Field) -> Field:
    return 0.55 - 0.4 * band(np.abs(y) - 0.2 - 0.35 * (1.0 - x * x), 0.05)


def _periphery(x: Field, y: Field) -> Field:
    return 0.5 + 0.25 * np.sin(11.0 * np.hypot(x, y))


def _layers(y: Field, edge: Field | float) -> Field:
    depth = y - edge
    return band(depth, 0.6) * (0.5 + 0.3 * np.sin(12.0 * depth))


def _macula_layers(x: Field, y: Field) -> Field:
    return _layers(y, 0.3 * np.exp(-(x**2) / 0.06) - 0.1)


def _disc_layers(x: Field, y: Field) -> Field:
    return _layers(y, 0.0) * (1.0 - band(x, 0.2))


def _arcade_layers(x: Field, y: Field) -> Field:
    return _layers(y, 0.0) * (0.75 + 0.25 * np.sign(np.sin(14.0 * x)))


def _periphery_layers(x: Field, y: Field) -> Field:
    return _layers(y, 0.45 * x)


def _blood(x: Field, y: Field) -> Field:
    return 0.15 + 0.45 * _tiles(x, y, 0.5, 0.15)


def _marrow(x: Field, y: Field) -> Field:
    return 0.3 + 0.4 * np.sin(20.0 * x) * np.sin(20.0 * y)


def _cervix(x: Field, y: Field) -> Field:
    return 0.3 + 0.25 * np.sign(np.sin(9.0 * (x + y))) * np.sign(np.sin(9.0 * (x - y)))


def _colon(x: Field, y: Field) -> Field:
    return 0.2 + 0.5 * (_tiles(x, y, 0.66, 0.28) - _tiles(x, y, 0.66, 0.14))


RADIOLOGY: dict[str, Structure] = {"brain": _brain, "chest": _chest, "abdomen": _abdomen, "knee": _knee}
SKIN: dict[str, Structure] = {"scalp": _scalp, "trunk": _trunk, "palm": _palm, "face": _face}
RETINA: dict[str, Structure] = {
    "macula": _macula,
    "optic disc": _optic_disc,
    "vascular arcade": _arcade,
    "retinal periphery": _periphery,
}
RETINA_LAYERS: dict[str, Structure] = {
    "macula": _macula_layers,
    "optic disc": _disc_layers,
    "vascular arcade": _arcade_layers,
    "retinal periphery": _periphery_layers,
}
TISSUE: dict[str, Structure] = {"blood": _blood, "bone marrow": _marrow, "cervix": _cervix, "colon": _colon}
