"""Appraise: tonight's drafts through gates, signals, the reviewer's audits and the calibration to a verdict each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from medgr2.infra.workspace import Workspace
from medgr2.models.alarms import alarms
from medgr2.models.calibration import Calibration, save
from medgr2.models.gates import GateContext, sift
from medgr2.schemas.errors import DataError
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import SEED, RefreshParameters
from medgr2.schemas.reports import AppraisalReport
from medgr2.schemas.vocabulary import Origin, Verdict
from medgr2.tasks.calibrate import calibrate
from medgr2.tasks.gate_context import compare_with, members_of, read_items
from medgr2.tasks.generate import drafted, item_of
from medgr2.tasks.judge import judge, record_judgements
from medgr2.tasks.night import Night, images_of
from medgr2.tasks.review import import_verdicts, settled, standing_verdicts
from medgr2.tasks.review_sample import draw
from medgr2.tasks.score import Measured, measure
from medgr2.tasks.stage import Announce
from medgr2.tasks.vigil import figures_of, night_before, precision_of, refused, tonights_canaries

AskReviewer = Callable[[Iterable[dict[str, Any]]], list[dict[str, Any]]]
"""Takes the item with item_id and image_sha256, gives {item_id, valid, reason}."""


@dataclass(frozen=True)
class Candidates:
    """What a night has to judge, and what it measures besides."""

    gated: Mapping[str, tuple[str, ...]]
    """The reasons against each draft."""
    passed: list[Item]
    reviewed: list[Item]
    """Audited on earlier nights, and measured again under tonight's scorer: old verdicts keep their worth."""
    human: list[Item]
    """Questions of people: training wants to know how hard they are for tonight's scorer."""
    canaries: dict[str, tuple[str, ...]]
    """The reasons against each known-bad item."""
    live: list[Item]
    """Canaries that no gate caught."""
    compared: dict[str, int]
    """Items of each evaluation set."""
    unseen: int
    """Images that could not be compared with those of the evaluation sets."""
    unread: frozenset[str]
    """Evaluation sets that could not be read whole: then every draft is refused."""

    @property
    def measured(self) -> list[Item]:
        return [*self.passed, *self.reviewed, *self.human, *self.live]


def candidates(workspace: Workspace, night: Night, items: list[Item], count: int) -> Candidates:
    """`count` canaries are slipped in."""
    compared = compare_with(workspace.lake, night, items)
    context = compared.context
    human = list(read_items(workspace.lake, members_of(workspace.lake, SEED)))
    made = tonights_canaries(workspace.lake, human, count)
    caught = {item.item_id: refused(item, context) for item in made}
    gated = sift(items, context)
    return Candidates(
        gated,
        [item for item in items if not gated[item.item_id]],
        _reviewed(workspace, context),
        human,
        caught,
        [item for item in made if not caught[item.item_id]],
        compared.sets,
        len(context.images.unseen),
        context.unread,
    )


