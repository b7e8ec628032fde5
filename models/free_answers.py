"""Free answers: read strictly, and scored by the published rules of VQA-RAD, SLAKE and PathVQA.

Closed questions: exact match. Open ones: exact match, and the tokens that answer and key have in common (F1, and recall
as LLaVA-Med reports it). Before they are compared both are lower-cased, rid of brackets and punctuation, and a plain
yes or no is one word: the rule of lmms-eval's SLAKE task, so that both give the same accuracy.
"""

from __future__ import annotations

import re
import string
from collections import Counter

_FORM = re.compile(r"(?:<think>(?P<think>.*)</think>)?\s*<answer>(?P<answer>.*)</answer>", re.DOTALL)
_MARK = re.compile(r"</?(?:think|answer)\b", re.IGNORECASE)
_ASIDE = re.compile(r"\([^)]*\)")
_BLANKS = str.maketrans(dict.fromkeys(string.punctuation, " "))
_SAME = {
    **dict.fromkeys(("yes", "yeah", "yep", "true"), "yes"),
    **dict.fromkeys(("no", "nope", "false"), "no"),
    "x ray": "xray",
}


def parse_free(text: str) -> str | None:
    """What stands in the one answer block; or the whole of a reply that has no marks at all. Else None."""
    text = text.strip()
    if not _MARK.search(text):
        return text or None
    found = _FORM.fullmatch(text)
    if found is None or _MARK.search(found["think"] or "") or _MARK.search(found["answer"]):
        return None
    return found["answer"].strip() or None


def normalised(text: str) -> str:
    words = _ASIDE.sub(" ", text.strip().lower()).translate(_BLANKS).split()
    plain = " ".join(words)
    return _SAME.get(plain, plain)


def exact(answer: str | None, key: str) -> bool:
    return answer is not None and normalised(answer) == normalised(key)


def token_overlap(answer: str | None, key: str) -> tuple[float, float]:
    """F1 and recall of the tokens, each counted as often as it is there."""
    said, wanted = normalised(answer or "").split(), normalised(key).split()
    common = (Counter(said) & Counter(wanted)).total()
    if not common:
        return (1.0, 1.0) if said == wanted and answer is not None else (0.0, 0.0)
    precision, recall = common / len(said), common / len(wanted)
    return 2 * precision * recall / (precision + recall), recall
