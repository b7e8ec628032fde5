"""A trained reward as a service on this machine: claims about pictures in, grades out, the same for the same claims.

Started by `models/grader.py` as a process of its own, with a GPU of its own where there is one. It answers whoever
knows the token, on the loopback only, and ends when the process that started it does.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import shutil
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from medgr2.schemas.errors import Medgr2Error

MOST_BYTES = 64 << 20
MOST_CLAIMS = 4096
PLACES = 9
"""The last bits of a sum depend on what is read beside a claim."""
IDLE_SECONDS = 60.0
"""So long a caller may take to send what it announced."""


class Opening(BaseModel):
    """The one line that the service is told when it starts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: SecretStr
    model: str
    """Digest of the reward."""
    members: dict[int, tuple[Path, ...]]
    """By fold, those who never saw its pictures."""
    device: str = "cpu"
    folder: Path
    """For the pictures that are sent, which are patients': gone when the service ends, however it does."""


class Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    picture: str = Field(pattern=r"^[0-9a-f]{64}$")
    fold: int
    question: str = Field(max_length=20_000)
    options: tuple[str, ...] = Field(min_length=2, max_length=5)
    answer: str = Field(pattern=r"^[A-E]$")
    rationale: str = Field(max_length=100_000)


class GradeRequest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    pictures: dict[str, str]
    """By the hash of their bytes, which are written in base64."""
    claims: tuple[Asked, ...] = Field(min_length=1, max_length=MOST_CLAIMS)


class GradeReply(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    grades: tuple[float, ...]
    """Of each claim, in their order, in [0, 1]."""


class RefusedError(ValueError):
    """Says what is wrong in words of our own: those of a library may quote what was sent."""


class Judges:
    """The members of the reward, and the pictures that they were shown."""

    def __init__(self, opening: Opening) -> None:
        from medgr2.models.reward_model import Ensemble, load_reward

        dtype = "float64" if opening.device == "cpu" else "float32"
        self._ensembles = {
            fold: Ensemble([load_reward(member, dtype, opening.device) for member in of_fold])
            for fold, of_fold in opening.members.items()
        }
        self._model, self._folder = opening.model, opening.folder

    def grade(self, request: GradeRequest) -> GradeReply:
        from medgr2.models.judging import Claim

        paths = {name: self._picture(name, data) for name, data in request.pictures.items()}
        if missing := {claim.picture for claim in request.claims} - paths.keys():
            raise RefusedError(f"{len(missing)} pictures of claims were not sent")
        if unknown := {claim.fold for claim in request.claims} - self._ensembles.keys():
            raise RefusedError(f"no member may judge fold {min(unknown)}")
        grades = [0.0] * len(request.claims)
        for fold, ensemble in self._ensembles.items():
            places = [i for i, claim in enumerate(request.claims) if claim.fold == fold]
            claims = [
                Claim(paths[c.picture], c.question, c.options, c.answer, c.rationale)
                for c in (request.claims[i] for i in places)
            ]
            for i, opinion in zip(places, ensemble.judge(claims) if claims else [], strict=True):
                grades[i] = round(opinion.mean, PLACES)
        return GradeReply(model=self._model, grades=tuple(grades))

    def _picture(self, name: str, data: str) -> Path:
        path = self._folder / name
        if not path.exists():
            content = base64.b64decode(data, validate=True)
            if hashlib.sha256(content).hexdigest() != name:
                raise RefusedError("a picture has other bytes than its name says")
            path.write_bytes(content)
        return path


class Handler(BaseHTTPRequestHandler):
    """Errors name their kind and never repeat what was sent: it is about patients."""

    judges: Judges
    token: bytes
    timeout = IDLE_SECONDS

    def do_POST(self) -> None:
        if not hmac.compare_digest(self.headers.get("Authorization", "").encode(), b"Bearer " + self.token):
            return self._say(401, {"error": "no such token"})
        if self.path != "/grade":
            return self._say(404, {"error": "no such path"})
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MOST_BYTES:
            return self._say(413, {"error": f"a request has a length of at most {MOST_BYTES} bytes"})
        try:
            reply = self.judges.grade(GradeRequest.model_validate_json(self.rfile.read(int(length))))
        except ValidationError as e:
            return self._say(400, {"error": f"{e.error_count()} fields of the request are not as they should be"})
        except binascii.Error:
            return self._say(400, {"error": "a picture is not base64"})
        except RefusedError as e:
            return self._say(400, {"error": str(e)})
        except Medgr2Error as e:
            return self._say(500, {"error": e.what})
        except Exception as e:
            return self._say(500, {"error": type(e).__name__})
        return self._say(200, reply.model_dump(mode="json"))

    def _say(self, status: int, body: Mapping[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Nothing: what is asked is private, and how often is counted by who asks."""


def main() -> int:
    opening = Opening.model_validate_json(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, args=(opening.folder,), daemon=True).start()
    import torch

    torch.set_num_threads(1)
    try:
        Handler.judges = Judges(opening)
    except Exception as e:
        told = e.what if isinstance(e, Medgr2Error) else type(e).__name__
        sys.stdout.write(json.dumps({"error": told}) + "\n")
        return 1
    Handler.token = opening.token.get_secret_value().encode()
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        sys.stdout.write(json.dumps({"port": server.server_port}) + "\n")
        sys.stdout.flush()
        server.serve_forever()
    return 0


def _end_with_parent(folder: Path) -> None:
    """The pipe closes when whoever started us ends, also by SIGKILL. Then nobody else takes the pictures away."""
    sys.stdin.read()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    raise SystemExit(main())
