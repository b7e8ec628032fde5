"""The vLLM engine in its own environment: python vllm_driver.py MODEL SETTINGS < requests, prints what is held."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from medgr2.infra.settings import GeneratorSettings
from medgr2.models.engines.seam import Completion, Conversation, Exchange, Request
from medgr2.models.engines.vllm import VllmEngine


def request_of(row: dict[str, Any], earlier: tuple[Exchange, ...]) -> Request:
    picture = Path(row["image"]) if row["image"] else None
    return Request(
        picture, row["text"], (row["seed"],), row["temperature"], row["tokens"], earlier=earlier, form=row["form"]
    )


def talk(row: dict[str, Any]) -> Conversation[list[Completion]]:
    """Ask, and then as often as it is told to ask on about what was replied."""
    said: list[Completion] = []
    earlier: list[Exchange] = []
    for _ in range(row["more"] + 1):
        said.append((yield request_of(row, tuple(earlier))))
        earlier.append(Exchange(row["text"], said[-1].text))
    return said


def main() -> None:
    settings = GeneratorSettings.model_validate_json(sys.argv[2])
    rows = json.loads(sys.stdin.read())
    engine = VllmEngine(Path(sys.argv[1]), settings)
    found: list[object] = [None] * len(rows)
    for held in engine.hold((str(i), talk(row)) for i, row in enumerate(rows)):
        said = [[c.text, c.finished, c.tokens, c.tokens_in] for c in held.result or ()]
        trouble = [held.trouble.reason, held.trouble.detail] if held.trouble else None
        found[int(held.name)] = {"said": said, "trouble": trouble, "calls": held.usage.calls}
    sys.stdout.write("held " + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
