"""Ablate the reward: one seed's night on a world whose truth is known, judged by the reward layer, then measured.

The night is a real one: real drafts, gates, signals, a sample that the reviewer sees, a calibration. The rewards in
the table are taught after the night as a cycle teaches them: ours, and the published recipe on the same items. Only
when all of that is done is the truth about the other drafts asked for, and then for the table alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict

from medgr2.infra.workspace import Workspace
from medgr2.models.blind_probe import probe
from medgr2.models.calibration import quality
from medgr2.models.registry import Source
from medgr2.models.reward_table import Arm, Known, arms, as_it_is, at_tau
from medgr2.models.signals import SIGNALS
from medgr2.schemas.cycle_reports import RewardTrial
from medgr2.schemas.errors import DataError
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import RefreshParameters, TrainParameters
from medgr2.schemas.presets import Judge
from medgr2.schemas.vocabulary import Verdict
from medgr2.tasks import generate, reward_evidence, score_reward
from medgr2.tasks.appraise import AskReviewer, appraise, question_of
from medgr2.tasks.judge import newest
from medgr2.tasks.night import Night, images_of, open_night
from medgr2.tasks.reward import co_train, plan_of, train
from medgr2.tasks.reward_train import RewardPlan
from medgr2.tasks.select import select
from medgr2.tasks.stage import Announce, run_and_record

WAYS: dict[str, dict[str, Any]] = {
    "tau": {"balance_keys": False},
    "tau, balanced": {},
    "best 400": {"top_k": 400, "balance_keys": False},
    "best 400, balanced": {"top_k": 400},
}


class Batch(BaseModel):
    """What one way of selecting would have published."""

    model_config = ConfigDict(frozen=True)

    seed: int
    way: str
    items: int
    precision: float | None
    kept: float
    """Share of all valid items; audited ones are left out of both shares."""
    probe: float | None
    """Accuracy of a rule that sees words only."""
    limit: float | None
    verdict: str


class SeedResult(BaseModel):
    model_config = ConfigDict(frozen=True)

    seed: int
    drafts: int
    passed: int
    """Of the drafts, by the gates."""
    valid: float
    """Share of those that passed."""
    audits: int
    accepted: int
    precision: float | None
    """Of what the night accepted, audited ones left out."""
    kept: float
    """Share of the valid ones that the night accepted, audited ones left out."""
    blind: float
    """Share of right answers about the accepted that are given without their picture."""
    chance: float
    canaries: int
    canaries_rejected: float | None
    past_gates: int
    past_gates_rejected: float | None
    """Of the canaries that no gate caught."""
    auroc: float
    """Of the night's p(valid), on items nobody audited; no reward was in force."""
    ece: float
    trial: RewardTrial
    """What became of the reward that the night's cycle would teach."""
    arms: tuple[Arm, ...]
    batches: tuple[Batch, ...]


