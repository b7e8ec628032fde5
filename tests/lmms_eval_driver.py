"""Run by another interpreter, one that has lmms-eval: its own scorer over an export of ours, accuracy on stdout."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path


def scorer() -> object:
    """The file alone: the package's own __init__ imports every model that it can run."""
    package = importlib.util.find_spec("lmms_eval")
    assert package is not None
    assert package.submodule_search_locations
    path = Path(package.submodule_search_locations[0]) / "tasks" / "medqa" / "utils.py"
    spec = importlib.util.spec_from_file_location("medqa_utils", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    theirs = scorer()
    scores = []
    for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
        sample = json.loads(line)
        doc = {"options": sample["doc"]["options"], "answer_idx": sample["target"]}
        scores.append(theirs.medqa_process_results(doc, sample["filtered_resps"])["accuracy"])  # type: ignore[attr-defined]
    print(json.dumps(scores))


if __name__ == "__main__":
    main()
