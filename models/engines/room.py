"""Room in a cache: what a row said is written behind what was there, where transformers copies all of it each token."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

TOKENS = 16
"""By so many a layer is widened: most replies are shorter, and what stays empty is held for every row."""


def make_room(cache: Any, rows: torch.Tensor) -> None:
    """From here on the cache holds these of its rows. Layers of other kinds, which forget, stay what they are."""
    for place, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer and layer.get_seq_length():
            cache.layers[place] = _Roomy(layer, rows)
        else:
            layer.batch_select_indices(rows)


class _Roomy(DynamicLayer):
    """`keys` and `values` are the used part of what is held."""

    def __init__(self, layer: DynamicLayer, rows: torch.Tensor) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = layer.dtype, layer.device, True
        self._held = [_wider(layer.keys[rows]), _wider(layer.values[rows])]
        self._use(layer.get_seq_length())

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        before = self.get_seq_length()
        width = before + key_states.shape[-2]
        while width > self._held[0].shape[-2]:
            self._held = [_wider(held) for held in self._held]
        for held, new in zip(self._held, (key_states, value_states), strict=True):
            held[..., before:width, :] = new
        self._use(width)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self._held = [held[indices] for held in self._held]
        self._use(self.get_seq_length())

    def _use(self, width: int) -> None:
        self.keys, self.values = (held[..., :width, :] for held in self._held)


def _wider(held: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(held, (0, 0, 0, TOKENS))
