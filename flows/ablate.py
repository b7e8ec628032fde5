"""Ablations on embedded worlds: each seed has a hospital and a root of its own, so that the same command goes on."""

from __future__ import annotations

from pydantic import SecretStr

from medgr2.flows.embedded import ask_reviewer, build, embedded_world
from medgr2.flows.intake import take_in
from medgr2.infra.settings import Settings
from medgr2.infra.workspace import open_workspace
from medgr2.models.reward_table import Arm, averaged
from medgr2.schemas.intake import IntakeParameters
from medgr2.schemas.parameters import EMBEDDED, RefreshParameters, ScoreParameters, TrainParameters, WorldParameters
from medgr2.tasks.ablate_reward import SeedResult, one_seed
from medgr2.tasks.stage import say_plan

CANARIES = 120
"""More than a night has: their share is a number of the table."""


def reward_of_seed(settings: Settings, seed: int, images: int, audits: int, judge_steps: int) -> SeedResult:
    parameters = RefreshParameters(
        dataset="ablation",
        night=f"seed{seed}",
        source=EMBEDDED,
        world=WorldParameters(seed=seed, images=images),
        score=ScoreParameters(reviewer="phantoms", audits=audits, canaries=CANARIES),
    )
    world = embedded_world(settings, seed, images)
    build(world, seed, images)
    root = f"{settings.storage.root.rstrip('/')}/ablations/reward-{images}-{audits}/seed{seed}"
    storage = settings.storage.model_copy(update={"root": root})
    # Patients that were drawn have nothing to hide, and a key of chance would cut other folds in every root.
    privacy = settings.privacy.model_copy(
        update={"patient_key": SecretStr(f"phantoms of the ablation, seed {seed:08d}")}
    )
    workspace = open_workspace(settings.model_copy(update={"storage": storage, "privacy": privacy}))
    take_in(
        workspace,
        str(world.hospital),
        parameters=IntakeParameters(reports="keep"),  # drawn by a machine: nobody is in them
        run=parameters.run,
        seed=world.hospital / "seed_qa.jsonl",
        heldout=world.hospital / "heldout.jsonl",
        announce=say_plan,
    )
    how = TrainParameters(judge_steps=judge_steps)
    return one_seed(workspace, parameters, how, seed, lambda requests: ask_reviewer(world, requests), say_plan)


def mean_arms(results: list[SeedResult]) -> list[Arm]:
    return averaged([result.arms for result in results])
