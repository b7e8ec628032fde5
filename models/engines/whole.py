"""Requests that need nobody's reply in between, put to any engine: every sample of each, or why there is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol, TypeAlias, runtime_checkable

from medgr2.infra.worker import Trouble
from medgr2.models.engines.seam import Completion, Conversation, Engine, Request

Replies: TypeAlias = "list[Completion] | Trouble"


@runtime_checkable
class Batched(Protocol):
    """An engine of this process that reads a prompt once for all of its samples."""

    def complete(self, requests: Sequence[Request]) -> list[list[Completion]]: ...


def ask_all(engine: Engine, requests: Sequence[Request]) -> list[Replies]:
    """In the order of the requests. One that is in trouble with any of its samples is so as a whole."""
    if isinstance(engine, Batched):
        return list(engine.complete(requests))
    found: list[dict[int, Completion]] = [{} for _ in requests]
    troubles: dict[int, Trouble] = {}
    for held in engine.hold(_each(requests)):
        at, _, sample = held.name.partition("/")
        if held.result is not None:
            found[int(at)][int(sample)] = held.result
        elif held.trouble is not None:
            troubles.setdefault(int(at), held.trouble)
    return [troubles.get(at) or [said[k] for k in sorted(said)] for at, said in enumerate(found)]


def _each(requests: Sequence[Request]) -> Iterator[tuple[str, Conversation[Completion]]]:
    for at, request in enumerate(requests):
        for sample, seed in enumerate(request.seeds):
            yield f"{at}/{sample}", _once(replace(request, seeds=(seed,)))


def _once(request: Request) -> Conversation[Completion]:
    return (yield request)
