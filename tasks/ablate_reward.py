"""Ablate the reward: one seed's night on a world whose truth is known, judged by the reward layer, then measured.

The night is a real one: real drafts, gates, signals, a sample that the reviewer sees, a calibration. Only when all of
it is decided is the truth about the other drafts asked for, and then for the table alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict

from medgr2.infra.workspace import Workspace
from medgr2.models.blind_probe import probe
from medgr2.models.reward_table import Arm, Known, arms, at_tau
from medgr2.models.signals import SIGNALS
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import RefreshParameters
from medgr2.schemas.vocabulary import Verdict
from medgr2.tasks import generate
from medgr2.tasks.appraise import AskReviewer, appraise, question_of
from medgr2.tasks.night import images_of, open_night
from medgr2.tasks.select import select
from medgr2.tasks.stage import Announce

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
    arms: tuple[Arm, ...]
    batches: tuple[Batch, ...]


def one_seed(
    workspace: Workspace, parameters: RefreshParameters, seed: int, ask: AskReviewer, announce: Announce
) -> SeedResult:
    """`ask` is the reviewer during the night, and the truth after it."""
    night = open_night(workspace, parameters)
    images, how = images_of(workspace, night), parameters.generate
    generate.generate(workspace, how, images, model=night.generator, run=night.run, announce=announce)
    report = appraise(workspace, night, parameters, ask, announce)
    items = {
        item.item_id: item for item in generate.drafted(workspace, how, images, model=night.generator, run=night.run)
    }
    rows = workspace.lake.read("scores", where={"run": night.run, "item_id": sorted(items)}).to_pylist()
    newest = {row["item_id"]: row for row in sorted(rows, key=lambda row: (row["scored_at"], row["score_id"]))}
    audited = set(workspace.lake.read("reviews", columns=["item_id"])["item_id"].to_pylist())
    measured = [i for i, row in sorted(newest.items()) if all(row[name] is not None for name in SIGNALS)]
    truth = {v["item_id"]: bool(v["valid"]) for v in ask([question_of(items[i]) for i in measured])}
    known = [
        Known(i, {name: newest[i][name] for name in SIGNALS}, truth[i], i in audited) for i in measured if i in truth
    ]
    rest = [one for one in known if not one.audited]
    took = [float(newest[one.item_id]["verdict"] == Verdict.ACCEPTED) for one in rest]
    precision, kept = at_tau(took, [one.valid for one in rest], 0.5)
    accepted = [i for i in measured if newest[i]["verdict"] == Verdict.ACCEPTED]
    return SeedResult(
        seed=seed,
        drafts=len(items),
        passed=len(measured),
        valid=fmean(one.valid for one in known),
        audits=sum(one.audited for one in known),
        accepted=len(accepted),
        precision=precision,
        kept=kept,
        blind=fmean(newest[i]["blind"] for i in accepted) if accepted else 0.0,
        chance=fmean(1 / len(items[i].options) for i in accepted) if accepted else 0.0,
        canaries=report.canaries,
        canaries_rejected=report.canaries_rejected,
        past_gates=report.canaries_past_gates,
        past_gates_rejected=report.past_gates_rejected,
        arms=tuple(arms(known, scorer=night.scorer, tau=parameters.select.tau)),
        batches=tuple(_batch(workspace, way, seed, items, newest, rest, parameters) for way in WAYS),
    )


def _batch(
    workspace: Workspace,
    way: str,
    seed: int,
    items: Mapping[str, Item],
    newest: Mapping[str, Mapping[str, Any]],
    rest: Sequence[Known],
    parameters: RefreshParameters,
) -> Batch:
    images = workspace.lake.read("images", columns=["image_id", "modality"]).to_pylist()
    chosen = select(
        items.values(),
        newest.values(),
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
