"""What verdicts come to: the calibration told at once is the one that the next night fits."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from medgr2.infra.settings import Settings, StorageSettings
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.models.calibration import FEATURES, Audit, fit
from medgr2.tasks.review import import_verdicts
from medgr2.tasks.review_status import review_status

N = 40
SCORER, FORMER = "5" * 64, "4" * 64


def item_id(n: int) -> str:
    return f"{n:064x}"


def signals(n: int) -> dict[str, float]:
    """All that the calibration wants to see, whatever it comes to want."""
    others = dict.fromkeys((signal for signal, _ in FEATURES.values()), (n % 5) / 5)
    return others | {"lp": -4.0 / (1 + n), "agree": (n % 8) / 8}


def score_row(n: int, scorer: str, day: int, calibration: str | None = None, **other: Any) -> dict[str, Any]:
    return {
        "score_id": f"{scorer[0]}{day}-{n}", "item_id": item_id(n), "scorer": scorer, "calibration": calibration,
        "verdict": "rejected", "run": f"nightly/{day}", "scored_at": datetime(2026, 1, day, tzinfo=UTC), **signals(n),
        **other,
    }  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Items 0 to 39 of the night; 40 is a person's, 41 about a held-out picture, 42 of an older scorer only."""
    made = open_workspace(Settings(storage=StorageSettings(root=str(tmp_path))))
    images = {"seen": "train", "kept": "heldout"}
    made.lake.append_new("images", [{"image_id": k, "split": v} for k, v in images.items()], key="image_id")
    items = [{"item_id": item_id(n), "image_id": "seen", "origin": "generated"} for n in range(N + 3)]
    items[N] |= {"origin": "human"}
    items[N + 1] |= {"image_id": "kept"}
    made.lake.append_new("items", items, key="item_id")
    former = [score_row(n, FORMER, 1, lp=-9.0) for n in range(N + 3)]
    older = [score_row(n, SCORER, 2, lp=-7.0) for n in range(N)]
    newest = [score_row(n, SCORER, 3) for n in range(N + 2)]
    made.lake.append_new("scores", former + older + newest, key="score_id")
    return made


def verdicts(workspace: Workspace, valid: dict[int, bool], reviewer: str = "ann") -> None:
    rows = [{"item_id": item_id(n), "reviewer": reviewer, "valid": v} for n, v in valid.items()]
    import_verdicts(workspace.lake, rows)


def test_it_is_fitted_on_what_a_night_would_take(workspace: Workspace) -> None:
    valid = {n: n % 3 > 0 for n in range(N + 3)}
    verdicts(workspace, valid)
    expected = fit([Audit(item_id(n), signals(n), valid[n]) for n in range(N)], scorer=SCORER)
    found = review_status(workspace)
    assert found.refit.audits == N
    assert found.refit.calibration == expected.id
    assert (found.refit.auroc, found.refit.ece) == (expected.cross_validated.auroc, expected.cross_validated.ece)
    assert (found.settled, found.run, found.in_force) == (N + 3, "nightly/3", None)
    assert "in force: no calibration" in found.lines()[-1]

    night = [score_row(n, SCORER, 4, calibration=expected.id) for n in range(N)]
    workspace.lake.append_new("scores", night, key="score_id")
    assert review_status(workspace).lines()[-1].endswith("which these verdicts allow")
    verdicts(workspace, {0: True, 1: False}, "bob")  # two ties
    found = review_status(workspace)
    assert (found.tied, found.refit.audits) == (2, N - 2)
    assert found.lines()[-1].endswith("until the next refresh")


def test_few_verdicts_and_none(workspace: Workspace) -> None:
    assert review_status(workspace).lines()[0].startswith("no verdicts yet")
    verdicts(workspace, {n: n % 2 > 0 for n in range(19)})
    found = review_status(workspace)
    assert found.refit.calibration is None
    assert "19 audits are too few" in found.refit.line()
    verdicts(workspace, {19: True})
    assert review_status(workspace).refit.calibration is not None


def test_a_promoted_scorer_has_to_measure_the_old_audits_first(workspace: Workspace) -> None:
    verdicts(workspace, {n: n % 2 > 0 for n in range(30)})
    workspace.lake.append_new("scores", [score_row(N, "6" * 64, 5)], key="score_id")
    found = review_status(workspace)
    assert (found.settled, found.refit.audits) == (30, 0)
    assert found.refit.calibration is None
    assert any("30 settled items" in line and "the next refresh measures" in line for line in found.lines())
