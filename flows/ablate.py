"""Ablations on embedded worlds: each seed has a hospital and a root of its own, so that the same command goes on."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait

from pydantic import SecretStr, TypeAdapter

from medgr2.flows.embedded import EmbeddedWorld, ask_reviewer, build, embedded_world
from medgr2.flows.intake import take_in
from medgr2.infra.settings import Settings
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.models.loop_table import Sat
from medgr2.models.model_ref import base_model, policy_model
from medgr2.models.reward_table import Arm, averaged
from medgr2.schemas.digest import digest_of
from medgr2.schemas.intake import IntakeParameters
from medgr2.schemas.parameters import (
    EMBEDDED,
    LoopParameters,
    RefreshParameters,
    ScoreParameters,
    SelectParameters,
    TrainParameters,
    WorldParameters,
)
from medgr2.tasks import ablate_loop
from medgr2.tasks.ablate_reward import SeedResult, one_seed
from medgr2.tasks.stage import say_plan


@dataclass(frozen=True)
class OfSeed:
    """What a seed's arms answered, and what all of it took: of several tries the CPU seconds are the last one's."""

    sat: dict[str, Sat]
    cpu_seconds: float
    tries: int


KEPT_TABLE = TypeAdapter(OfSeed)
CANARIES = 120
"""More than a night has: their share is a number of the table."""


def reward_of_seed(settings: Settings, seed: int, images: int, audits: int, judge_steps: int) -> SeedResult:
    parameters = _night(seed, images, audits, canaries=CANARIES)
    world = embedded_world(settings, seed, images)
    workspace = _rooted(settings, world, f"reward-{images}-{audits}", parameters.run)
    how = TrainParameters(judge_steps=judge_steps)
    return one_seed(workspace, parameters, how, seed, lambda requests: ask_reviewer(world, requests), say_plan)


def loop_of_seeds(settings: Settings, plans: Mapping[int, ablate_loop.Arms], heldout: int, jobs: int) -> list[OfSeed]:
    """Every seed in a process of its own, so many at a time; killed, each goes on where it stood."""
    # Two threads each would wait for one another more than they work.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=end_with_parent) as pool:
        running = [pool.submit(loop_of_seed, settings, seed, arms, heldout) for seed, arms in plans.items()]
        return [one.result() for one in running]


def end_with_parent() -> None:
    """A command that was killed leaves nobody behind who would go on beside its next try."""
    parent = parent_process()
    assert parent is not None  # noqa: S101  only ever called in a child

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def loop_of_seed(settings: Settings, seed: int, arms: ablate_loop.Arms, heldout: int) -> OfSeed:
    """Without Ray: what its workers spend, nobody could add up."""
    compute = settings.compute.model_copy(update={"mode": "inline"})
    parameters = arms.parameters.refresh
    with ablate_loop.clock() as spent:
        world = embedded_world(settings, seed, parameters.world.images, heldout)
        given = [base_model(settings).revision, policy_model(settings).revision]
        # What is asked otherwise has nights of its own: they are named by their seed alone.
        how = [arms.images, arms.seed_steps, arms.grpo_in_sft_steps, heldout]
        asked = digest_of([given, arms.parameters.lived, *how, ablate_loop.codes()])
        inline = settings.model_copy(update={"compute": compute})
        workspace = _rooted(inline, world, f"loop-{asked[:12]}", parameters.run)
        record = f"ablations/tables/{asked}.json"
        if workspace.store.exists(record):
            return KEPT_TABLE.validate_json(workspace.store.get(record))
        tries = 1 + sum(1 for _ in workspace.store.list(f"ablations/tries/{asked}/"))
        workspace.store.create(f"ablations/tries/{asked}/{tries}", b"")
        table = ablate_loop.one_seed(
            ablate_loop.World(workspace, seed, lambda requests: ask_reviewer(world, requests), say_plan), arms
        )
    # What it cost is told as it was, however often the table is asked for.
    done = OfSeed(table, spent[0], tries)
    workspace.store.create(record, KEPT_TABLE.dump_json(done))
    return done


def loop_parameters(seed: int, images: int, audits: int, tau: float, train: TrainParameters) -> LoopParameters:
    # The name of a cycle tells the seed.
    refresh = _night(seed, images, audits, canaries=40).model_copy(
        update={"night": "", "select": SelectParameters(tau=tau)}
    )
    return LoopParameters(seed=seed, refresh=refresh, train=train)


def _night(seed: int, images: int, audits: int, *, canaries: int) -> RefreshParameters:
    return RefreshParameters(
        dataset="ablation",
        night=f"seed{seed}",
        source=EMBEDDED,
        world=WorldParameters(seed=seed, images=images),
        score=ScoreParameters(reviewer="phantoms", audits=audits, canaries=canaries),
    )


def _rooted(settings: Settings, world: EmbeddedWorld, name: str, run: str) -> Workspace:
    """A root of its own that holds the whole world."""
    build(world)
    root = f"{settings.storage.root.rstrip('/')}/ablations/{name}/seed{world.seed}"
    storage = settings.storage.model_copy(update={"root": root})
    # Patients that were drawn have nothing to hide, and a key of chance would cut other folds in every root.
    privacy = settings.privacy.model_copy(
        update={"patient_key": SecretStr(f"phantoms of the ablation, seed {world.seed:08d}")}
    )
    workspace = open_workspace(settings.model_copy(update={"storage": storage, "privacy": privacy}))
    take_in(
        workspace,
        str(world.hospital),
        parameters=IntakeParameters(reports="keep"),  # drawn by a machine: nobody is in them
        run=run,
        seed=world.hospital / "seed_qa.jsonl",
        heldout=world.hospital / "heldout.jsonl",
        announce=say_plan,
    )
    return workspace


def mean_arms(results: list[SeedResult]) -> list[Arm]:
    return averaged([result.arms for result in results])
