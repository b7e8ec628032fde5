"""A trained reward as a service: real processes, the same grades as without, and a run that stops without them."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from processes import alive, children
from pydantic import SecretStr

from medgr2.models import grpo
from medgr2.models.grader import Grader, Judge, grading
from medgr2.models.grader_service import MOST_BYTES
from medgr2.models.grpo import GrpoSettings, Prompt, train_grpo
from medgr2.models.judging import Claim
from medgr2.models.reward_model import Ensemble, RewardModel
from medgr2.models.reward_training import RewardExample, RewardSettings, train_reward
from medgr2.models.rewards import RewardScheme
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.errors import NightStoppedError, UsageError

BASE = Path(__file__).parents[2] / "models" / "base"
DIGEST = "d" * 64
PATIENCE = 400.0
OPTIONS = ("CT", "MRI", "OCT", "X-Ray")
ASK = "Question: Which modality is this image? Options: A) CT B) MRI C) OCT D) X-Ray"
SETTINGS: dict[str, Any] = {
    "steps": 3, "prompts": 2, "generations": 4, "checkpoint_every": 1, "learning_rate": 1e-3, "reward": "paper",
    "grader": DIGEST,
}  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(1)
    paths = [folder / f"{i}.png" for i in range(8)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, size=(64, 64, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture(scope="module")
def judge(pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """Two folds of two members each."""
    folder = tmp_path_factory.mktemp("reward")
    examples = [
        RewardExample(Claim(p, "Which modality?", OPTIONS, "ABCD"[i % 4], "It shows."), i % 2)
        for i, p in enumerate(pictures)
    ]
    for n in range(4):
        settings = RewardSettings(steps=4, batch=4, learning_rate=1e-3, warmup_steps=0, seed=n)
        train_reward(BASE, examples, folder / str(n), settings)
    return Judge(DIGEST, {0: (folder / "0", folder / "1"), 1: (folder / "2", folder / "3")})


@pytest.fixture(scope="module")
def claims(pictures: list[Path]) -> list[tuple[Claim, int]]:
    return [
        (Claim(p, f"Which modality is {i}?", OPTIONS, "ABCD"[i % 4], "seen " * i), i % 2)
        for i, p in enumerate(pictures)
    ]


@pytest.fixture(scope="module")
def grader(judge: Judge) -> Iterator[Grader]:
    with grading(judge, PATIENCE) as service:
        yield service


def practice(pictures: list[Path]) -> list[Prompt]:
    return [
        Prompt(p, ASK, "ABCD"[i % 4], 4, 0.9, question="Which modality is this image?", choices=OPTIONS, fold=i % 2)
        for i, p in enumerate(pictures)
    ]


def test_the_grades_are_those_of_the_members_that_never_saw_the_picture(
    grader: Grader, judge: Judge, claims: list[tuple[Claim, int]]
) -> None:
    expected = {}
    for fold, members in judge.members.items():
        ensemble = Ensemble([RewardModel(member) for member in members])
        mine = [claim for claim, of in claims if of == fold]
        expected |= {claim.question: opinion.mean for claim, opinion in zip(mine, ensemble.judge(mine), strict=True)}
    grades = grader.grade(claims)
    assert grades == [round(expected[claim.question], 9) for claim, _ in claims]
    assert len(set(grades)) > 4
    # Alone, in another order, again: the same number, or a resumed run would be another one.
    assert [grader.grade([one])[0] for one in claims] == grades
    assert grader.grade(claims[::-1]) == grades[::-1]
    assert grader.grade([(claim, 1 - fold) for claim, fold in claims]) != grades


def test_who_does_not_know_the_token_or_asks_for_too_much_gets_nothing(
    grader: Grader, claims: list[tuple[Claim, int]]
) -> None:
    url, token = grader._url, grader._token.get_secret_value()
    assert url.startswith("http://127.0.0.1:")

    def post(path: str, body: bytes, **headers: str) -> tuple[int, str]:
        request = urllib.request.Request(f"{url}{path}", body, {"Authorization": f"Bearer {token}"} | headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()

    with pytest.raises(NightStoppedError, match="401"):
        Grader(url, SecretStr("wrong"), DIGEST, PATIENCE).grade(claims[:1])
    assert post("/grade", b"{}", Authorization="")[0] == 401
    assert post("/other", b"{}")[0] == 404
    private = {"question": "SECRET-NAME", "options": ["a"], "answer": "Q", "rationale": "", "picture": "x", "fold": 0}
    status, said = post("/grade", json.dumps({"pictures": {}, "claims": [private]}).encode())
    assert status == 400
    assert "SECRET-NAME" not in said
    whole = private | {"options": ["a", "b"], "answer": "A", "picture": "0" * 64}
    assert post("/grade", json.dumps({"pictures": {}, "claims": [whole]}).encode())[0] == 400
    for data in ("!", "aGVsbG8="):
        assert post("/grade", json.dumps({"pictures": {"0" * 64: data}, "claims": [whole]}).encode())[0] == 400
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=PATIENCE) as s:
        s.sendall(f"POST /grade HTTP/1.0\r\nAuthorization: Bearer {token}\r\n".encode())
        s.sendall(f"Content-Length: {MOST_BYTES + 1}\r\n\r\n".encode())
        assert b" 413 " in s.recv(1000)
    assert grader.grade(claims[:1]), "it still answers"


def test_a_reply_that_cannot_be_read_is_worth_nothing_and_not_asked_about(pictures: list[Path]) -> None:
    asked: list[Claim] = []

    def grade(claims: Any) -> list[float]:
        asked.extend(claim for claim, _ in claims)
        return [0.7] * len(claims)

    prompts = practice(pictures)[:3]
    said = ["<think>a mass</think><answer>B</answer>", "A or B or C", "<answer>D</answer>"]
    assert grpo._grades(prompts, said, GrpoSettings(), grade) == [0.7, 0.0, 0.7]
    assert [(c.answer, c.rationale, c.options) for c in asked] == [("B", "a mass", OPTIONS), ("D", "", OPTIONS)]
    assert grpo._grades(prompts[:1], said[1:2], GrpoSettings(), grade) == [0.0]


def test_practice_is_rewarded_by_the_grade_of_each_reply(
    judge: Judge, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within one group the grades differ, as p(valid) of the item never does; undisturbed twice: the same bytes."""
    seen: list[tuple[str, float]] = []
    real = RewardScheme.__call__
    monkeypatch.setattr(
        RewardScheme, "__call__", lambda self, reply: (seen.append((reply.key, reply.quality)), real(self, reply))[1]
    )
    digests = set()
    for name in ("first", "second"):
        with grading(judge, PATIENCE) as grader:
            train_grpo(BASE, practice(pictures), tmp_path / name, GrpoSettings(**SETTINGS), grader.grade)
        digests.add(sha256_hex((tmp_path / name / "model.safetensors").read_bytes()))
    assert len(digests) == 1
    groups = [{quality for _, quality in seen[i : i + 4]} for i in range(0, len(seen), 4)]
    assert any(len(group) > 1 for group in groups)
    assert all(0 <= quality <= 1 and quality != 0.9 for _, quality in seen)
    train_grpo(BASE, practice(pictures), tmp_path / "items", GrpoSettings(**SETTINGS | {"grader": ""}))
    assert sha256_hex((tmp_path / "items" / "model.safetensors").read_bytes()) not in digests


