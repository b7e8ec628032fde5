"""Where a training goes on from, what it leaves behind on its way, and how it heeds a notice to quit."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from medgr2.infra import notice
from medgr2.models import ranks
from medgr2.models.care import Care
from medgr2.models.checkpoints import drop_all, drop_leftovers, fetch_newer, latest_checkpoint
from medgr2.models.exactness import fits
from medgr2.models.watch import Watch, waiting_for
from medgr2.schemas.errors import Medgr2Error

log = logging.getLogger(__name__)


def begin_from(scratch: Path, here: dict[str, str], how: Care, *, exact: bool) -> Path | None:
    """Where the training goes on from: the newest whole checkpoint, of this machine or in the vault."""
    drop_leftovers(scratch)
    if how.vault is not None:
        with waiting_for(f"the checkpoints in {how.vault.where}"):
            fetch_newer(scratch, how.vault)
    found = latest_checkpoint(scratch)
    if found is None or fits(found, here, anew=how.resume == "anew", exact=exact):
        return found
    drop_all(scratch)
    if how.vault is not None:
        how.vault.forget()
    return None


def keeper(how: Care, watch: Watch, every: int) -> Callable[[Path, int, list[dict[str, Any]]], None]:
    def keep(folder: Path, step: int, history: list[dict[str, Any]]) -> None:
        watch.saved = step
        due = how.store_every > 0 and (step % (every * how.store_every) == 0 or notice.given())
        if how.vault is None or not due:
            return
        try:
            with waiting_for(f"the store of checkpoints, {how.vault.where}"):
                how.vault.put(folder, step, _merit(history[-every:]))
        except Medgr2Error as e:
            # The training is not the worse for it, and its model needs the store only at its end.
            log.warning("the checkpoint of step %d was not stored and lies in %s only: %s", step, folder, e.what)

    return keep


def _merit(rows: list[dict[str, Any]]) -> float:
    """By what stored checkpoints are ranked: the training's own reward, or its loss. No evaluation split is asked."""
    rewards = [row["reward"] for row in rows if "reward" in row]
    told = rewards or [-row["loss"] for row in rows if "loss" in row]
    return float(np.mean(told)) if told else -np.inf


def attendant(watch: Watch) -> Any:
    from transformers import TrainerCallback

    class Attendant(TrainerCallback):
        def on_substep_end(self, *_: Any, **__: Any) -> None:
            watch.beat()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            watch.beat()
            if ranks.agreed(notice.given()):
                notice.give()
                control.should_save = control.should_training_stop = True

    return Attendant()
