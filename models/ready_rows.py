"""Rows made ready once: a row that a training sees again is not read, drawn to size and counted into tokens again.

The trainer's own collator makes each row ready, alone; what is joined of such rows is the batch that it would have made
of them together, tensor for tensor (a test compares). Where it would not be, the rows go to it together, as ever.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

ROOM_BYTES = 512 * 2**20
"""Of all rows that are kept ready; the one not seen for longest goes first."""
Row = Mapping[str, Any]


class ReadyRows:
    def __init__(self, read: Callable[[int], dict[str, Any]], room: int = ROOM_BYTES) -> None:
        self._read, self._room = read, room
        self._ready: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self._held = 0
        self._collate: Callable[[list[dict[str, Any]]], Any] = lambda _: None
        self._padding: dict[str, int] = {}

    def of(self, collate: Callable[[list[dict[str, Any]]], Any], pad_token_id: int) -> Callable[[Sequence[Row]], Any]:
        """The collator in the place of the trainer's own."""
        self._collate = collate
        self._padding = {
            "input_ids": pad_token_id, "attention_mask": 0, "labels": -100, "token_type_ids": 0, "mm_token_type_ids": 0,
        }  # fmt: skip
        return self._batch

    def row(self, number: int) -> dict[str, Any]:
        """What the trainer's dataset gives: without its picture where that is not needed any more."""
        if number in self._ready:
            return {"row": number, "prompt": [], "completion": [], "images": []}
        return {"row": number, **self._read(number)}

    def _batch(self, rows: Sequence[Row]) -> Any:
        parts = [self._part(row) for row in rows]
        if not _fit(parts, self._padding):
            return self._collate([self._read(row["row"]) for row in rows])
        return _joined(parts, self._padding)

    def _part(self, row: Row) -> dict[str, Any]:
        number = int(row["row"])
        if number in self._ready:
            self._ready.move_to_end(number)
            return self._ready[number]
        # Another row of this very batch may have sent it away since it was looked up.
        given = {name: row[name] for name in ("prompt", "completion", "images")}
        part = dict(self._collate([given if given["images"] else self._read(number)]))
        self._ready[number] = part
        self._held += _bytes(part)
        while self._held > self._room and len(self._ready) > 1:
            self._held -= _bytes(self._ready.popitem(last=False)[1])
        return part


def _bytes(part: Mapping[str, Any]) -> int:
    return sum(tensor.element_size() * tensor.nelement() for tensor in part.values())


def _fit(parts: Sequence[Mapping[str, Any]], padding: Mapping[str, int]) -> bool:
    """Pictures of one shape, or such as are laid one after the other."""
    names = set(parts[0])
    return all(set(part) == names for part in parts) and all(
        part[name].shape[1:] == parts[0][name].shape[1:] for part in parts for name in names if name not in padding
    )


def _joined(parts: Sequence[Mapping[str, Any]], padding: Mapping[str, int]) -> dict[str, Any]:
    import torch

    width = max(part["input_ids"].shape[1] for part in parts)
    joined = {}
    for name in parts[0]:
        tensors = [part[name] for part in parts]
        if name in padding:
            tensors = [
                torch.nn.functional.pad(one, (0, width - one.shape[1]), value=padding[name]) for one in tensors
            ]
        joined[name] = torch.cat(tensors)
    return joined
