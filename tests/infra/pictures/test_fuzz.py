from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path

import pytest

from medgr2.schemas.intake import ReadingRules

sys.path.insert(0, str(Path(__file__).parent))

from fuzz import corpus, damaged, fuzz

needs_extra = pytest.mark.skipif(
    not (importlib.util.find_spec("pydicom") and importlib.util.find_spec("nibabel")),
    reason="damaged DICOM and NIfTI files need the dicom extra",
)


@needs_extra
def test_damaged_files_have_an_outcome_each() -> None:
    found = fuzz(600, seed=7, folder=None, rules=ReadingRules(seconds=120, memory_mb=2048, burned_in="off"))
    assert not found.unknown
    assert not found.unanswered
    assert not found.over_limit
    assert sum(found.outcomes.values()) == 600
    # The damage is neither so mild that all is read nor so wild that nothing gets past the first bytes.
    assert found.outcomes["read"] > 100
    assert found.outcomes["undecodable"] > 30
    assert found.outcomes["truncated"] > 10


@needs_extra
def test_undamaged_seeds_are_read_or_refused_for_what_they_are() -> None:
    held = corpus(None)
    from medgr2.infra.pictures.reading import Reading
    from medgr2.infra.pictures.sandbox import Sandbox

    with Sandbox(ReadingRules(seconds=400, burned_in="off"), b"0" * 32) as sandbox:
        answers = dict(sandbox.read_many((n, data, "") for n, data in enumerate(held.values())))
    refused = {
        name: answers[n].reason  # type: ignore[union-attr]
        for n, name in enumerate(held)
        if not isinstance(answers[n], Reading)
    }
    assert refused == {"cmyk.jpg": "wrong_colour", "two.png": "animated", "two.gif": "animated"}


def test_the_same_seed_damages_in_the_same_way() -> None:
    first, second = (damaged(b"a" * 500, b"b" * 500, random.Random(5)) for _ in range(2))
    assert first == second != b"a" * 500
