"""The engine seam: whoever answers prompts about images, in this process or behind a server.

A conversation is what is wanted of an engine: a generator that yields a request, is sent the completion, and either
asks again or returns its result. So parsing, repairing and giving up are written once, for every engine.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from medgr2.infra.worker import Trouble
from medgr2.schemas.usage import NOTHING_USED, Usage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Exchange:
    """An earlier request and its reply, shown again when a reply has to be mended."""

    asked: str
    replied: str


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt about one image, or none. Each seed is one sample; temperature 0 is greedy and ignores the seed."""

    image_path: Path | None
    text: str
    seeds: tuple[int, ...] = (0,)
    temperature: float = 1.0
    max_new_tokens: int = 96
    earlier: tuple[Exchange, ...] = ()
    """The image belongs to the first of them."""
    form: Mapping[str, Any] | None = None
    """JSON schema of the reply, for engines that can hold a model to one; others rely on the text alone."""
    likely: int = 0
    """So many first words are wanted with their chances, from engines that can tell them."""
    weighed: bool = False
    """Every word of the reply is wanted with its chance, from engines that can tell it."""
    sightless: bool = False
    """There is no picture, and none is missed: only then is a vision-language model asked without one."""


@dataclass(frozen=True, slots=True)
class Completion:
    text: str
    finished: bool
    """False when max_new_tokens cut it short."""
    tokens: int
    tokens_in: int = 0
    """Of the prompt, the image's included; 0 where nobody counts them."""
    likely: tuple[tuple[str, float], ...] = ()
    """The likeliest first words with their log-probabilities; empty where they were not wanted, or are not told."""
    words: tuple[tuple[str, float], ...] = ()
    """What `text` was put together from, with log-probabilities; empty where not wanted, or not told."""


Conversation: TypeAlias = Generator[Request, Completion, T]
"""Its requests have one seed each."""


@dataclass(frozen=True, slots=True)
class Held(Generic[T]):
    """What came of a conversation: a result, or why there is none."""

    name: str
    result: T | None = None
    trouble: Trouble | None = None
    usage: Usage = NOTHING_USED


class Engine(Protocol):
    repeatable: bool
    """The same request gets the same reply, so asking again is no use."""

    def hold(self, conversations: Iterable[tuple[str, Conversation[T]] | None]) -> Iterator[Held[T]]:
        """One for every named conversation, each as it comes. The conversations are drawn as there is room for them:
        what they need (a picture's bytes) is read when they begin. None means: nothing for now, look again soon."""
        ...
