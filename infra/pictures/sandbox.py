"""Reading in a child process: a file that kills, hangs or bloats its reader costs itself and nothing else."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, Self

from medgr2.infra.pictures.reading import BrokenError, Reading, RefusedError, UnreadableError
from medgr2.infra.pictures.sandbox_process import SandboxProcess
from medgr2.infra.pictures.wire import LONGEST_SUFFIX, Garbled, Opening, decode
from medgr2.schemas.errors import MissingExtraError
from medgr2.schemas.intake import ReadingRules

IN_FLIGHT_FILES = 64
IN_FLIGHT_BYTES = 64 << 20
GRACE_SECONDS = 0.5
"""The child ends itself at the limit. Only one that was taken over gets so far as to be ended from here."""

NAP_SECONDS = 0.001
"""While the child has plenty to do, its answers are awaited in batches: waking for each slows both sides down."""
SLOWEST_BYTES_PER_SECOND = 100e6


@dataclass(slots=True)
class _File:
    number: int
    data: bytes
    suffix: bytes
    deaths: int = 0


class Sandbox:
    """One child, started when first needed. Not for two threads at once."""

    command: ClassVar[tuple[str, ...]] = (sys.executable, "-P", "-B", "-m", "medgr2.infra.pictures.child")

    def __init__(self, rules: ReadingRules, key: bytes) -> None:
        self._rules = rules
        self._opening = Opening(rules=rules, key=key.hex())
        self._process: SandboxProcess | None = None
        self._waiting: deque[_File] = deque()
        """In flight, oldest first: the first `_sent` of them are with the child, which answers in order."""
        self._sent = self._held = 0
        """Files that are with the child; bytes in flight."""
        self._since = 0.0
        self.restarts = 0

    def read_many(self, files: Iterable[tuple[int, bytes, str]]) -> Iterator[tuple[int, Reading | UnreadableError]]:
        """One answer per file, whatever happens. A missing extra is no fault of a file: it is raised."""
        if self._waiting:
            raise RuntimeError("a sandbox reads one stream of files at a time")
        source = iter(files)
        more = True
        try:
            while more or self._waiting:
                while more and self._has_room():
                    try:
                        number, data, suffix = next(source)
                    except StopIteration:
                        more = False
                        break
                    self._since = time.monotonic()
                    if len(data) > self._rules.max_bytes:
                        yield number, RefusedError("too_large", f"the limit is {self._rules.max_bytes} bytes")
                        continue
                    self._waiting.append(_File(number, data, suffix.encode("utf-8", "replace")[:LONGEST_SUFFIX]))
                    self._held += len(data)
                    yield from self._answers(wait=False)
                if self._waiting:
                    yield from self._answers(wait=True)
        finally:
            if self._waiting:
                self._waiting.clear()
                self._held = 0
                self.close()

    def close(self) -> None:
        self._sent = 0
        if self._process is not None:
            self._process.end()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _has_room(self) -> bool:
        return not self._waiting or (len(self._waiting) < IN_FLIGHT_FILES and self._held < IN_FLIGHT_BYTES)

    def _answers(self, wait: bool) -> Iterator[tuple[int, Reading | UnreadableError]]:
        process = self._started()
        self._send(process)
        if wait and self._sent >= IN_FLIGHT_FILES // 2:
            time.sleep(NAP_SECONDS)
        try:
            answers = process.exchange(max(0.0, self._deadline() - time.monotonic()) if wait else 0.0)
            for text, blob in answers:
                if not self._sent:
                    raise Garbled("an answer nobody asked for")
                answer = decode(text, blob, self._waiting[0].data)
                file = self._taken()
                self._sent -= 1
                if isinstance(answer, MissingExtraError):
                    raise answer
                yield file.number, answer
                self._since = time.monotonic()
            if process.ended:
                yield from self._died(process)
            elif wait and not answers and time.monotonic() >= self._deadline():
                yield from self._blame(BrokenError("timed_out"))
        except Garbled as e:
            yield from self._blame(BrokenError("killed_its_reader", f"garbled answer: {e}"))

    def _deadline(self) -> float:
        return self._since + self._rules.seconds + GRACE_SECONDS + self._held / SLOWEST_BYTES_PER_SECOND

    def _taken(self) -> _File:
        file = self._waiting.popleft()
        self._held -= len(file.data)
        return file

    def _started(self) -> SandboxProcess:
        if self._process is not None and not self._sent and self._process.gone():
            self.close()  # it ended between two files: nobody's fault
        if self._process is None:
            self._process = SandboxProcess(self.command, self._opening)
            self._since = time.monotonic()
        return self._process

    def _send(self, process: SandboxProcess) -> None:
        # A file in whose hands a reader died goes alone: should the next one die too, it is clear of what.
        alone = self._waiting[0].deaths > 0
        while self._sent < (min(1, len(self._waiting)) if alone else len(self._waiting)):
            file = self._waiting[self._sent]
            if file.deaths and self._sent:
                break
            process.send(file.suffix, file.data)
            self._sent += 1

    def _died(self, process: SandboxProcess) -> Iterator[tuple[int, UnreadableError]]:
        cause = process.cause()
        if cause == "SIGALRM":
            yield from self._blame(BrokenError("timed_out"))
        elif not self._sent:
            self.close()
        elif self._waiting[0].deaths == 0:
            # Something else may have ended it (the kernel short of memory): every file has a second reader.
            self._waiting[0].deaths = 1
            self.restarts += 1
            self.close()
        else:
            yield from self._blame(BrokenError("killed_its_reader", cause))

    def _blame(self, error: BrokenError) -> Iterator[tuple[int, UnreadableError]]:
        self.restarts += 1
        self.close()
        file = self._taken()
        yield file.number, error
        self._since = time.monotonic()
