"""A word put into a text that somebody wrote: its article and its capitals follow."""

from __future__ import annotations

import re


def article(said: str | None, before: str) -> str:
    """'a' or 'an' as `before` sounds, in the case of what was said; none where none was, nor before a denial."""
    if not said or before.casefold().startswith("no "):
        return ""
    spelt = before[:2].isupper() or before[1:2] == "-"
    sounds = before[:1] in "AEFHILMNORSX" if spelt else before[:1].casefold() in "aeiou"
    return said[0] + ("n" if sounds else "")


def put(text: str, start: int, end: int, new: str) -> str:
    """With `new` from start to end; the article before it follows."""
    before = text[:start]
    if new and (found := re.search(r"\b(an?)(\s+)$", before, re.IGNORECASE)):
        before = before[: found.start()] + article(found[1], new) + found[2]
    return before + new + text[end:]


def tidied(before: str, after: str) -> str:
    """`after` as a sentence where `before` was one."""
    after = after.strip()
    return after[:1].upper() + after[1:] if before[:1].isupper() else after


def in_case_of(said: str, other: str) -> str:
    """`other` in the case of `said`."""
    if len(said) > 1 and said.isupper() and " " not in other and len(other) <= 4:
        return other.upper()
    return other[:1].upper() + other[1:] if said[:1].isupper() and not said.isupper() else other