def test_a_grader_that_the_recipe_does_not_name_is_refused(pictures: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="if and only if"):
        train_grpo(BASE, practice(pictures), tmp_path / "out", GrpoSettings(**SETTINGS))
    plain = GrpoSettings(**SETTINGS | {"grader": ""})
    with pytest.raises(UsageError, match="if and only if"):
        train_grpo(BASE, practice(pictures), tmp_path / "out", plain, lambda claims: [0.5] * len(claims))


def _killed(judge: Judge, pictures: list[Path], out: Path, at: int) -> None:
    calls: list[int] = []
    with grading(judge, PATIENCE) as grader:

        def grade(claims: Any) -> list[float]:
            calls.append(1)
            if len(calls) == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return grader.grade(claims)

        train_grpo(BASE, practice(pictures), out, GrpoSettings(**SETTINGS), grade)


@pytest.mark.crash
def test_killed_while_it_waits_for_grades_and_run_again_is_the_same_bytes(
    judge: Judge, pictures: list[Path], tmp_path: Path
) -> None:
    spawn = multiprocessing.get_context("spawn")
    for name, at in (("whole", 0), ("cut", 3), ("cut", 0)):
        process = spawn.Process(target=_killed, args=(judge, pictures, tmp_path / name, at))
        process.start()
        process.join(PATIENCE)
        assert process.exitcode == (-signal.SIGKILL if at else 0)
    whole, cut = ((tmp_path / n / "model.safetensors").read_bytes() for n in ("whole", "cut"))
    assert whole == cut