def appraise(
    workspace: Workspace,
    night: Night,
    parameters: RefreshParameters,
    ask: AskReviewer | None,
    announce: Announce,
    *,
    asked: int | None = None,
) -> AppraisalReport:
    """Judge every draft of the night, of the first `asked` of its cells if it got no further. Nothing that was not
    scored and calibrated is accepted."""
    lake, how = workspace.lake, parameters.score
    images = images_of(workspace, night)
    items = drafted(workspace, parameters.generate, images, model=night.generator, run=night.run, asked=asked)
    found = candidates(workspace, night, items, how.canaries)
    gated, passed, human = found.gated, found.passed, found.human
    measured = measure(
        workspace,
        found.measured,
        how,
        scorer=night.scorer,
        run=night.run,
        announce=announce,
        reward=night.reward,
        verifier=night.verifier,
    )
    if ask is not None:
        _audit(workspace, night, parameters, passed, gated, measured, ask)
    calibration, why = _calibrate(workspace, measured)
    # What people called invalid is not published, whatever its p.
    doubted = {item_id for item_id, valid in settled(standing_verdicts(lake)).items() if not valid}
    rows = judge(gated, measured, calibration, tau=parameters.select.tau, run=night.run, refused=doubted)
    if len(rows) != len(items):
        raise DataError(
            f"{len(items)} drafts went in and {len(rows)} judgements came out",
            where=night.run,
            kept="drafts and signals",
        )
    of_people = judge(
        {item.item_id: () for item in human}, measured, calibration, tau=parameters.select.tau, run=night.run
    )
    record_judgements(lake, rows + of_people, night.run)
    verdicts = Counter(row["verdict"] for row in rows)
    sung = judge(found.canaries, measured, calibration, tau=parameters.select.tau, run=night.run)
    share = _rejected(sung) if calibration else None
    past = [row for row in sung if not found.canaries[row["item_id"]]]
    precision = precision_of(lake, night.run)
    now = figures_of(night.run, rows, precision)
    return AppraisalReport(
        drafts=len(rows),
        accepted=verdicts[Verdict.ACCEPTED],
        rejected=verdicts[Verdict.REJECTED],
        failed=verdicts[Verdict.FAILED],
        reasons=dict(Counter(reason for row in rows for reason in row["reasons"]).most_common()),
        calibration=calibration.id if calibration else None,
        uncalibrated_because=why,
        audits=calibration.audits if calibration else 0,
        auroc=calibration.cross_validated.auroc if calibration else None,
        ece=calibration.cross_validated.ece if calibration else None,
        precision=precision,
        mean_p=now.mean_p,
        compared=found.compared,
        images_not_compared=found.unseen,
        canaries=len(sung),
        canaries_rejected=share,
        canaries_past_gates=len(past),
        past_gates_rejected=_rejected(past) if calibration else None,
        alarms=alarms(now, night_before(lake, night), len(sung), share, tau=parameters.select.tau, unread=found.unread),
        unverified_because=measured.unverified,
    )


def _reviewed(workspace: Workspace, context: GateContext) -> list[Item]:
    """What people judged before and may be learned from: generated items, and never one about a held-out image."""
    ids = set(workspace.lake.read("reviews", columns=["item_id"])["item_id"].to_pylist())
    if not ids:
        return []
    rows = workspace.lake.read("items", where={"item_id": sorted(ids)}).to_pylist()
    return [
        item_of(row) for row in rows if row["origin"] == Origin.GENERATED and row["image_id"] not in context.heldout
    ]


def _audit(
    workspace: Workspace,
    night: Night,
    parameters: RefreshParameters,
    passed: list[Item],
    gated: Mapping[str, tuple[str, ...]],
    measured: Measured,
    ask: AskReviewer,
) -> None:
    """Put a sample before the reviewer, once a night: verdicts come in all or none, so a killed night asks again."""
    before = workspace.lake.read("reviews", columns=["item_id", "run"]).to_pylist()
    if any(row["run"] == night.run for row in before):
        return
    calibration, _ = _calibrate(workspace, measured)
    rows = judge(gated, measured, calibration, tau=parameters.select.tau, run=night.run)
    known = {row["item_id"] for row in before}
    drawn = draw(rows, parameters.score.audits, seed=int(night.scorer[:8], 16), reviewed=known).asked
    chosen = {one.item_id: one for one in drawn}
    by_id = {item.item_id: item for item in passed}
    requests = [question_of(by_id[item_id]) for item_id in chosen]
    verdicts = [
        {
            "item_id": v["item_id"],
            "reviewer": parameters.score.reviewer,
            "valid": v["valid"],
            "reason": v["reason"],
            "stratum": chosen[v["item_id"]].stratum,
            "weight": chosen[v["item_id"]].weight,
        }
        for v in ask(requests)
    ]
    import_verdicts(workspace.lake, verdicts, run=night.run)


def _rejected(rows: list[dict[str, Any]]) -> float | None:
    return sum(row["verdict"] != Verdict.ACCEPTED for row in rows) / len(rows) if rows else None


def question_of(item: Item) -> dict[str, Any]:
    """An item as a reviewer gets it."""
    told = item.model_dump(mode="json", exclude={"image_id"})
    return {**told, "item_id": item.item_id, "image_sha256": item.image_id}


def _calibrate(workspace: Workspace, measured: Measured) -> tuple[Calibration | None, str]:
    calibration, _, why = calibrate(
        standing_verdicts(workspace.lake), measured.signals, scorer=measured.scorer, reward=measured.reward
    )
    if calibration is not None:
        save(workspace.store, calibration)
    return calibration, why
