"""Other scorers: what VLMEvalKit and lmms-eval would make of the same replies, by their documented rules.

Both read more than our parser does: an answer without its marks, the text of an option in place of its letter. Their
numbers stand beside ours, so that a published one can be compared with; ours decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from medgr2.schemas.vocabulary import LETTERS

_SEPARATORS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_TRIMMED = (",", ".", "!", "?", ";", ":", "'")
SILENCE = "Failed to obtain answer via API."
"""VLMEvalKit's words where a model gave none; an empty cell would end its reading of the file."""
NEAR_THE_END = 4
NOTHING = "Z"
"""VLMEvalKit's letter of an answer that names no option."""


_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)
_MARK = re.compile(r"</?(?:think|answer)>")


def said(reply: str | None) -> str:
    """What is handed to another scorer: the reply as it came, without the thoughts and the marks around its answer,
    which neither knows. What our own parser made of it plays no part, or theirs could never differ from ours."""
    return " ".join(_MARK.sub(" ", _THOUGHT.sub(" ", reply or "")).split()) or SILENCE


def vlmevalkit(prediction: str, options: Sequence[str]) -> str:
    """Exact matching, without a judge: the one letter that is a word of its own, where it first is one of the last four
    words; or else the one option whose text is in a prediction not longer than twice all of them together."""
    letters = LETTERS[: len(options)]
    words = prediction.translate(_SEPARATORS).split()
    found = [letter for letter in letters if letter in words]
    if len(found) == 1 and words.index(found[0]) >= len(words) - NEAR_THE_END:
        return found[0]
    if not found and NOTHING in words:
        return NOTHING
    if SILENCE not in prediction and len(prediction) <= 2 * sum(map(len, options)):
        told = [x for x, option in zip(letters, options, strict=False) if option.lower() in prediction.lower()]
        if len(told) == 1:
            return told[0]
    return NOTHING


def lmms_eval(prediction: str, options: Sequence[str]) -> str | None:
    """Multiple choice: a letter in brackets, or else one between blanks, or else one before a full stop; of several the
    one that comes last between blanks. None where there is none: lmms-eval draws a letter then."""
    for mark in _TRIMMED:
        prediction = prediction.strip(mark)
    text = f" {prediction} "
    for form in ("({})", " {} ", "{}."):
        if found := [letter for letter in LETTERS[: len(options)] if form.format(letter) in text]:
            return max(found, key=lambda letter: (text.rfind(f" {letter} "), -LETTERS.index(letter)))
    return None


def lmms_eval_credit(prediction: str, options: Sequence[str], key: str) -> float:
    """Right or wrong, or what a drawn letter gets on average."""
    letter = lmms_eval(prediction, options)
    return 1 / len(options) if letter is None else float(letter == key)
