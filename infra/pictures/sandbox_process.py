"""The child process of a sandbox, and the pipes to it: neither side can make the other wait for ever."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Sequence

from medgr2.infra.pictures.wire import ANSWER, LONGEST_JSON, READY, REQUEST, Garbled, Opening
from medgr2.schemas.errors import Medgr2Error

START_SECONDS = 120.0
_PIPE_BYTES = 1 << 20
_READS = 64
"""At one time: what comes is looked at before there is too much of it."""
_PASSED_ON = ("LD_LIBRARY_PATH", "TZ")


class SandboxProcess:
    def __init__(self, command: Sequence[str], opening: Opening) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0, env=_environ()
        )
        to, answers = self._process.stdin, self._process.stdout
        if to is None or answers is None:
            raise RuntimeError("a process without its pipes")
        self._to, self._from = to.fileno(), answers.fileno()
        self._finalizer = weakref.finalize(self, _end, self._process)
        for fd in (self._to, self._from):
            os.set_blocking(fd, False)
            if sys.platform == "linux":
                with contextlib.suppress(OSError):  # a limit of the machine: only slower
                    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._poll = select.poll()
        self._poll.register(self._from, select.POLLIN)
        self._unsent: deque[memoryview] = deque()
        self._received = bytearray()
        self._next_sent = self._next_answered = 0
        self._ready = False
        self._most_picture_bytes = opening.rules.memory_mb << 20
        self.ended = False
        text = opening.model_dump_json().encode()
        self._unsent.append(memoryview(len(text).to_bytes(4, "little") + text))
        self._await_ready(command)

    def send(self, suffix: bytes, data: bytes) -> None:
        head = REQUEST.pack(self._next_sent, len(suffix), len(data)) + suffix
        self._next_sent = (self._next_sent + 1) % READY
        if len(data) < 65536:
            self._unsent.append(memoryview(head + data))
        else:
            self._unsent += (memoryview(head), memoryview(data))

    def exchange(self, seconds: float) -> list[tuple[bytes, bytes]]:
        """Sends and receives what it can; waits for an answer, its end, or so long."""
        deadline = time.monotonic() + seconds
        while True:
            self._write()
            self._read()
            answers = self._parse()
            if answers or self.ended:
                return answers
            left = deadline - time.monotonic()
            if left <= 0:
                return []
            self._await(left)

    def gone(self) -> bool:
        return self._process.poll() is not None

    def cause(self) -> str:
        """How it ended: the name of a signal, or its exit code."""
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        return signal.Signals(-code).name if code < 0 else f"exit {code}"

    def end(self) -> None:
        self._finalizer()

    def _await_ready(self, command: Sequence[str]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._ready:
            self._write()
            self._read()
            if len(self._received) >= ANSWER.size:
                self._ready = ANSWER.unpack_from(self._received)[0] == READY
                del self._received[: ANSWER.size]
                if self._ready:
                    return
                self.ended = True
            left = deadline - time.monotonic()
            if self.ended or left <= 0:
                how = self.cause() if self.ended else f"no sign of life within {START_SECONDS:.0f} s"
                self.end()
                raise Medgr2Error(
                    f"the process that reads pictures does not start: {how}",
                    kept="everything read before",
                    next_command="raise memory_mb of the reading rules, or see what this says:  "
                    f"{' '.join(command)} </dev/null",
                )
            self._await(left)

    def _await(self, seconds: float) -> None:
        """For bytes from the child, or room for more bytes to it."""
        if self._unsent:
            self._poll.register(self._to, select.POLLOUT)
        self._poll.poll(min(seconds, 3600) * 1000 + 1)
        if self._unsent:
            self._poll.unregister(self._to)

    def _write(self) -> None:
        while self._unsent:
            try:
                n = os.writev(self._to, list(self._unsent)[:64])
            except BlockingIOError:
                return
            except BrokenPipeError:
                self._unsent.clear()  # how it ended is told by the other pipe
                return
            while n and n >= len(self._unsent[0]):
                n -= len(self._unsent.popleft())
            if n:
                self._unsent[0] = self._unsent[0][n:]

    def _read(self) -> None:
        for _ in range(_READS):
            try:
                data = os.read(self._from, _PIPE_BYTES)
            except BlockingIOError:
                return
            if not data:
                self.ended = True
                return
            self._received += data
            if len(data) < 65536:
                return

    def _parse(self) -> list[tuple[bytes, bytes]]:
        answers: list[tuple[bytes, bytes]] = []
        at = 0
        while len(self._received) - at >= ANSWER.size:
            sequence, text, blob = ANSWER.unpack_from(self._received, at)
            if sequence != self._next_answered or text > LONGEST_JSON or blob > self._most_picture_bytes:
                if answers:
                    break  # those before it are good
                raise Garbled("not an answer to what was asked")
            end = at + ANSWER.size + text + blob
            if end > len(self._received):
                break
            middle = at + ANSWER.size + text
            answers.append((bytes(self._received[at + ANSWER.size : middle]), bytes(self._received[middle:end])))
            self._next_answered = (self._next_answered + 1) % READY
            at = end
        del self._received[:at]
        return answers


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)


def _environ() -> dict[str, str]:
    """Where this interpreter finds its modules, and nothing else: no keys, no addresses, no home."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**kept, "PYTHONPATH": path, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
