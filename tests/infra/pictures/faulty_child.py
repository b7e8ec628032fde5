"""A reading process with faults: what a file says in its first bytes is what happens while it is read."""

from __future__ import annotations

import os
import signal
import sys
import time

from medgr2.infra.pictures import child, reader
from medgr2.infra.pictures.reading import Reading

DEATH, HANG, STUBBORN, BLOAT, NOISE, BUG, SLOW, ONCE, WRITE, QUIT = (
    b"DEATH", b"HANG", b"STUBBORN", b"BLOAT", b"NOISE", b"BUG", b"SLOW", b"ONCE", b"WRITE", b"QUIT"
)  # fmt: skip
GARBLED, OVERDUE = b"GARBLED", b"OVERDUE"


class FaultyReader(reader.Reader):
    def read(self, data: bytes, suffix: str) -> Reading:
        word, _, rest = data.partition(b" ")
        if word == DEATH:
            os.kill(os.getpid(), signal.SIGSEGV)
        if word == HANG:
            time.sleep(1000)
        if word == OVERDUE:
            self._has_left(0.05)
            time.sleep(1000)
        if word == STUBBORN:
            signal.setitimer(signal.ITIMER_REAL, 0)
            time.sleep(1000)
        if word == BLOAT:
            bytearray(1 << 40)
        if word == NOISE:
            print(rest, flush=True)
            os.write(1, rest)
            os.write(2, rest)
            sys.stderr.write(rest.decode())
        if word == BUG:
            raise KeyError(rest.decode())
        if word == SLOW:
            self._has_left(self._rules.seconds / 4)
        if word == QUIT:
            os._exit(3)
        if word == WRITE:
            with open("written-by-a-child", "wb") as f:  # noqa: PTH123
                f.write(rest)
        if word == ONCE and not os.path.exists(rest):  # noqa: PTH110
            os.mkdir(rest)  # noqa: PTH102
            os.kill(os.getpid(), signal.SIGKILL)
        if word == GARBLED:
            for fd in range(3, 12):
                try:
                    os.write(fd, rest)
                except OSError:
                    continue
            time.sleep(1000)
        if data[:2] == b"\xff\xd8" or not data.isascii():
            return super().read(data, suffix)
        return super().read(GOOD, suffix)

    def _has_left(self, seconds: float) -> None:
        """So much of the file's time, which was whole: as if the rest had passed."""
        if signal.getitimer(signal.ITIMER_REAL)[0] < self._rules.seconds / 2:
            raise KeyError("the time of another file")
        signal.setitimer(signal.ITIMER_REAL, seconds)


if __name__ == "__main__":
    from made_pictures import encoded

    GOOD = encoded("PNG")
    reader.Reader = FaultyReader  # type: ignore[misc]
    child.main()