def one_seed(
    workspace: Workspace,
    parameters: RefreshParameters,
    how: TrainParameters,
    seed: int,
    ask: AskReviewer,
    announce: Announce,
) -> SeedResult:
    """`ask` is the reviewer during the night, and the truth after it."""
    night = open_night(workspace, parameters)
    images, asked = images_of(workspace, night), parameters.generate
    generate.generate(workspace, asked, images, model=night.generator, run=night.run, announce=announce)
    report = appraise(workspace, night, parameters, ask, announce)
    items = {
        item.item_id: item for item in generate.drafted(workspace, asked, images, model=night.generator, run=night.run)
    }
    rows = workspace.lake.read("scores", where={"run": night.run, "item_id": sorted(items)}).to_pylist()
    last = newest(rows)
    audited = set(workspace.lake.read("reviews", columns=["item_id"])["item_id"].to_pylist())
    measured = [i for i, row in sorted(last.items()) if all(row[name] is not None for name in SIGNALS)]
    trial = co_train(workspace, night, parameters, how, seed, announce)
    looked = [items[i] for i in measured]
    taught = reward_evidence.publish(workspace, night, reward_evidence.gather(workspace.lake, night))
    trained = {
        judge: _judged(
            workspace, night, plan_of(how.model_copy(update={"judge": judge}), seed), taught, looked, announce
        )
        for judge in get_args(Judge)
    }
    measured = [i for i in measured if all(i in judged for judged in trained.values())]
    truth = {v["item_id"]: bool(v["valid"]) for v in ask([question_of(items[i]) for i in measured])}
    known = [
        Known(
            i,
            {name: last[i][name] for name in SIGNALS} | {"rm": trained["default"][i]},
            truth[i],
            i in audited,
        )
        for i in measured
        if i in truth
    ]
    rest = [one for one in known if not one.audited]
    took = [float(last[one.item_id]["verdict"] == Verdict.ACCEPTED) for one in rest]
    precision, kept = at_tau(took, [one.valid for one in rest], 0.5)
    tau = parameters.select.tau
    nights = quality([last[one.item_id]["p_valid"] for one in rest], [one.valid for one in rest])
    paper = trained["paper"]
    matched = {i: 0.8 * paper[i] + 0.2 * last[i]["agree"] for i in measured}
    accepted = [i for i in measured if last[i]["verdict"] == Verdict.ACCEPTED]
    return SeedResult(
        seed=seed,
        drafts=len(items),
        passed=len(measured),
        valid=fmean(one.valid for one in known),
        audits=sum(one.audited for one in known),
        accepted=len(accepted),
        precision=precision,
        kept=kept,
        blind=fmean(last[i]["blind"] for i in accepted) if accepted else 0.0,
        chance=fmean(1 / len(items[i].options) for i in accepted) if accepted else 0.0,
        canaries=report.canaries,
        canaries_rejected=report.canaries_rejected,
        past_gates=report.canaries_past_gates,
        past_gates_rejected=report.past_gates_rejected,
        auroc=nights.auroc,
        ece=nights.ece,
        trial=trial,
        arms=(
            *arms(known, scorer=night.scorer, tau=tau),
            as_it_is("paper: R", paper, rest, tau),
            as_it_is("paper: 0.8 R + 0.2 match", matched, rest, tau),
        ),
        batches=tuple(_batch(workspace, way, seed, items, last, rest, parameters) for way in WAYS),
    )


def _judged(
    workspace: Workspace,
    night: Night,
    plan: RewardPlan,
    taught: tuple[Source, str],
    items: Sequence[Item],
    announce: Announce,
) -> dict[str, float]:
    """By item, what members say of it that never saw its picture."""
    artifact, why = train(workspace, night, plan, *taught, announce)
    if artifact is None:
        raise DataError(f"the reward could not be trained: {why}", where=night.run, kept="the night")
    exams = [(item.item_id, item) for item in items]
    request, cells = score_reward.asked_for(artifact, exams, run=night.run, lake=workspace.lake)
    outcomes = run_and_record(request, cells, workspace, announce).outcomes
    found = {item_id: outcomes[cell.key].value for (item_id, _), cell in zip(exams, cells, strict=True)}
    return {item_id: float(value["rm"]) for item_id, value in found.items() if value is not None}


def _batch(
    workspace: Workspace,
    way: str,
    seed: int,
    items: Mapping[str, Item],
    last: Mapping[str, Mapping[str, Any]],
    rest: Sequence[Known],
    parameters: RefreshParameters,
) -> Batch:
    images = workspace.lake.read("images", columns=["image_id", "modality"]).to_pylist()
    chosen = select(
        items.values(),
        last.values(),
        modality={row["image_id"]: row["modality"] for row in images},
        held=(),
        parameters=parameters.select.model_copy(update=WAYS[way]),
    )
    taken = set(chosen.add)
    precision, kept = at_tau([float(one.item_id in taken) for one in rest], [one.valid for one in rest], 0.5)
    probed = probe(items[item_id] for item_id in chosen.add)
    return Batch(
        seed=seed,
        way=way,
        items=len(taken),
        precision=precision,
        kept=kept,
        probe=probed.accuracy,
        limit=probed.limit,
        verdict=probed.verdict.value,
    )
