"""Gumbel noise of a request's own: sample t of seed s is the same numbers whenever, wherever and beside whatever."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class NoiseStream:
    """Raw Philox words of one seed, a row of them for each token. Numpy keeps these stable, its distributions not."""

    __slots__ = ("_philox", "_size")

    def __init__(self, seed: int, size: int) -> None:
        import numpy as np

        self._philox = np.random.Philox(key=seed)
        self._size = size

    def words(self) -> npt.NDArray[np.uint64]:
        return self._philox.random_raw(self._size)


def gumbel(streams: Sequence[NoiseStream]) -> npt.NDArray[np.float64]:
    """The next row of each stream, as standard Gumbel noise."""
    import numpy as np

    return -np.log(-np.log(_between_0_and_1(np.stack([stream.words() for stream in streams]))))


def uniform(streams: Sequence[NoiseStream]) -> npt.NDArray[np.float64]:
    """The first of the next row of each stream, as a number between 0 and 1."""
    import numpy as np

    return _between_0_and_1(np.array([stream.words()[0] for stream in streams]))


def _between_0_and_1(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    import numpy as np

    return ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
