"""Whether two small grey copies show the same picture: local contrast, the eight ways to turn, alignment, agreement.

Everything works on many pairs at once, and treats the two pictures of a pair as they are given: who needs the same
answer for (a, b) and (b, a) gives them in one order.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from medgr2.infra.pictures.fingerprint import SIDE

Pictures: TypeAlias = NDArray[np.float32]
"""(pairs, SIDE, SIDE), as `local_contrast` gives them."""
Kind = TypeVar("Kind", bound=np.generic)
Numbers: TypeAlias = NDArray[np.float32]
Turn = Literal["same", "transposed", "flipped", "rotated 90", "mirrored", "rotated 270", "rotated 180", "transverse"]
TURNS: tuple[Turn, ...] = (
    "same", "transposed", "flipped", "rotated 90", "mirrored", "rotated 270", "rotated 180", "transverse",
)  # fmt: skip
"""By number: bit 0 exchanges rows and columns, then bit 1 turns top to bottom, then bit 2 left to right."""

LIMIT = 2.5
"""Local contrast is cut here: a bright letter weighs no more than an edge of the picture."""
_INNER = slice(2, -2)
"""The rim is left out: its surroundings are cut off, in every picture alike, and would hold two copies in place."""
_STEPS, _DOUBT, _STEADY = 4, 0.65, 20.0
_FURTHEST = 2.0  # of SIDE: a crop of 5% moves the edge by 1.6


def _neighbourhood(reach: int) -> Numbers:
    position = np.arange(SIDE)
    near = (np.abs(position[:, None] - position) <= reach).astype(np.float32)
    share: Numbers = near / near.sum(1, keepdims=True)
    return share


_AROUND = _neighbourhood(2)
_POSITION = np.arange(SIDE, dtype=np.float32)
_SPREAD = ((_POSITION - (SIDE - 1) / 2) / ((SIDE - 1) / 2))[2:-2]


def inverse(turn: int) -> int:
    """The turn that undoes this one."""
    return 1 | (turn & 2) << 1 | (turn & 4) >> 1 if turn & 1 else turn


def turned(pictures: NDArray[Kind], turn: int) -> NDArray[Kind]:
    if turn & 1:
        pictures = pictures.transpose(0, 2, 1)
    if turn & 2:
        pictures = pictures[:, ::-1]
    if turn & 4:
        pictures = pictures[:, :, ::-1]
    return pictures


def local_contrast(pixels: NDArray[np.uint8]) -> Pictures:
    """Each pixel against its surroundings, in units of their spread: brightness, contrast, gamma and large shadows go,
    and a masked box spoils no more than its own place. Where nothing happens it stays near zero."""
    values = pixels.astype(np.float32)
    floor = 0.05 * values.std(axis=(1, 2), keepdims=True) + 1e-3
    away = values - _AROUND @ values @ _AROUND.T
    spread = np.sqrt(_AROUND @ (away * away) @ _AROUND.T)
    contrast: Pictures = np.clip(away / (spread + floor), -LIMIT, LIMIT)
    return contrast


def may_agree(a: Pictures, b: Pictures) -> Numbers:
    """A cheap look: how much of each quarter of `b` is explained by that quarter of `a`, moved a little; the worst
    quarter does not count. 1 is all of it."""
    qa, qb = _tiles(a[:, _INNER, _INNER], 2), _tiles(b[:, _INNER, _INNER], 2)
    # In one piece, across the ends of the rows: they belong to the rim. Twice the slopes.
    across, down, flat = np.empty_like(a), np.empty_like(a), a.reshape(len(a), -1)
    np.subtract(flat[:, 2:], flat[:, :-2], out=across.reshape(flat.shape)[:, 1:-1])
    np.subtract(a[:, 2:], a[:, :-2], out=down[:, 1:-1])
    qx, qy = _tiles(across[:, _INNER, _INNER], 2), _tiles(down[:, _INNER, _INNER], 2)
    floor = np.float32(0.05 * 14 * 14)
    aa, bb = _product(qa, qa), _product(qb, qb)
    ab, xb, yb = np.maximum(_product(qa, qb), 0), _product(qx, qb) / 2, _product(qy, qb) / 2
    xx, yy, xy = _product(qx, qx) / 4 + floor, _product(qy, qy) / 4 + floor, _product(qx, qy) / 4
    moved = (xb * xb * yy - 2 * xb * yb * xy + yb * yb * xx) / (xx * yy - xy * xy)
    explained = np.where(ab > 0, ab * ab / (aa + floor) + moved, 0) / (bb + floor)
    return np.sqrt(_middle(explained, np.maximum(aa, bb), 0.25, 1.0))


def agree(a: Pictures, b: Pictures) -> Numbers:
    """How alike the pairs are once they lie on each other: the correlation of 16 tiles, of which the worst and the
    best quarter do not count (a masked box; a skull's outline, which all heads share). 1 is the same picture."""
    half = _align(a, b) * np.float32(0.5)  # each goes half the way, so that both are smoothed alike
    return _tiles_agree(_moved(a, -half), _moved(b, half))


def _middle(values: Numbers, weights: Numbers, low: float, high: float) -> Numbers:
    """The weighted mean of each row between two quantiles of its weight."""
    order = np.argsort(values, axis=1, kind="stable")
    values, weights = np.take_along_axis(values, order, 1), np.take_along_axis(weights, order, 1)
    share = weights / (weights.sum(1, keepdims=True) + 1e-6)
    upto = np.cumsum(share, axis=1)
    kept = np.clip(upto, low, high) - np.clip(upto - share, low, high)
    mean: Numbers = (values * kept).sum(1) / np.maximum(kept.sum(1), 1e-6)
    return mean


def _moved(pictures: Pictures, by: Numbers) -> Pictures:
    """Shifted and stretched along both axes, by pixels (shift x, stretch x, shift y, stretch y); without the rim."""

    def take(position: Numbers) -> Numbers:
        inside: Numbers = np.clip(position, 0, SIDE - 1)[:, :, None]
        nearness: Numbers = np.maximum(0, 1 - np.abs(inside - _POSITION))
        return nearness

    columns = take(_POSITION[_INNER] + by[:, 0:1] + by[:, 1:2] * _SPREAD)
    rows = take(_POSITION[_INNER] + by[:, 2:3] + by[:, 3:4] * _SPREAD)
    moved: Pictures = np.matmul(np.matmul(rows, pictures), columns.transpose(0, 2, 1))
    return moved


def _align(a: Pictures, b: Pictures) -> Numbers:
    """How `b` must be moved to lie on `a`: Gauss-Newton, with little weight where they cannot be made to agree."""
    inner = a[:, _INNER, _INNER]
    across = (a[:, _INNER, 3:-1] - a[:, _INNER, 1:-3]) / 2
    down = (a[:, 3:-1, _INNER] - a[:, 1:-3, _INNER]) / 2
    slopes = np.stack([across, across * _SPREAD, down, down * _SPREAD[:, None]], 1).reshape(len(a), 4, -1)
    by = np.zeros((len(a), 4), np.float32)
    steady = _STEADY * np.eye(4, dtype=np.float32)
    for _ in range(_STEPS):
        rest = (inner - _moved(b, by)).reshape(len(a), -1)
        trusted = slopes * (1 / (1 + (rest / _DOUBT) ** 2))[:, None]
        step = np.linalg.solve(trusted @ slopes.transpose(0, 2, 1) + steady, trusted @ rest[:, :, None])
        by = np.clip(by + step[:, :, 0], -_FURTHEST, _FURTHEST)
    return by


def _tiles_agree(a: Pictures, b: Pictures) -> Numbers:
    ta, tb = _tiles(a, 4), _tiles(b, 4)
    aa, bb = _product(ta, ta), _product(tb, tb)
    return _middle(_product(ta, tb) / np.sqrt(aa * bb + 1), np.maximum(aa, bb), 0.25, 0.75)


def _tiles(pictures: Pictures, across: int) -> Numbers:
    """(pairs, across * across, pixels), and each tile in one piece: products are 10 times faster."""
    side = pictures.shape[1] // across
    tiles = pictures.reshape(-1, across, side, across, side).transpose(0, 1, 3, 2, 4)
    return np.ascontiguousarray(tiles).reshape(len(pictures), across * across, side * side)


def _product(x: Numbers, y: Numbers) -> Numbers:
    product: Numbers = np.einsum("ntp,ntp->nt", x, y)
    return product
