"""Conversations with an engine that is moved on by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from medgr2.models.engines.seam import Completion, Conversation, Request
from medgr2.models.engines.steps import in_steps
from medgr2.schemas.errors import SettingsError


class Scripted:
    """Answers what was asked longest ago, a few each step; `slow` texts need three steps more."""

    def __init__(self, a_step: int = 2) -> None:
        self.a_step = a_step
        self.open: dict[str, list[object]] = {}
        self.most = 0
        self.asked: list[str] = []
        self.dropped: list[str] = []

    def ask(self, ticket: str, request: Request) -> None:
        if request.text == "refused":
            raise ValueError("too long: " + request.text)
        if request.text == "misconfigured":
            raise SettingsError("no such thing")
        assert ticket not in self.open
        self.asked.append(request.text)
        self.open[ticket] = [request, 3 if request.text == "slow" else 0]
        self.most = max(self.most, len(self.open))

    def step(self) -> Iterator[tuple[str, Completion]]:
        done = 0
        for ticket, entry in list(self.open.items()):
            request, wait = entry
            assert isinstance(request, Request)
            assert isinstance(wait, int)
            if wait:
                entry[1] = wait - 1
            elif done < self.a_step:
                done += 1
                del self.open[ticket]
                yield ticket, Completion(request.text.upper(), True, 2, 5)

    def drop(self, tickets: Iterable[str]) -> None:
        self.dropped += tickets


def talk(*texts: str) -> Conversation[list[str]]:
    said = []
    for text in texts:
        said.append((yield Request(None, text)).text)
    return said


def test_everyone_is_held_to_his_end_and_never_too_many_at_once() -> None:
    engine = Scripted()
    given = [(f"n{i}", talk(*("a", "b")[: i % 3])) for i in range(20)]
    held = {one.name: one for one in in_steps(engine, given, at_once=4)}
    assert {name: one.result for name, one in held.items()} == {f"n{i}": ["A", "B"][: i % 3] for i in range(20)}
    assert engine.most == 4
    assert held["n2"].usage.calls == 2
    assert (held["n2"].usage.tokens_in, held["n2"].usage.tokens_out) == (10, 4)
    assert held["n0"].usage.calls == 0


def test_who_ends_makes_room_while_others_are_still_at_it() -> None:
    engine = Scripted(a_step=1)
    held = [one.name for one in in_steps(engine, [("s", talk("slow")), *((str(i), talk("a")) for i in range(3))], 2)]
    assert held.index("s") > 0
    assert sorted(held) == ["0", "1", "2", "s"]


def test_a_refused_request_is_its_own_trouble_without_its_words() -> None:
    given = [("good", talk("a")), ("bad", talk("a", "refused")), ("late", talk("b"))]
    held = {one.name: one for one in in_steps(Scripted(), given, 8)}
    assert held["good"].result == ["A"]
    assert held["late"].result == ["B"]
    trouble = held["bad"].trouble
    assert trouble is not None
    assert trouble.reason == "ValueError"
    assert "too long" not in trouble.detail
    assert held["bad"].usage.calls == 1  # what was answered before is paid for


def test_wrong_settings_stop_everything_and_nothing_stays_asked() -> None:
    engine = Scripted()
    with pytest.raises(SettingsError):
        list(in_steps(engine, [("a", talk("slow")), ("b", talk("misconfigured"))], 8))
    assert engine.dropped == ["1"]


def test_an_engine_that_fails_is_everybodys_trouble() -> None:
    class Failing(Scripted):
        def step(self) -> Iterator[tuple[str, Completion]]:
            raise RuntimeError("no memory")

    with pytest.raises(RuntimeError):
        list(in_steps(Failing(), [("a", talk("a"))], 8))


def test_leaving_early_drops_what_was_asked() -> None:
    engine = Scripted(a_step=1)
    going = in_steps(engine, [(str(i), talk("a")) for i in range(5)], 3)
    assert next(going).name == "0"
    going.close()
    assert engine.dropped == list(engine.open)
    assert engine.dropped


def test_none_for_now_is_asked_again() -> None:
    given = [None, ("a", talk("a")), None, None, ("b", talk("b")), None]
    assert [one.name for one in in_steps(Scripted(), given, 8)] == ["a", "b"]
