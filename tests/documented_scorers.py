"""The documented rules of other scorers, written down for the tests alone and in other words than the product's."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

LMMS_EVAL = "TEST_LMMS_EVAL_PYTHON"
DRIVER = Path(__file__).with_name("lmms_eval_driver.py")


def reference_vlmevalkit(text: str, options: Sequence[str]) -> str:
    """Of its documentation: punctuation parts words. If exactly one of the option letters is among the words, and first
    is so within the last four, it is the answer. If none is and Z is, none is meant. Else the lower-cased text is
    searched for the lower-cased options, unless it is more than twice as long as they are together; exactly one has to
    be found. A text that says that the API failed is no answer."""
    tokens = re.split(r"[\s.()\[\],:;!*#{}]+", text)
    places = {
        chr(65 + n): [i for i, word in enumerate(tokens[::-1]) if word == chr(65 + n)] for n in range(len(options))
    }
    # An empty word at the very end is only what follows the last mark of punctuation.
    behind = sum(1 for word in tokens[-1:] if not word)
    there = {letter: max(found) - behind for letter, found in places.items() if found}
    if len(there) == 1 and next(iter(there.values())) < 4:
        return next(iter(there))
    if not there and "Z" in tokens:
        return "Z"
    hits = [n for n, option in enumerate(options) if option.casefold() in text.casefold()]
    short = len(text) <= 2 * len("".join(options))
    failed = "Failed to obtain answer via API" in text
    return chr(65 + hits[0]) if len(hits) == 1 and short and not failed else "Z"


def reference_slake(said: str, key: str) -> bool:
    """Of lmms-eval's SLAKE task: lower case; what is in round brackets goes; a mark of punctuation is a blank; blanks
    in a row are one; a few words for yes, for no and for x-ray are one word each. Then the two are equal or not."""

    def plain(text: str) -> str:
        kept, depth = [], False
        for at, letter in enumerate(text.lower()):
            if letter == "(" and ")" in text[at:]:
                depth = True
            if not depth:
                kept.append(letter if letter.isalnum() or ord(letter) > 127 else " ")
            elif letter == ")":
                depth = False
                kept.append(" ")
        found = " ".join("".join(kept).split())
        alike = (("yes", "yeah", "yep", "true"), ("no", "nope", "false"), ("xray", "x ray"))
        return next((words[0] for words in alike if found in words), found)

    return plain(said) == plain(key)


def lmms_eval_scores(export: Path, task: str = "medqa") -> list[float]:
    """The installed package's own, sample by sample."""
    python = os.environ.get(LMMS_EVAL)
    if not python:
        pytest.skip(f"{LMMS_EVAL} names no interpreter that has lmms-eval (pip install --no-deps lmms-eval numpy)")
    done = subprocess.run(
        [python, str(DRIVER), str(export), task], capture_output=True, text=True, timeout=300, check=True
    )
    found: list[float] = json.loads(done.stdout)
    return found
