from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from made_pictures import MARKER, encoded, picture
from processes import alive, children

from medgr2.infra.pictures.reading import BrokenError, Reading, RefusedError, UnreadableError
from medgr2.infra.pictures.sandbox import Sandbox
from medgr2.infra.pictures.sandbox_process import SandboxProcess
from medgr2.infra.pictures.wire import Garbled, decode, encode
from medgr2.schemas.errors import Medgr2Error, MissingExtraError
from medgr2.schemas.intake import ReadingRules

KEY = b"0123456789abcdef0123456789abcdef"
GOOD = encoded("JPEG")
LIMIT = 400.0
"""Seconds: no file takes so long, whatever the machine does."""


class FaultySandbox(Sandbox):
    command: ClassVar[tuple[str, ...]] = (sys.executable, "-P", "-B", str(Path(__file__).parent / "faulty_child.py"))


class Impatient(FaultySandbox):
    """With one kind of file: as if its time had passed."""

    def _deadline(self) -> float:
        return super()._deadline() - (self._rules.seconds if self._waiting[0].data == b"STUBBORN" else 0)


class Clock:
    """The sandbox's own, put forward by hand."""

    ahead = 0.0
    sleep = staticmethod(time.sleep)

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


def rules(seconds: float = LIMIT) -> ReadingRules:
    return ReadingRules(seconds=seconds, memory_mb=2048, burned_in="off")


@pytest.fixture
def faulty() -> Iterator[FaultySandbox]:
    with FaultySandbox(rules(), KEY) as sandbox:
        yield sandbox


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("medgr2.infra.pictures.sandbox.time", clock)
    return clock


def child_of(sandbox: Sandbox) -> int:
    assert sandbox._process is not None
    return sandbox._process._process.pid


def outcomes(sandbox: Sandbox, files: list[bytes]) -> list[str]:
    """One word a file, in the order of the files."""
    answers = dict(sandbox.read_many((n, data, ".jpg") for n, data in enumerate(files)))
    assert len(answers) == len(files)
    return [_word(answers[n]) for n in range(len(files))]


def _word(answer: Reading | UnreadableError) -> str:
    return "read" if isinstance(answer, Reading) else f"{answer.reason} {answer.detail}".strip()


def test_good_files_come_back_whole() -> None:
    files = [encoded("PNG", picture(seed=n)) for n in range(80)] + [encoded("TIFF", picture(size=(900, 700)))]
    with Sandbox(ReadingRules(seconds=LIMIT), KEY) as sandbox:
        answers = dict(sandbox.read_many((n, data, ".png") for n, data in enumerate(files)))
    assert sandbox.restarts == 0
    for n, data in enumerate(files[:-1]):
        answer = answers[n]
        assert isinstance(answer, Reading)
        assert answer.pictures[0].data is data
        assert (answer.pictures[0].width, answer.pictures[0].height) == (48, 40)
        assert answer.pictures[0].fingerprint
    last = answers[80]
    assert isinstance(last, Reading)
    assert last.pictures[0].data.startswith(b"\x89PNG")
    assert last.header["mislabelled"]


def test_a_file_that_kills_costs_only_itself(faulty: FaultySandbox) -> None:
    files = [GOOD] * 5 + [b"DEATH"] + [GOOD] * 5 + [b"QUIT"] + [GOOD] * 5
    words = outcomes(faulty, files)
    assert words[5] == "killed_its_reader SIGSEGV"
    assert words[11] == "killed_its_reader exit 3"
    assert [w for n, w in enumerate(words) if n not in (5, 11)] == ["read"] * 15


def test_nothing_but_killers(faulty: FaultySandbox) -> None:
    assert outcomes(faulty, [b"DEATH"] * 3) == ["killed_its_reader SIGSEGV"] * 3


def test_a_death_that_does_not_repeat_is_not_the_files_fault(faulty: FaultySandbox, tmp_path: Path) -> None:
    assert outcomes(faulty, [GOOD, b"ONCE " + str(tmp_path / "killed").encode(), GOOD]) == ["read"] * 3
    assert faulty.restarts == 1


@pytest.mark.parametrize("how", [b"HANG", b"STUBBORN"])
def test_a_file_that_hangs_is_ended_at_the_limit(how: bytes) -> None:
    started = time.monotonic()
    with FaultySandbox(rules(seconds=1), KEY) as sandbox:
        assert outcomes(sandbox, [how]) == ["timed_out"]
    assert time.monotonic() - started > 0.9


