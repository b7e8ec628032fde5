"""Run by another interpreter, one that has lmms-eval: its own scorer over an export of ours, scores on stdout.

python lmms_eval_driver.py EXPORT [medqa | slake]
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock


def scorer(task: str) -> Any:
    """The file alone: the package's own __init__ imports every model that it can run. What its tasks need to fetch
    data and to draw, but not to score, need not be there."""
    for name in ("datasets", "huggingface_hub", "loguru", "PIL"):
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = MagicMock()
    package = importlib.util.find_spec("lmms_eval")
    assert package is not None
    assert package.submodule_search_locations
    path = Path(package.submodule_search_locations[0]) / "tasks" / task / "utils.py"
    spec = importlib.util.spec_from_file_location(f"{task}_utils", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    task = sys.argv[2] if len(sys.argv) > 2 else "medqa"
    theirs = scorer(task)
    scores = []
    for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
        sample = json.loads(line)
        doc, replies = sample["doc"], sample["filtered_resps"]
        if task == "slake":
            scores.append(float(theirs.slake_process_results(doc, replies)["slake_accuracy"]["is_correct"]))
        else:
            scores.append(theirs.medqa_process_results({**doc, "answer_idx": sample["target"]}, replies)["accuracy"])
    print(json.dumps(scores))


if __name__ == "__main__":
    main()
