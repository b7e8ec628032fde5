"""Ablate the loop: one seed's world, the arms that are trained on it, and one exam that all of them sit.

Nights, publishing, trainings and exams are the loop's own. Two things only happen here: drafts that no filter chose
are published under names of their own, and the truth about all drafts is asked for, after the night, for the arm that
is the ceiling and for the table. No arm, no checkpoint and no setting is chosen by the exam.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medgr2.infra import versions
from medgr2.infra.workspace import Workspace
from medgr2.models.loop_claims import (
    CONTROL,
    FILTERED,
    GRPO,
    OF_SEED,
    ORACLE,
    RANDOM,
    SEED_LONG,
    START,
    TEACHER,
    UNFILTERED,
)
from medgr2.models.loop_table import Sat
from medgr2.models.registry import Registry
from medgr2.models.signals import LOOKS
from medgr2.schemas.errors import DataError
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import HELDOUT, SEED, LoopParameters, SelectParameters, TrainParameters
from medgr2.schemas.reports import DatasetVersion
from medgr2.schemas.vocabulary import Verdict
from medgr2.tasks import (
    drafting,
    evaluate,
    examination,
    generate,
    improve,
    promotion,
    publish,
    reward,
    reward_train,
    score_reward,
    train,
)
from medgr2.tasks.appraise import AskReviewer, appraise, question_of
from medgr2.tasks.evaluate import Condition
from medgr2.tasks.examination import CONDITIONS
from medgr2.tasks.judge import newest
from medgr2.tasks.night import Night, images_of, open_night
from medgr2.tasks.select import select
from medgr2.tasks.stage import Announce

SAMPLES = 4
SAMPLED = {UNFILTERED, FILTERED, CONTROL, GRPO}
"""Arms that something is claimed of at temperature 1: asking an arm so costs more than twice the greedy exam."""
SAMPLED_ITEMS = 1000
"""Of the exam. What is claimed there is five times as large as what is claimed of greedy answers."""


def codes() -> list[str]:
    """Of every stage whose numbers are in the table: what is computed otherwise is another table."""
    stages = (drafting, evaluate, train, reward_train, score_reward)
    return [stage.CODE for stage in stages] + [look.code for look in LOOKS.values()]


@dataclass(frozen=True)
class Arms:
    """How the arms differ. `parameters` is the loop that they are taken from, `images` what each night asks about."""

    parameters: LoopParameters
    images: tuple[int, ...]
    seed_steps: int = 75
    grpo_in_sft_steps: float = 10.0
    """Steps of SFT that cost about as much as one of GRPO with the prompts of the preset; the table has the seconds."""


@dataclass
class World:
    """A seed's workspace, with the reviewer of its nights."""

    workspace: Workspace
    seed: int
    ask: AskReviewer
    announce: Announce
    sat: dict[str, Sat] = field(default_factory=dict)
    told: dict[str, bool] = field(default_factory=dict)
    """What the oracle said, by item."""


def one_seed(world: World, arms: Arms) -> dict[str, Sat]:
    how = arms.parameters.train
    plain = how.model_copy(update={"grpo_steps": 0})
    night, version, items = live(world, arms, 1)
    seed_version = versions.resolve(world.workspace.lake, SEED)
    drafted = sorted(items)
    kept = versions.members(world.workspace.lake, version)
    rng = np.random.default_rng(world.seed)
    sets = {
        UNFILTERED: drafted,
        RANDOM: sorted(rng.choice(drafted, size=len(kept), replace=False).tolist()),
        ORACLE: ceiling(world, night, items, arms.parameters.refresh.select),
    }
    sit(world, night, START, night.start, (), 0)
    sit(world, night, TEACHER, night.base_id, (), 0)
    short = plain.model_copy(update={"sft_steps": arms.seed_steps})
    learn(world, night, OF_SEED, seed_version, (), short)
    learn(world, night, SEED_LONG, seed_version, (), plain)
    for name, chosen in sets.items():
        learn(world, night, name, publish_arm(world, night, name, chosen), chosen, plain)
    learn(world, night, FILTERED, version, kept, plain, controls=True)
    settings = how.settings
    more = settings.sft_steps + round(settings.grpo_steps * arms.grpo_in_sft_steps)
    learn(world, night, CONTROL, version, kept, plain.model_copy(update={"sft_steps": more}))
    # Its SFT is the filtered arm's, and is found.
    learn(world, night, GRPO, version, kept, how, before=world.sat[FILTERED].cpu_seconds)
    for cycle in range(2, len(arms.images) + 1):
        regenerate(world, arms, night, version)
        night, version, _ = live(world, arms, cycle)
        kept = versions.members(world.workspace.lake, version)
        learn(world, night, f"cycle {cycle}", version, kept, plain)
    return world.sat


def ceiling(world: World, night: Night, items: Mapping[str, Item], how: SelectParameters) -> tuple[str, ...]:
    """What the night would have published, had its scorer known the truth: gates, caps and balance as they are."""
    rows = newest(world.workspace.lake.read("scores", where={"run": night.run}).to_pylist())
    judged = [
        row | {"verdict": Verdict.ACCEPTED.value, "reasons": [], "p_valid": 1.0}
        if world.told.get(item_id) and set(row["reasons"]) <= {"below_tau"}
        else row | {"verdict": Verdict.REJECTED.value}
        for item_id, row in rows.items()
    ]
    return selected(world.workspace, items.values(), judged, how)


