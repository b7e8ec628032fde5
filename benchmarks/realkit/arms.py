"""One seed of the kit through the real path: intake, drafts, gates, scores, audits, versions, trainings, one exam.

The embedded base knows phantoms. It is given a word for each label of the kit; then the questions of people teach a
policy, which judges the drafts, and a writer, which writes them. What else happens is the loop's own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import SecretStr
from realkit import kit
from realkit.hospital import Hospital, build
from realkit.starts import base_with_words, writer

from medgr2.flows.intake import take_in
from medgr2.infra import versions
from medgr2.infra.settings import ComputeSettings, PrivacySettings, Settings, StorageSettings
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.models import loop_claims
from medgr2.models.loop_table import Sat
from medgr2.models.registry import Registry
from medgr2.models.sft import SftSettings
from medgr2.schemas.intake import IntakeParameters
from medgr2.schemas.parameters import (
    SEED,
    GenerateParameters,
    RefreshParameters,
    ScoreParameters,
    TrainParameters,
)
from medgr2.schemas.reports import AppraisalReport, DatasetVersion, GenerateReport, PublishReport
from medgr2.schemas.vocabulary import Modality, QuestionType
from medgr2.tasks import ablate_loop, generate, improve, publish
from medgr2.tasks.appraise import appraise, question_of
from medgr2.tasks.judge import newest
from medgr2.tasks.night import Night, images_of, open_night, register_given

REVIEWER = Path(__file__).with_name("reviewer.py")
DEADLINE_SECONDS = 300
ASKED = {
    "looks": (
        (QuestionType.MODALITY, QuestionType.ANATOMY),
        {QuestionType.MODALITY: 0.4, QuestionType.ANATOMY: 0.4},
    ),
    "diagnoses": ((QuestionType.DISEASE,), {Modality.CT: 0.0, Modality.MICROSCOPY: 0.0}),
}
"""The nights: what is asked, and of what share of the pictures where not of all. What is easy is asked less often."""
RATE = 1e-3
"""New words are learnt from nothing: the usual rate of SFT is too slow for few steps."""


@dataclass(frozen=True)
class Sizes:
    images: int
    """Each night asks about at most so many."""
    audits: int
    steps: int
    """Of SFT, on the seed and a version alike; half of them in the arm of the seed alone that policies are made of."""
    writer_steps: int
    grpo_steps: int


@dataclass
class SeedOfKit:
    """What one seed gave."""

    seed: int
    counts: Mapping[str, int]
    sat: Mapping[str, Sat] = field(default_factory=dict)
    nights: dict[str, dict[str, Any]] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)
    """By image."""
    cpu_seconds: float = 0.0


def run(source: Path, folder: Path, seed: int, sizes: Sizes) -> SeedOfKit:
    warnings.simplefilter("ignore")
    settings = Settings(
        storage=StorageSettings(root=str(folder / "root")),
        # Without Ray: what its workers spend, nobody could add up.
        compute=ComputeSettings(mode="inline"),
        privacy=PrivacySettings(patient_key=SecretStr(f"public pictures of the kit, seed {seed:08d}")),
    )
    with ablate_loop.clock() as spent:
        hospital = build(source, folder / "hospital", seed)
        found = SeedOfKit(seed, hospital.counts)
        found.sat = _one_seed(open_workspace(settings), source, hospital, folder, found, sizes)
    found.cpu_seconds = round(spent[0], 1)
    return found


def _one_seed(
    workspace: Workspace, source: Path, hospital: Hospital, folder: Path, found: SeedOfKit, sizes: Sizes
) -> Mapping[str, Sat]:
    keep = IntakeParameters(reports="keep")  # made of labels by this benchmark: nobody is in them
    take_in(
        workspace, str(hospital.first), run="intake", parameters=keep, seed=hospital.seed, heldout=hospital.heldout,
        announce=_quiet,
    )  # fmt: skip
    # The later nights ask about pictures that no night has asked about: those without questions of people.
    for name in ASKED:
        open_night(workspace, _parameters(name, "before", sizes))
    take_in(workspace, str(hospital.later), run="intake", parameters=keep, announce=_quiet)
    rows = workspace.lake.read("images", ["image_id", "origin"]).to_pylist()
    by_hash = {picture.sha256: picture for picture in kit.pictures(source)}
    picture_of = {row["image_id"]: row["origin"] or row["image_id"] for row in rows}
    found.source = {image: by_hash[sha].source for image, sha in picture_of.items()}

    def ask(requests: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        told = [{**one, "picture": picture_of[one["image_sha256"]]} for one in requests]
        command = [sys.executable, str(REVIEWER), str(source)]
        lines = "".join(json.dumps(one) + "\n" for one in told)
        said = subprocess.run(
            command, input=lines, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=True
        )
        return [{**json.loads(line), "reason": ""} for line in said.stdout.splitlines()]

    how = TrainParameters(
        sft_steps=sizes.steps, sft_learning_rate=RATE, human_share=0.3, weighting="equal",
        grpo_steps=sizes.grpo_steps, judge_steps=0, generator_steps=0,
    )  # fmt: skip
    plain = how.model_copy(update={"grpo_steps": 0})
    short = plain.model_copy(update={"sft_steps": sizes.steps // 2})
    world = ablate_loop.World(workspace, found.seed, ask, _quiet)
    seed_version = versions.resolve(workspace.lake, SEED)
    base = base_with_words(workspace, folder / "base")
    base_id = register_given(Registry(workspace.store, workspace.lake), base)
    known = {"base_id": base_id, "start_id": base_id, "base": base.revision}
    opened = {name: open_night(workspace, _parameters(name, "later", sizes)) for name in ASKED}
    night = opened["looks"].model_copy(update=known)
    ablate_loop.sit(world, night, loop_claims.START, base_id, (), 0, controls=True)
    taught = improve.train_policy(workspace, night, seed_version, short, found.seed, _quiet)
    how_to_write = SftSettings(steps=sizes.writer_steps, learning_rate=RATE, seed=found.seed)
    scorer = Registry(workspace.store, workspace.lake).model(taught.model_id)["artifact"]
    known |= {"scorer": scorer, "generator": writer(workspace, base, hospital, folder / "writer", how_to_write)}
    drafted: set[str] = set()
    kept: set[str] = set()
    for name, one in opened.items():
        items, chosen = _live(world, one.model_copy(update=known), _parameters(name, "later", sizes), found)
        drafted |= items
        kept |= chosen
    _arms(world, night, seed_version, sorted(drafted), sorted(kept), how, short)
    return world.sat


def _live(
    world: ablate_loop.World, night: Night, parameters: RefreshParameters, found: SeedOfKit
) -> tuple[set[str], set[str]]:
    """What the night drafted, and what of it was published; then what the labels say of all of it. A batch that the
    blind probe stopped is published nowhere, and taught all the same here: what it is worth is what is asked."""
    workspace, images = world.workspace, images_of(world.workspace, night)
    asked = parameters.generate
    wrote = generate.generate(workspace, asked, images, model=night.generator, run=night.run, announce=_quiet)
    judged = appraise(workspace, night, parameters, world.ask, _quiet)
    report = publish.publish(workspace, night, parameters)
    items = generate.drafted(workspace, asked, images, model=night.generator, run=night.run)
    verdicts = {str(v["item_id"]): bool(v["valid"]) for v in world.ask([question_of(item) for item in items])}
    world.told.update(verdicts)
    if report.version:
        chosen = set(versions.members(workspace.lake, report.version))
    else:
        rows = newest(workspace.lake.read("scores", where={"run": night.run}).to_pylist())
        chosen = set(ablate_loop.selected(workspace, items, rows.values(), parameters.select))
    found.nights[night.dataset] = _figures(wrote, judged, report, verdicts, chosen)
    return set(verdicts), chosen


def _figures(
    wrote: GenerateReport,
    judged: AppraisalReport,
    report: PublishReport,
    verdicts: Mapping[str, bool],
    chosen: set[str],
) -> dict[str, Any]:
    return {
        "asked": wrote.asked,
        "drafts": len(verdicts),
        "valid": sum(verdicts.values()),
        "accepted": judged.accepted,
        "probe": report.probe.verdict.value if report.probe else None,
        "told_blind": _told_blind(report),
        "limit": report.probe.limit if report.probe else None,
        "published": report.added,
        "taught": len(chosen),
        "valid_of_taught": sum(verdicts[one] for one in chosen),
        "audits": judged.audits,
        "auroc": judged.auroc,
        "canaries_rejected": judged.canaries_rejected,
        "reasons": judged.reasons,
        "left_out": report.left_out,
        "not_calibrated": judged.uncalibrated_because,
    }


def _told_blind(report: PublishReport) -> float | None:
    """Of the whole batch, before it was thinned if it was."""
    if report.probe is None:
        return None
    return report.probe.thinned.whole if report.probe.thinned else report.probe.accuracy


def _arms(
    world: ablate_loop.World,
    night: Night,
    seed_version: DatasetVersion,
    drafted: Sequence[str],
    kept: Sequence[str],
    how: TrainParameters,
    short: TrainParameters,
) -> None:
    plain = how.model_copy(update={"grpo_steps": 0})
    ablate_loop.learn(world, night, loop_claims.OF_SEED, seed_version, (), short, controls=True)
    ablate_loop.learn(world, night, loop_claims.SEED_LONG, seed_version, (), plain)
    rng = np.random.default_rng(world.seed)
    sets = {
        loop_claims.UNFILTERED: drafted,
        loop_claims.RANDOM: sorted(rng.choice(drafted, size=len(kept), replace=False).tolist()),
        loop_claims.ORACLE: [one for one in drafted if world.told[one]],
        loop_claims.FILTERED: kept,
    }
    for name, chosen in sets.items():
        if chosen:
            version = ablate_loop.publish_arm(world, night, name, chosen)
            controls = name == loop_claims.FILTERED
            ablate_loop.learn(world, night, name, version, chosen, plain, controls=controls)
    if kept:
        version = ablate_loop.publish_arm(world, night, loop_claims.FILTERED, kept)
        settings = how.settings
        more = plain.model_copy(update={"sft_steps": settings.sft_steps + 6 * settings.grpo_steps})
        ablate_loop.learn(world, night, loop_claims.CONTROL, version, kept, more)
        ablate_loop.learn(world, night, loop_claims.GRPO, version, kept, how, controls=True)


def _parameters(name: str, night: str, sizes: Sizes) -> RefreshParameters:
    kinds, quotas = ASKED[name]
    return RefreshParameters(
        dataset=name,
        night=night,
        generate=GenerateParameters(
            question_types=kinds, quotas=dict(quotas), images=None if night == "before" else sizes.images,
            unasked_only=True,
        ),
        score=ScoreParameters(audits=sizes.audits),
    )  # fmt: skip


def _quiet(_: object) -> None:
    return None
