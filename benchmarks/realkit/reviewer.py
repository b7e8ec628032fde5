"""The file of labels as the reviewer: `python reviewer.py KIT`, items on stdin, verdicts on stdout.

A process of its own, so that nothing that trains ever holds the labels. An item names its picture by the hash of the
kit's file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import kit


def verdict(item: dict[str, Any], picture: kit.Picture | None) -> str:
    """Empty when the item holds, else why it does not."""
    kind, options = item["question_type"], item["options"]
    if picture is None or kind not in picture.truth:
        return "the labels say nothing of it"
    if item["question"] != kit.STEMS[kind]:
        return "the question is not one of its type"
    if len(set(options)) != len(options) or set(options) - set(kit.LABELS[kind]):
        return "an option is no label, or is there twice"
    if options[kit.LETTERS.index(item["answer"])] != picture.truth[kind]:
        return "the key is not the label"
    right = kit.rationale(picture.truth, kind)
    return "" if item["rationale"] == right else "the rationale is not what the labels say, in the taught words"


def main() -> None:
    known = {picture.sha256: picture for picture in kit.pictures(Path(sys.argv[1]))}
    for line in sys.stdin:
        item = json.loads(line)
        why = verdict(item, known.get(item["picture"]))
        print(json.dumps({"item_id": item["item_id"], "valid": not why, "reason": why}))


if __name__ == "__main__":
    main()