@pytest.mark.crash
def test_the_service_ends_with_whoever_started_it(judge: Judge, tmp_path: Path) -> None:
    members = {fold: [str(m) for m in of] for fold, of in judge.members.items()}
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom medgr2.models.grader import Judge, grading\n"
        f"members = {{f: tuple(map(Path, m)) for f, m in {members!r}.items()}}\n"
        f"with grading(Judge('{DIGEST}', members), 60) as g:\n    print(g._url, flush=True)\n    time.sleep(600)\n"
    )
    elsewhere = os.environ | {"TMPDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=elsewhere)
    assert parent.stdout is not None
    port = int(parent.stdout.readline().rpartition(":")[2])
    socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
    services = children(parent.pid)
    assert services
    (folder,) = tmp_path.glob("medgr2-grader-*")
    (folder / "a picture").write_bytes(b"of a patient")
    parent.kill()
    parent.wait(120)
    end = time.monotonic() + PATIENCE
    while alive(services):
        assert time.monotonic() < end, "the service outlives its parent"
        time.sleep(0.1)
    assert not folder.exists()


def test_no_picture_outlives_the_service(
    judge: Judge, claims: list[tuple[Claim, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with grading(judge, PATIENCE) as service:
        service.grade(claims)
        assert len(list(tmp_path.glob("medgr2-grader-*/*"))) == len({claim.image_path for claim, _ in claims})
    assert not list(tmp_path.iterdir())


def test_an_error_never_quotes_what_was_sent(grader: Grader, claims: list[tuple[Claim, int]]) -> None:
    (claim, fold), name = claims[0], "JANE DOE " * 5000
    with pytest.raises(NightStoppedError, match="1 fields of what is to be graded") as stopped:
        grader.grade([(replace(claim, question=name), fold)])
    assert "JANE" not in str(stopped.value)


class Broken(BaseHTTPRequestHandler):
    body = b""
    status = 200
    answers: threading.Event

    def do_POST(self) -> None:
        # A connection that is closed with something unread is reset, and the answer may be lost.
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answers.wait(PATIENCE)
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("body", "status", "seconds", "why"),
    [
        (f'{{"model": "{DIGEST}", "grades": [NaN]}}', 200, PATIENCE, "1 of 1 grades are not numbers"),
        (f'{{"model": "{DIGEST}", "grades": [1.5]}}', 200, PATIENCE, "1 of 1 grades are not numbers"),
        (f'{{"model": "{DIGEST}", "grades": [0.5, 0.5]}}', 200, PATIENCE, "2 grades for 1"),
        (f'{{"model": "{"e" * 64}", "grades": [0.5]}}', 200, PATIENCE, "another reward answers"),
        ("<html>", 200, PATIENCE, "can not be read"),
        ('{"error": "3 of 4 scores are not finite"}', 500, PATIENCE, "answered 500: 3 of 4 scores"),
        ("", 200, 0.5, "no answer within 0.5 s"),
    ],
)
def test_no_grade_stops_the_run_with_the_reason(
    pictures: list[Path], tmp_path: Path, body: str, status: int, seconds: float, why: str
) -> None:
    answers = threading.Event()
    if seconds == PATIENCE:
        answers.set()
    handler = type("Handler", (Broken,), {"body": body.encode(), "status": status, "answers": answers})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        grader = Grader(f"http://127.0.0.1:{server.server_port}", SecretStr("t"), DIGEST, seconds)
        claim = Claim(pictures[0], "Which?", OPTIONS, "A", "")
        with pytest.raises(NightStoppedError, match=why) as stopped:
            grader.grade([(claim, 0)])
        assert "checkpoint" in stopped.value.next_command
        answers.set()
        server.shutdown()
    with pytest.raises(NightStoppedError, match="can not be reached: ConnectionRefusedError"):
        grader.grade([(claim, 0)])


def test_in_a_training_the_reason_comes_out_and_the_checkpoints_stay(
    judge: Judge, pictures: list[Path], tmp_path: Path
) -> None:
    calls: list[int] = []
    with grading(judge, PATIENCE) as grader:

        def grade(claims: Any) -> list[float]:
            calls.append(1)
            if len(calls) == 3:
                return Grader("http://127.0.0.1:9", SecretStr("t"), DIGEST, 5).grade(claims)
            return grader.grade(claims)

        with pytest.raises(NightStoppedError, match="the reward gave no grades"):
            train_grpo(BASE, practice(pictures), tmp_path / "out", GrpoSettings(**SETTINGS), grade)
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.work" / "checkpoint-2").is_dir()


def test_a_reward_that_cannot_be_read_does_not_start(judge: Judge, tmp_path: Path) -> None:
    with (
        pytest.raises(NightStoppedError, match="did not start: no such folder"),
        grading(replace(judge, members={0: (tmp_path / "nothing",)}), 20),
    ):
        pass
