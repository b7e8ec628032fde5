"""Whatever the engine, a request gets all of its samples, in order, or the reason why it has none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from medgr2.infra.worker import Trouble
from medgr2.models.engines.rounds import in_rounds
from medgr2.models.engines.seam import Completion, Conversation, Held, Request, T
from medgr2.models.engines.whole import ask_all

ASKED = [Request(None, "one"), Request(None, "two", seeds=(7, 8, 9), temperature=1.0), Request(None, "none", seeds=())]


def said(request: Request) -> Completion:
    return Completion(f"{request.text} {request.temperature} {request.seeds[0]}", True, 1)


class Talking:
    repeatable = True

    def hold(self, conversations: Iterable[tuple[str, Conversation[T]] | None]) -> Iterator[Held[T]]:
        # What comes last is told first, as a scheduler would that has many at once.
        held = in_rounds(lambda asked: [said(one) for one in asked], conversations, at_once=4)
        yield from sorted(held, key=lambda one: one.name, reverse=True)


class Batched(Talking):
    def complete(self, requests: Sequence[Request]) -> list[list[Completion]]:
        return [[said(Request(None, r.text, (seed,), r.temperature)) for seed in r.seeds] for r in requests]


def test_an_engine_that_talks_and_one_that_batches_say_the_same() -> None:
    told = ask_all(Talking(), ASKED)
    assert told == ask_all(Batched(), ASKED)
    assert [[c.text for c in one] for one in told if not isinstance(one, Trouble)] == [
        ["one 1.0 0"], ["two 1.0 7", "two 1.0 8", "two 1.0 9"], [],
    ]  # fmt: skip


class Failing(Talking):
    def hold(self, conversations: Iterable[tuple[str, Conversation[T]] | None]) -> Iterator[Held[T]]:
        for held in super().hold(conversations):
            yield Held(held.name, None, Trouble("timed_out", "")) if held.name == "1/1" else held


def test_one_sample_in_trouble_is_the_whole_request() -> None:
    first, second, third = ask_all(Failing(), ASKED)
    assert isinstance(second, Trouble)
    assert second.reason == "timed_out"
    assert not isinstance(first, Trouble)
    assert third == []
