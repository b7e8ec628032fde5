"""The embedded world, reached as any hospital and any reviewer would be: through files and another process.

This is the only place that knows the phantoms exist, and it knows them by the name of a program. The truth lies
outside the storage root and only the reviewer's process is told where.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgr2.infra.settings import Settings
from medgr2.schemas.errors import DataError, NightStoppedError

SEED_QUESTIONS, HELDOUT_QUESTIONS, CORRUPT = 150, 600, 3
LARGE = 300
"""Images of a world whose exam is whole: a gate that looks at every modality needs items of each. A smaller world has
as many as images."""
DEADLINE_SECONDS = 300
UNKNOWN_IMAGE = "unknown image"


@dataclass(frozen=True)
class EmbeddedWorld:
    hospital: Path
    truth: Path
    seed: int = 0
    images: int = 0
    heldout: int = HELDOUT_QUESTIONS

    def exists(self) -> bool:
        return self.truth.is_file()


def embedded_world(settings: Settings, seed: int, images: int, heldout: int = HELDOUT_QUESTIONS) -> EmbeddedWorld:
    exam = "" if heldout == HELDOUT_QUESTIONS else f"-{heldout}"
    folder = settings.embedded.folder / f"seed{seed}-{images}{exam}"
    return EmbeddedWorld(folder / "hospital", folder / "sealed" / "truth.jsonl", seed, images, heldout)


def build(world: EmbeddedWorld) -> None:
    """Draws the hospital's folder and its truth aside and renames them: a half-drawn world is never seen."""
    if world.exists():
        return
    whole = world.hospital.parent
    draft = whole.with_name(f".{whole.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    truth = draft / world.truth.relative_to(whole)
    counts = {
        "images": world.images,
        "seed": world.seed,
        "seed-qa": min(SEED_QUESTIONS, world.images),
        # The everyday exam shrinks with a small world; one that was asked for by number is as large as asked.
        "heldout": _exam(world),
        "corrupt": CORRUPT,
    }
    options = [text for name, n in counts.items() for text in (f"--{name}", str(n))]
    _run(["hospital", "--out", str(draft / world.hospital.name), "--truth", str(truth), *options])
    try:
        draft.rename(whole)
    except OSError:
        # Somebody else drew the same world meanwhile: equal seeds give equal bytes.
        shutil.rmtree(draft, ignore_errors=True)


def ask_reviewer(world: EmbeddedWorld, requests: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Verdicts of the phantoms' oracle on items, one a request."""
    if not world.exists():
        raise DataError(
            "the phantoms cannot review: their world has not been drawn",
            where=str(world.truth),
            next_command="medgr2 loop  draws it, or review with people",
        )
    asked = list(requests)
    answer = _run(["oracle", "--truth", str(world.truth)], "".join(json.dumps(r) + "\n" for r in asked))
    verdicts = [json.loads(line) for line in answer.splitlines() if line.strip()]
    if len(verdicts) != len(asked):
        raise NightStoppedError(
            f"the reviewer answered {len(verdicts)} of {len(asked)} items",
            where="the embedded world's oracle",
            kept="drafts and scores",
            next_command="the same command again",
        )
    # Images of another world are none of this reviewer's business. Its reasons quote the truth: they stay outside.
    return [
        {"item_id": v["item_id"], "valid": v["valid"], "reason": ""} for v in verdicts if v["reason"] != UNKNOWN_IMAGE
    ]


def _run(arguments: list[str], text: str = "") -> str:
    program, *rest = arguments
    try:
        done = subprocess.run(
            [sys.executable, "-m", f"medgr2_phantoms.{program}", *rest],
            input=text, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NightStoppedError(
            f"the embedded world's {program} did not finish within {DEADLINE_SECONDS} s",
            next_command="the same command again",
        ) from None
    except subprocess.CalledProcessError as e:
        lines = str(e.stderr).strip().splitlines() or ["no message"]
        raise NightStoppedError(
            f"the embedded world's {program} ended with status {e.returncode}: {lines[-1]}",
            next_command=f"python -m medgr2_phantoms.{program} --help",
        ) from None
    return done.stdout


def _exam(world: EmbeddedWorld) -> int:
    small = world.heldout == HELDOUT_QUESTIONS and world.images < LARGE
    return world.images if small else world.heldout
