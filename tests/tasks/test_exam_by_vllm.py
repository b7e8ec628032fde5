"""The exam by vLLM, as a larger model on a GPU sits it: other batches, the same answers but for a rare one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "served"))

from model_servers import vllm_python

from medgr2.infra.settings import ComputeSettings, GeneratorSettings
from medgr2.infra.workspace import open_workspace
from medgr2.tasks.examination import examine, find_model


@pytest.mark.e2e
def test_vllm_gives_the_answers_that_our_own_engine_gives(room: Any) -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    items = [room.item(room.picture(i, split="heldout"), i, "human") for i in range(12)]
    heldout = room.publish("heldout", items)

    def sit(**settings: Any) -> list[dict[str, Any]]:
        workspace = open_workspace(room.settings.model_copy(update=settings))
        model = find_model(workspace, "base")
        return examine(workspace, model, heldout, run="r", announce=lambda _: None, samples=2)

    ours = sit()
    theirs = sit(
        compute=ComputeSettings(mode="ray-local", workers=1),
        generator=GeneratorSettings(engine="vllm", python=vllm_python()),
    )
    assert {row["cell"] for row in ours}.isdisjoint(row["cell"] for row in theirs)
    same = [a["answer"] == b["answer"] for a, b in zip(ours, theirs, strict=True)]
    assert sum(same) >= 33  # of 36: float32 against float64 may turn a choice that was close
    drawn = [row["sampled"] for row in theirs if row["condition"] == "image"]
    assert all(len(one) == 2 for one in drawn)
    assert any(letter is not None for one in drawn for letter in one)
