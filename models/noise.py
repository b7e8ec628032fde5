"""Gumbel noise from a counter: position t of seed s is the same numbers whenever and wherever it is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class GumbelNoise:
    """Only raw Philox words are used: numpy keeps those stable, and its distributions not."""

    __slots__ = ("_seed", "_size")

    def __init__(self, seed: int, size: int) -> None:
        self._seed = seed
        self._size = size

    def at(self, step: int) -> npt.NDArray[np.float64]:
        import numpy as np

        words = np.random.Philox(key=self._seed, counter=[0, 0, 0, step]).random_raw(self._size)
        uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
        return -np.log(-np.log(uniform))
