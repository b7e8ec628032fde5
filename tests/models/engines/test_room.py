"""A cache with room remembers what transformers' own does, value for value, however it grows and whoever leaves."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from medgr2.models.engines.room import TOKENS, make_room

HEADS, WIDTH = 2, 3


def filled(layer: DynamicLayer, rows: int = 4, tokens: int = 5) -> DynamicLayer:
    layer.update(*said(rows, tokens))
    return layer


def said(rows: int, tokens: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = torch.randn(2, rows, HEADS, tokens, WIDTH)
    return drawn[0], drawn[1]


@pytest.mark.parametrize("steps", [(1,) * 3, (1,) * (2 * TOKENS + 3), (3 * TOKENS, 1)])
def test_it_holds_what_a_plain_layer_holds(steps: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    own, plain = filled(DynamicLayer()), DynamicLayer()
    plain.update(own.keys, own.values)
    cache, rows = SimpleNamespace(layers=[own]), torch.tensor([2, 0, 0, 3, 1])
    make_room(cache, rows)
    plain.batch_select_indices(rows)
    roomy = cache.layers[0]
    alive = 5
    for place, tokens in enumerate(steps):
        if place in (1, 2):
            stays = torch.tensor([k for k in range(alive) if k != place])
            roomy.batch_select_indices(stays)
            plain.batch_select_indices(stays)
            alive -= 1
        new = said(alive, tokens)
        assert all(map(torch.equal, roomy.update(*new), plain.update(*new)))
        assert roomy.get_seq_length() == plain.get_seq_length()
        assert roomy.get_mask_sizes(1) == plain.get_mask_sizes(1)


def test_what_was_read_once_is_written_over_by_nobody() -> None:
    torch.manual_seed(0)
    own = filled(DynamicLayer(), rows=1)
    before = own.keys.clone()
    cache = SimpleNamespace(layers=[own])
    make_room(cache, torch.tensor([0, 0]))
    keys, _ = cache.layers[0].update(*said(2))
    assert torch.equal(own.keys, before)
    assert not torch.equal(keys[0, :, -1], keys[1, :, -1])


def test_a_layer_that_forgets_stays_what_it_is() -> None:
    torch.manual_seed(0)
    cache = SimpleNamespace(layers=[filled(DynamicSlidingWindowLayer(sliding_window=4)), DynamicLayer()])
    make_room(cache, torch.tensor([1, 1]))
    assert [type(layer) for layer in cache.layers] == [DynamicSlidingWindowLayer, DynamicLayer]
    assert cache.layers[0].keys.shape[0] == 2
