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
        numbers = [int(row["row"]) for row in rows]
        parts = {number: self._ready[number] for number in numbers if number in self._ready}
        missing = {number: row for number, row in zip(numbers, rows, strict=True) if number not in parts}
        parts |= self._made(missing)
        for number in dict.fromkeys(numbers):
            self._keep(number, parts[number])
        batch = [parts[number] for number in numbers]
        if not _fit(batch, self._padding):
            return self._collate([self._read(number) for number in numbers])
        return _joined(batch, self._padding)

    def _made(self, missing: Mapping[int, Row]) -> dict[int, dict[str, Any]]:
        """All together where their pictures are of one size, so that none is padded to another's; else one by one."""
        given = {number: self._given(number, row) for number, row in missing.items()}
        if len({tuple(getattr(one, "size", one) for one in row["images"]) for row in given.values()}) == 1:
            together = dict(self._collate([dict(row) for row in given.values()]))
            if all(len(tensor) == len(given) for tensor in together.values()):
                lengths = together["attention_mask"].sum(-1).tolist()
                return {
                    number: {
                        name: (
                            tensor[at : at + 1, : lengths[at]] if name in self._padding else tensor[at : at + 1]
                        ).clone()
                        for name, tensor in together.items()
                    }
                    for at, number in enumerate(given)
                }
        return {number: dict(self._collate([row])) for number, row in given.items()}

    def _given(self, number: int, row: Row) -> dict[str, Any]:
        # It was ready when it was looked up, and has been sent away since.
        if not row["images"]:
            return self._read(number)
        return {name: row[name] for name in ("prompt", "completion", "images")}

    def _keep(self, number: int, part: dict[str, Any]) -> None:
        if number not in self._ready:
            self._held += _bytes(part)
            self._ready[number] = part
        self._ready.move_to_end(number)
        while self._held > self._room and len(self._ready) > 1:
            self._held -= _bytes(self._ready.popitem(last=False)[1])


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
            tensors = [torch.nn.functional.pad(one, (0, width - one.shape[1]), value=padding[name]) for one in tensors]
        joined[name] = torch.cat(tensors)
    return joined