def selected(
    workspace: Workspace, items: Iterable[Item], judged: Iterable[dict[str, Any]], how: SelectParameters
) -> tuple[str, ...]:
    """What a first night adds of drafts that were judged so, before the blind probe has a say."""
    images = workspace.lake.read("images", ["image_id", "modality"]).to_pylist()
    modality = {row["image_id"]: row["modality"] for row in images}
    return select(items, judged, modality=modality, held=(), parameters=how).add


def live(world: World, arms: Arms, cycle: int) -> tuple[Night, DatasetVersion, dict[str, Item]]:
    """One night about pictures that no night before asked about; then the truth about its drafts. A later night whose
    batch is refused leaves the version as it was, as it does in the loop."""
    workspace, announce = world.workspace, world.announce
    parameters = arms.parameters.night(cycle)
    asked = parameters.generate.model_copy(update={"images": arms.images[cycle - 1], "unasked_only": True})
    parameters = parameters.model_copy(update={"generate": asked})
    night = open_night(workspace, parameters)
    images = images_of(workspace, night)
    generate.generate(workspace, asked, images, model=night.generator, run=night.run, announce=announce)
    version = published_by(workspace, night)
    if version is None:
        appraise(workspace, night, parameters, world.ask, announce)
        report = publish.publish(workspace, night, parameters)
        version = report.version
        if version is None:
            raise DataError(
                f"the first night published nothing, so there is nothing to learn: {report.line()}",
                where=night.run,
                kept="drafts and scores",
                next_command="another --first-seed, or more --images",
            )
    drafts = generate.drafted(workspace, asked, images, model=night.generator, run=night.run)
    items = {item.item_id: item for item in drafts}
    verdicts = world.ask([question_of(item) for item in drafts])
    world.told.update({str(v["item_id"]): bool(v["valid"]) for v in verdicts})
    return night, version, items


def published_by(workspace: Workspace, night: Night) -> DatasetVersion | None:
    """As it was then: published again, a night would know what people refused since."""
    own = (one for one in versions.versions(workspace.lake, night.dataset) if one.run == night.run)
    return next(own, None)


def regenerate(world: World, arms: Arms, night: Night, version: DatasetVersion) -> None:
    """The generator and the reward of the next cycle, as the loop makes them: once. Done again when the next night has
    been audited, they would learn from what came later."""
    workspace, how = world.workspace, arms.parameters.train
    done = f"ablations/regenerated/{night.run}"
    if workspace.store.exists(done):
        return
    if how.settings.judge_steps:
        tonight = arms.parameters.night(1).model_copy(update={"night": night.run.partition("/")[2]})
        reward.co_train(workspace, night, tonight, how, world.seed, world.announce)
    if how.settings.generator_steps:
        generator = improve.train_generator(workspace, night, version, how, world.seed, world.announce)
        if generator is not None:
            promotion.use_generator(workspace, night, generator)
    workspace.store.create(done, b"")


def learn(
    world: World,
    night: Night,
    name: str,
    version: DatasetVersion,
    items: Sequence[str],
    how: TrainParameters,
    *,
    controls: bool = False,
    before: float = 0.0,
) -> None:
    with clock() as spent:
        taught = improve.train_policy(world.workspace, night, version, how, world.seed, world.announce)
    sit(world, night, name, taught.model_id, items, how.settings.sft_steps, before + spent[0], controls=controls)


def sit(
    world: World,
    night: Night,
    name: str,
    model_id: str,
    items: Sequence[str],
    steps: int,
    seconds: float = 0.0,
    *,
    controls: bool = False,
) -> None:
    workspace = world.workspace
    model = Registry(workspace.store, workspace.lake).model(model_id)
    rows = examination.examine(
        workspace,
        model,
        versions.resolve(workspace.lake, HELDOUT),
        run=night.run,
        announce=world.announce,
        samples=SAMPLES if name in SAMPLED else 0,
        sampled_items=SAMPLED_ITEMS,
        conditions=CONDITIONS if controls else (Condition.IMAGE,),
    )
    known = [world.told[item_id] for item_id in items if item_id in world.told]
    world.sat[name] = Sat(
        name=name,
        items=len(items),
        valid=sum(known) / len(known) if known else None,
        steps=steps,
        cpu_seconds=seconds,
        answers=evaluate.answers(rows, Condition.IMAGE),
        blank=evaluate.answers(rows, Condition.BLANK),
        swapped=evaluate.answers(rows, Condition.SWAPPED),
    )


def publish_arm(world: World, night: Night, name: str, items: Sequence[str]) -> DatasetVersion:
    dataset = "arm-" + "-".join("".join(c if c.isalnum() else " " for c in name).split())
    return versions.publish(world.workspace.lake, dataset=dataset, add=items, card={"arm": name}, run=night.run)


@contextmanager
def clock() -> Iterator[list[float]]:
    """CPU seconds of this process and of those it waited for."""
    spent, before = [0.0], sum(os.times()[:4])
    yield spent
    spent[0] = sum(os.times()[:4]) - before
