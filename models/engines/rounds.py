"""Conversations with an engine that answers in batches: every one of them moves on by one request a round."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from medgr2.models.engines.seam import Completion, Conversation, Held, Request, T
from medgr2.schemas.usage import NOTHING_USED, Usage

Answer = Callable[[Sequence[Request]], Sequence[Completion]]


def in_rounds(
    answer: Answer, conversations: Iterable[tuple[str, Conversation[T]] | None], at_once: int
) -> Iterator[Held[T]]:
    """Whoever has ended makes room for the next at once, so the batches stay full."""
    waiting = (named for named in conversations if named is not None)
    talking: list[tuple[str, Conversation[T], Request, Usage]] = []
    while True:
        for name, conversation in islice(waiting, at_once - len(talking)):
            try:
                talking.append((name, conversation, next(conversation), NOTHING_USED))
            except StopIteration as told:
                yield Held(name, result=told.value)
        if not talking:
            return
        start = time.perf_counter()
        replies = answer([request for _, _, request, _ in talking])
        each = (time.perf_counter() - start) / len(talking)
        going_on = []
        for (name, conversation, _, usage), reply in zip(talking, replies, strict=True):
            spent = usage + Usage(calls=1, tokens_in=reply.tokens_in, tokens_out=reply.tokens, seconds=each)
            try:
                going_on.append((name, conversation, conversation.send(reply), spent))
            except StopIteration as told:
                yield Held(name, result=told.value, usage=spent)
        talking = going_on
