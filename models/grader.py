"""Grades of a policy's own replies, from a trained reward that runs as a service beside the training.

What the policy said about a picture becomes a claim, and the reward says how sure it is that the claim holds. A reply
is never graded by a member that learned from its picture. The service is a process of its own: GRPO sees no weights
of the reward, and its memory and its device are not the training's.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import math
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from medgr2.models.grader_service import MOST_BYTES, MOST_CLAIMS, Asked, GradeReply, GradeRequest, Opening
from medgr2.models.judging import Claim
from medgr2.models.watch import waiting_for
from medgr2.schemas.errors import NightStoppedError

START_SECONDS = 600.0
SERVICE = "medgr2.models.grader_service"


@dataclass(frozen=True, slots=True)
class Judge:
    """Who grades: the digest of the reward, and by fold the folders of the members that never saw its pictures."""

    model: str
    members: Mapping[int, tuple[Path, ...]]
    device: str = "cpu"


class Grader:
    def __init__(self, url: str, token: SecretStr, model: str, seconds: float) -> None:
        self._url, self._token, self._model, self._seconds = url, token, model, seconds

    def told(self) -> dict[str, Any]:
        """How another process of ours reaches the same service. It is a secret."""
        token = self._token.get_secret_value()
        return {"url": self._url, "token": token, "model": self._model, "seconds": self._seconds}

    @classmethod
    def reached(cls, told: Mapping[str, Any], waiting: int) -> Grader:
        """One of `waiting` processes that ask at once: one waits for the grades of all."""
        seconds = float(told["seconds"]) * waiting
        return cls(str(told["url"]), SecretStr(str(told["token"])), str(told["model"]), seconds)

    def grade(self, claims: Sequence[tuple[Claim, int]]) -> list[float]:
        """Of claims with the folds of their pictures, in [0, 1]. Anything else than a grade for each stops the run."""
        grades: list[float] = []
        for start in range(0, len(claims), MOST_CLAIMS):
            grades += self._asked(claims[start : start + MOST_CLAIMS])
        return grades

    def _asked(self, claims: Sequence[tuple[Claim, int]]) -> list[float]:
        content = {path: path.read_bytes() for path in {claim.image_path for claim, _ in claims}}
        names = {path: hashlib.sha256(data).hexdigest() for path, data in content.items()}
        try:
            request = GradeRequest(
                pictures={names[path]: base64.b64encode(data).decode() for path, data in content.items()},
                claims=tuple(
                    Asked(
                        picture=names[c.image_path],
                        fold=fold,
                        question=c.question,
                        options=c.options,
                        answer=c.answer,
                        rationale=c.rationale,
                    )
                    for c, fold in claims
                ),
            )
        except ValidationError as e:
            # Its own text would quote the question.
            raise self._stopped(f"{e.error_count()} fields of what is to be graded are too long or empty") from None
        body = request.model_dump_json().encode()
        if len(body) > MOST_BYTES:
            raise self._stopped(f"one step asks for {len(body)} bytes, more than {MOST_BYTES}", "fewer prompts a step")
        with waiting_for(f"the grader at {self._url}"):
            reply = self._post(body)
        if reply.model != self._model:
            raise self._stopped(f"another reward answers: {reply.model[:12]}, not {self._model[:12]}")
        if len(reply.grades) != len(claims):
            raise self._stopped(f"it gave {len(reply.grades)} grades for {len(claims)} replies")
        if wrong := sum(not (math.isfinite(g) and 0 <= g <= 1) for g in reply.grades):
            raise self._stopped(f"{wrong} of {len(claims)} grades are not numbers in [0, 1]")
        return list(reply.grades)

    def _post(self, body: bytes) -> GradeReply:
        headers = {"Authorization": f"Bearer {self._token.get_secret_value()}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._url}/grade", body, headers)  # noqa: S310  ours, on the loopback
        try:
            # No proxy: what is asked is private, and stays on this machine.
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=self._seconds) as r:
                return GradeReply.model_validate_json(r.read(MOST_BYTES))
        except urllib.error.HTTPError as e:
            raise self._stopped(f"it answered {e.code}: {_error(e)}") from None
        except TimeoutError:
            raise self._stopped(f"no answer within {self._seconds:g} s") from None
        except ValidationError:
            raise self._stopped("its answer can not be read") from None
        except OSError as e:
            reason = getattr(e, "reason", e)
            if isinstance(reason, TimeoutError):
                raise self._stopped(f"no answer within {self._seconds:g} s") from None
            raise self._stopped(f"it can not be reached: {type(reason).__name__}") from None

    def _stopped(self, what: str, instead: str = "") -> NightStoppedError:
        return _no_grades(what, self._url, instead)


@contextlib.contextmanager
def grading(judge: Judge, seconds: float) -> Iterator[Grader]:
    """The service, started for this training and gone with it."""
    token = SecretStr(secrets.token_hex(32))
    folder = Path(tempfile.mkdtemp(prefix="medgr2-grader-"))
    opening = Opening(token=token, model=judge.model, members=dict(judge.members), device=judge.device, folder=folder)
    said = opening.model_dump(mode="json") | {"token": token.get_secret_value()}
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    service = subprocess.Popen(
        [sys.executable, "-m", SERVICE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | quiet,
        # A signal to the group is for the training, which may still want grades for its last step.
        start_new_session=True,
    )
    try:
        yield Grader(f"http://127.0.0.1:{_port(service, json.dumps(said))}", token, judge.model, seconds)
    finally:
        service.kill()
        service.communicate()
        shutil.rmtree(folder, ignore_errors=True)


def _port(service: subprocess.Popen[str], opening: str) -> int:
    """What it says when it stands; a service that never does is ended."""
    assert service.stdin is not None  # noqa: S101  a pipe, as asked
    assert service.stdout is not None  # noqa: S101
    late = threading.Timer(START_SECONDS, service.kill)
    late.daemon = True
    late.start()
    try:
        with waiting_for("the grader to start"):
            with contextlib.suppress(BrokenPipeError):
                service.stdin.write(opening + "\n")
                service.stdin.flush()
            line = service.stdout.readline()
    finally:
        late.cancel()
    try:
        told = dict(json.loads(line))
        return int(told["port"])
    except KeyError:
        raise _no_grades(f"it did not start: {str(told.get('error', ''))[:300]}", SERVICE) from None
    except (ValueError, TypeError):
        raise _no_grades("it did not start, and said nothing that can be read", SERVICE) from None


def _error(e: urllib.error.HTTPError) -> str:
    try:
        told: Any = json.loads(e.read(10_000))
        return str(told["error"])[:300]
    except (OSError, ValueError, KeyError, TypeError):
        return "nothing more"


def _no_grades(what: str, where: str, instead: str = "") -> NightStoppedError:
    return NightStoppedError(
        f"the reward gave no grades, and GRPO does not go on without: {what}",
        where=where,
        kept="the checkpoints of this training",
        next_command=instead
        or "look at memory and device, then give the same command again: it goes on from the last checkpoint; "
        "or medgr2 rollback reward",
    )
