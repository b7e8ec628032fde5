"""The reading process: it decodes what strangers made, so it holds nothing, can write nothing, and may die."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import resource
import signal
import sys
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from medgr2.infra.pictures import wire
    from medgr2.infra.pictures.reader import Reader

_PR_SET_PDEATHSIG = 1


def main() -> None:
    requests, answers = _own_pipes()
    _shut_in()
    from PIL import Image

    from medgr2.infra.pictures import wire
    from medgr2.infra.pictures.reader import Reader
    from medgr2.infra.pseudonyms import Pseudonyms

    with contextlib.suppress(EOFError, BrokenPipeError):
        length = int.from_bytes(wire.read_exactly(requests, 4), "little")
        opening = wire.Opening.model_validate_json(wire.read_exactly(requests, length))
        _limit(resource.RLIMIT_AS, opening.rules.memory_mb << 20)
        Image.MAX_IMAGE_PIXELS = opening.rules.max_pixels
        reader = Reader(opening.rules, Pseudonyms(bytes.fromhex(opening.key)))
        answers.write(wire.ANSWER.pack(wire.READY, 0, 0))
        answers.flush()
        _serve(reader, opening.rules.seconds, requests, answers)


def _serve(reader: Reader, seconds: float, requests: IO[bytes], answers: IO[bytes]) -> None:
    from medgr2.infra.pictures import wire
    from medgr2.infra.pictures.reading import BrokenError

    while True:
        sequence, suffix_length, length = wire.REQUEST.unpack(wire.read_exactly(requests, wire.REQUEST.size))
        suffix = wire.read_exactly(requests, suffix_length).decode("utf-8", "replace")
        data = wire.read_exactly(requests, length)
        # The kernel ends this process at the limit, whatever code it is in and whether or not the parent lives.
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            answer = wire.encode(sequence, _read(reader, data, suffix), data)
        except MemoryError:
            answer = wire.encode(sequence, BrokenError("out_of_memory"), data)
        except Exception as e:
            answer = wire.encode(sequence, BrokenError("reader_failed", type(e).__name__), data)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for part in answer:
            answers.write(part)
        answers.flush()
        del data, answer


def _read(reader: Reader, data: bytes, suffix: str) -> wire.Result:
    from medgr2.infra.pictures.reading import UnreadableError
    from medgr2.schemas.errors import MissingExtraError

    try:
        return reader.read(data, suffix)
    except (UnreadableError, MissingExtraError) as e:
        return e


def _own_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Decoders print header values, and may read: their standard streams lead nowhere."""
    requests, answers = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    return io.BufferedReader(io.FileIO(requests, "r"), 1 << 18), io.BufferedWriter(io.FileIO(answers, "w"), 1 << 16)


def _shut_in() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides; it closes the pipe
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))


if __name__ == "__main__":
    main()
