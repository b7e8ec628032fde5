"""A second opinion: a model of another family is asked whether an item holds, and says Yes or No."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from medgr2.models.engines.seam import Completion, Conversation, Request
from medgr2.models.judging import Claim, judging_text
from medgr2.schemas.errors import DataError, NotFoundError

VERIFY = "verify.v1"
MAX_NEW_TOKENS = 8
LIKELY = 5
"""First words whose chances are wanted: Yes and No as a rule are among them, and every server tells so many."""
NO_VERDICT = "not_yes_or_no"
_WORD = re.compile(r"\s*(yes|no)\.?\s*", re.IGNORECASE)


def verify_conversation(template: str, claim: Callable[[], Claim], seed: int) -> Conversation[float | str]:
    """How likely the claim holds, in [0, 1], or why nobody knows. Its picture is fetched when the conversation begins.

    The item is shown and nothing else: what is known of the picture besides stays here.
    """
    try:
        about = claim()
    except NotFoundError:
        return "image_missing"
    except DataError:
        return "image_damaged"
    text = judging_text(template, about)
    completion = yield Request(
        about.image_path, text, seeds=(seed,), temperature=0.0, max_new_tokens=MAX_NEW_TOKENS, likely=LIKELY
    )
    return verdict_of(completion)


def verdict_of(completion: Completion) -> float | str:
    """Strictly one word. Where its chances are told: those of Yes against No; else all or nothing."""
    said = _WORD.fullmatch(completion.text)
    if said is None:
        return NO_VERDICT
    yes, no = (
        sum(math.exp(chance) for token, chance in completion.likely if token.strip().lower() == word)
        for word in ("yes", "no")
    )
    if yes + no > 0:
        return yes / (yes + no)
    return 1.0 if said[1].lower() == "yes" else 0.0