@pytest.mark.parametrize("how", [b"OVERDUE", b"STUBBORN"])
def test_a_file_that_is_ended_at_the_limit_costs_no_other(how: bytes) -> None:
    with Impatient(rules(), KEY) as sandbox:
        assert outcomes(sandbox, [GOOD, how, GOOD, GOOD]) == ["read", "timed_out", "read", "read"]


def test_many_slow_files_do_not_add_up_to_a_hang(
    faulty: FaultySandbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes three quarters of its time, for the child and for its parent."""
    exchange = SandboxProcess.exchange

    def slowly(self: SandboxProcess, seconds: float) -> list[tuple[bytes, bytes]]:
        answers = exchange(self, seconds)
        clock.ahead += 0.75 * LIMIT if answers else 0
        return answers

    monkeypatch.setattr(SandboxProcess, "exchange", slowly)
    assert outcomes(faulty, [b"SLOW"] * 12) == ["read"] * 12


def test_a_slow_source_or_a_slow_taker_is_no_hang(faulty: FaultySandbox, clock: Clock) -> None:
    def slowly() -> Iterator[tuple[int, bytes, str]]:
        for n in range(3):
            clock.ahead += 2 * LIMIT
            yield n, GOOD, ".jpg"

    answers = []
    for number, answer in faulty.read_many(slowly()):
        clock.ahead += 3 * LIMIT
        answers.append((number, _word(answer)))
    assert answers == [(0, "read"), (1, "read"), (2, "read")]


def test_memory_has_a_limit(faulty: FaultySandbox) -> None:
    assert outcomes(faulty, [GOOD, b"BLOAT", GOOD]) == ["read", "out_of_memory", "read"]
    assert faulty.restarts == 0


def test_a_real_picture_beyond_the_memory_limit() -> None:
    """A small file that needs 144 MB decoded, in a process that has 256 MB for all it is."""
    big = encoded("PNG", picture("L", (64, 64)).resize((12_000, 12_000), 0), compress_level=1)
    with Sandbox(ReadingRules(seconds=LIMIT, memory_mb=256, max_pixels=400_000_000), KEY) as sandbox:
        words = outcomes(sandbox, [GOOD, big, GOOD])
    assert words[0] == words[2] == "read"
    assert words[1].split()[0] in ("out_of_memory", "killed_its_reader")


def test_a_bug_in_a_decoder_is_an_outcome_and_tells_no_value(faulty: FaultySandbox) -> None:
    assert outcomes(faulty, [b"BUG " + MARKER, GOOD]) == ["reader_failed KeyError", "read"]


def test_noise_goes_nowhere(faulty: FaultySandbox, capfd: pytest.CaptureFixture[str]) -> None:
    assert outcomes(faulty, [b"NOISE " + MARKER, GOOD]) == ["read", "read"]
    assert MARKER.decode() not in "".join(capfd.readouterr())


def test_nothing_can_be_written(faulty: FaultySandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert outcomes(faulty, [b"WRITE " + MARKER]) == ["reader_failed OSError"]
    assert all(MARKER not in path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    "lie",
    [b"\x00" * 64, b"\xff" * 64, b"\x01\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00true"],
    ids=["zeros", "ones", "json"],
)
def test_a_child_that_was_taken_over_cannot_lie_its_way_in(faulty: FaultySandbox, lie: bytes) -> None:
    words = outcomes(faulty, [GOOD] * 9 + [b"GARBLED " + lie, GOOD])
    assert words[:9] == ["read"] * 9
    assert words[10] == "read"
    assert words[9].startswith("killed_its_reader garbled answer")


def test_no_secret_is_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDGR2_PRIVACY__PATIENT_KEY", MARKER.decode())
    with Sandbox(ReadingRules(seconds=LIMIT), KEY) as sandbox:
        outcomes(sandbox, [GOOD])
        pid = child_of(sandbox)
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    for secret in (MARKER, KEY, KEY.hex().encode()):
        assert secret not in environment
        assert secret not in command


def test_size_is_limited_before_anything_is_sent() -> None:
    with Sandbox(ReadingRules(seconds=LIMIT, max_bytes=len(GOOD)), KEY) as sandbox:
        assert outcomes(sandbox, [GOOD, GOOD + b"x", b""])[1].startswith("too_large")


def test_a_stream_left_early_leaves_nothing_behind(faulty: FaultySandbox) -> None:
    stream = faulty.read_many((n, GOOD, ".jpg") for n in range(50))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert outcomes(faulty, [GOOD, b"x", GOOD]) == ["read"] * 3


def test_a_source_that_fails_is_heard_and_the_sandbox_goes_on(faulty: FaultySandbox) -> None:
    def failing() -> Iterator[tuple[int, bytes, str]]:
        yield 0, GOOD, ".jpg"
        raise OSError("the share is gone")

    with pytest.raises(OSError, match="the share is gone"):
        list(faulty.read_many(failing()))
    assert outcomes(faulty, [GOOD]) == ["read"]


def test_a_child_that_was_killed_between_files_is_nobodys_fault(faulty: FaultySandbox) -> None:
    assert outcomes(faulty, [GOOD]) == ["read"]
    os.kill(child_of(faulty), signal.SIGKILL)
    assert outcomes(faulty, [GOOD, GOOD]) == ["read", "read"]


def test_no_memory_to_start_in_is_said() -> None:
    class Stillborn(Sandbox):
        command: ClassVar[tuple[str, ...]] = (sys.executable, "-c", "raise SystemExit(7)")

    with pytest.raises(Medgr2Error, match="does not start: exit 7"):
        outcomes(Stillborn(ReadingRules(), KEY), [GOOD])


def test_the_smallest_memory_that_may_be_asked_for_is_enough_for_small_pictures() -> None:
    with Sandbox(ReadingRules(seconds=LIMIT, memory_mb=256, burned_in="off"), KEY) as sandbox:
        assert outcomes(sandbox, [GOOD, encoded("TIFF", picture("F"))]) == ["read", "read"]


@pytest.mark.parametrize("busy", [True, False])
def test_no_child_outlives_a_killed_parent(busy: bool, tmp_path: Path) -> None:
    program = (
        f"import sys, time; sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[2])]!r}\n"
        "from test_sandbox import FaultySandbox, KEY, GOOD, ReadingRules\n"
        "s = FaultySandbox(ReadingRules(seconds=1000), KEY)\n"
        f"for n, a in s.read_many([(0, GOOD, '')] + [(1, b'HANG', '')] * {int(busy)}):\n"
        "    print('read', flush=True)\n"
        "time.sleep(1000)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"read\n"
        kids = children(parent.pid)
        assert kids
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    deadline = time.monotonic() + 400
    while alive(kids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(kids)


def test_answers_that_are_not_as_agreed_are_not_believed() -> None:
    error = encode(0, BrokenError("undecodable", "ValueError"), b"")
    assert isinstance(decode(error[1], b"", b""), BrokenError)
    assert isinstance(decode(encode(0, RefusedError("blank"), b"")[1], b"", b""), RefusedError)
    missing = decode(encode(0, MissingExtraError("no", next_command="pip install x"), b"")[1], b"", b"")
    assert isinstance(missing, MissingExtraError)
    assert missing.next_command == "pip install x"
    picture_ = {
        "length": 3, "width": 9, "height": 9, "media_type": "image/png",
        "part": "", "fingerprint": "", "burned_in": "none",
    }  # fmt: skip
    rest = {
        "left_out": {}, "modality": None, "anatomy": None, "patient": "", "study": "", "header": {}, "found": {}
    }  # fmt: skip
    good = {"reading": {"pictures": [picture_], **rest}}
    assert isinstance(decode(json.dumps(good).encode(), b"abc", b""), Reading)
    for bad in (
        {}, [], {"reading": {"pictures": [], **rest}}, {**good, "more": 1},
        {"reading": {"pictures": [{**picture_, "length": 2}], **rest}},
        {"reading": {"pictures": [{**picture_, "length": -3}], **rest}},
        {"reading": {"pictures": [{**picture_, "media_type": "text/html"}], **rest}},
        {"failure": "explosion"},
    ):  # fmt: skip
        with pytest.raises(Garbled):
            decode(json.dumps(bad).encode(), b"abc", b"")


def test_the_thread_that_started_the_child_may_end(faulty: FaultySandbox) -> None:
    """Linux ends a child that asked for it with the thread it was started by, not with the process."""
    thread = threading.Thread(target=outcomes, args=(faulty, [GOOD]))
    thread.start()
    thread.join(400)
    assert outcomes(faulty, [GOOD] * 3) == ["read"] * 3
