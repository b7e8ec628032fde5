"""The evaluation split never picks a checkpoint: what trains cannot reach the exam, its answers or its marks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_architecture import ROOT, imports  # type: ignore[import-not-found]

TRAINING = (
    "models/sft.py", "models/grpo.py", "models/training.py", "models/checkpoints.py", "models/rewards.py",
    "models/reward_training.py", "tasks/train.py", "tasks/training_cell.py", "tasks/training_plans.py",
    "tasks/reward_train.py",
)  # fmt: skip
EXAM = {
    "medgr2.tasks.evaluate", "medgr2.tasks.examination", "medgr2.tasks.promotion", "medgr2.models.measures",
    "medgr2.models.promotion_gate", "medgr2.models.alpha_ledger",
}  # fmt: skip
CHOOSING = re.compile(r"eval_dataset|eval_strategy|load_best_model|metric_for_best|EarlyStopping")


def path_of(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")
    return path if module.startswith("medgr2.") and path.is_file() else None


def reached(path: Path) -> set[str]:
    """Every module of ours that is imported from here on, at once or later."""
    found: set[str] = set()
    open_ = [path]
    while open_:
        for name, _ in imports(open_.pop()):
            target = path_of(name)
            if target is not None and name not in found:
                found.add(name)
                open_.append(target)
    return found


@pytest.mark.parametrize("name", TRAINING)
def test_what_trains_reaches_no_exam(name: str) -> None:
    found = reached(ROOT / name)
    assert "medgr2.schemas.errors" in found, "the search is blind"
    assert found & EXAM == set()


def test_the_search_would_find_it() -> None:
    assert EXAM & reached(ROOT / "tasks" / "promotion.py") == EXAM - {"medgr2.tasks.promotion"}
    assert "medgr2.tasks.promotion" in reached(ROOT / "flows" / "loop.py")


def test_no_trainer_is_given_anything_to_choose_by() -> None:
    files = [path for layer in ("models", "tasks") for path in (ROOT / layer).rglob("*.py")]
    assert [str(path) for path in files if CHOOSING.search(path.read_text())] == []
