"""Conversations with an engine that answers when it likes: whoever has a reply asks on, whoever ends makes room."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol

from medgr2.infra.worker import STOPPING, trouble_of
from medgr2.models.engines.seam import Completion, Conversation, Held, Request, T
from medgr2.schemas.usage import NOTHING_USED, Usage

LOOK_AGAIN_SECONDS = 0.002


class Stepping(Protocol):
    """An engine that is moved on by hand. Tests have one that is scripted."""

    def ask(self, ticket: str, request: Request) -> None:
        """Raises what is wrong with this request."""
        ...

    def step(self) -> Iterable[tuple[str, Completion]]:
        """Some work on all that was asked; what is complete now, by ticket."""
        ...

    def drop(self, tickets: Iterable[str]) -> None: ...


@dataclass(slots=True)
class _Talk(Generic[T]):
    name: str
    conversation: Conversation[T]
    asked: float = 0.0
    usage: Usage = NOTHING_USED


def in_steps(
    engine: Stepping, conversations: Iterable[tuple[str, Conversation[T]] | None], at_once: int
) -> Iterator[Held[T]]:
    """A request that is refused is its own conversation's trouble; a step that fails is everybody's."""
    waiting = iter(conversations)
    talking: dict[str, _Talk[T]] = {}
    tickets = 0
    more = True

    def move(talk: _Talk[T], say: Callable[[], Request]) -> Held[T] | None:
        nonlocal tickets
        try:
            request = say()
            tickets += 1
            engine.ask(str(tickets), request)
        except StopIteration as told:
            return Held(talk.name, result=told.value, usage=talk.usage)
        except STOPPING:
            raise
        except Exception as e:
            talk.conversation.close()
            return Held(talk.name, trouble=trouble_of(e), usage=talk.usage)
        talk.asked = time.perf_counter()
        talking[str(tickets)] = talk
        return None

    try:
        while True:
            while more and len(talking) < at_once:
                try:
                    named = next(waiting)
                except StopIteration:
                    more = False
                    break
                if named is None:
                    break
                talk = _Talk(*named)
                if (held := move(talk, partial(next, talk.conversation))) is not None:
                    yield held
            if not talking:
                if not more:
                    return
                time.sleep(LOOK_AGAIN_SECONDS)
                continue
            for ticket, reply in engine.step():
                talk = talking.pop(ticket)
                talk.usage += Usage(1, reply.tokens_in, reply.tokens, time.perf_counter() - talk.asked)
                if (held := move(talk, partial(talk.conversation.send, reply))) is not None:
                    yield held
    finally:
        engine.drop(list(talking))
