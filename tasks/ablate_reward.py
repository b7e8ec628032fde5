"""Ablate the reward: one seed's night on a world whose truth is known, judged by the reward layer, then measured.

The night is a real one: real drafts, gates, signals, a sample that the reviewer sees, a calibration. Only when all of
it is decided is the truth about the other drafts asked for, and then for the table alone.
"""

from __future__ import annotations

from statistics import fmean

from pydantic import BaseModel, ConfigDict

from medgr2.infra.workspace import Workspace
from medgr2.models.reward_table import Arm, Known, arms, at_tau
from medgr2.models.signals import SIGNALS
from medgr2.schemas.parameters import RefreshParameters
from medgr2.schemas.vocabulary import Verdict
from medgr2.tasks import generate
from medgr2.tasks.appraise import AskReviewer, appraise, question_of
from medgr2.tasks.night import images_of, open_night
from medgr2.tasks.stage import Announce


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
    )
