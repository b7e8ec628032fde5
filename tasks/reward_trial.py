"""The trial of a reward: its p(valid) of what people judged and of known-bad items, beside that of the one in force.

No member judges a picture that it learned from, and every p is cross-validated: nothing here was seen by what it
measures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from medgr2.infra.workspace import Workspace
from medgr2.models.calibration import fit, out_of_fold
from medgr2.models.registry import Registry
from medgr2.models.reward_gate import Judged, decide, harm
from medgr2.schemas.cycle_reports import GateReport
from medgr2.schemas.errors import ConflictError, DataError
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import RefreshParameters
from medgr2.schemas.vocabulary import Role
from medgr2.tasks.appraise import candidates
from medgr2.tasks.calibrate import usable_audits
from medgr2.tasks.night import Night
from medgr2.tasks.review import standing_verdicts
from medgr2.tasks.score import measure
from medgr2.tasks.stage import Announce


@dataclass(frozen=True)
class Opinions:
    """What p(valid) comes to with a reward, or without one."""

    audited: Mapping[str, float]
    valid: Mapping[str, bool]
    canaries: Sequence[float]


def sit(
    workspace: Workspace, night: Night, parameters: RefreshParameters, candidate: str, announce: Announce
) -> tuple[GateReport | None, str]:
    """The gate's report and the decision. Decided before, the champion is not moved again."""
    registry, tau = Registry(workspace.store, workspace.lake), parameters.select.tau
    items = _Tried.of(workspace, night, parameters)
    artifact = str(registry.model(candidate)["artifact"])
    if items.unread:
        # Then every item is refused, and that all canaries are says nothing of the reward.
        sets = ", ".join(sorted(items.unread))
        return None, f"not tried: the evaluation set {sets} cannot be read, and refuses every canary"
    try:
        new, present = (items.seen_with(reward, announce) for reward in (artifact, night.reward))
    except DataError as few:
        return None, f"not tried: {few.what}"
    gate = decide(items.judged(new, present), new.canaries, tau=tau)
    if _moved(registry, candidate, "promote", night):
        return gate, "promoted"
    same = artifact == night.reward
    if gate.promote and not same:
        return gate, _promote(registry, night, candidate, f"{night.run}: {gate.reasons[0]}")
    if night.reward is not None:
        alone = items.seen_with(None, announce)
        if why := harm(items.judged(present, alone), present.canaries, alone.canaries, tau=tau):
            return gate, _withdraw(registry, night, f"{night.run}: {why}")
    if same:
        return gate, "it is the reward in force again"
    return gate, "kept the reward before it" if night.reward else "no reward yet"


@dataclass(frozen=True)
class _Tried:
    """What a reward is tried on."""

    workspace: Workspace
    night: Night
    parameters: RefreshParameters
    reviewed: Sequence[Item]
    live: Sequence[Item]
    """Canaries past the gates."""
    caught: int
    unread: frozenset[str]
    slices: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, workspace: Workspace, night: Night, parameters: RefreshParameters) -> _Tried:
        found = candidates(workspace, night, [], parameters.score.canaries)
        rows = workspace.lake.read(
            "images",
            columns=["image_id", "modality"],
            where={"image_id": sorted({item.image_id for item in found.reviewed})},
        ).to_pylist()
        modality = {row["image_id"]: row["modality"] or "no modality" for row in rows}
        slices = {item.item_id: (modality[item.image_id], str(item.question_type)) for item in found.reviewed}
        caught = len(found.canaries) - len(found.live)
        return cls(workspace, night, parameters, found.reviewed, found.live, caught, found.unread, slices)

    def seen_with(self, reward: str | None, announce: Announce) -> Opinions:
        """All other looks were taken during the night, and are found."""
        night, how = self.night, self.parameters.score
        measured = measure(
            self.workspace,
            [*self.reviewed, *self.live],
            how,
            scorer=night.scorer,
            run=night.run,
            announce=announce,
            reward=reward,
            verifier=night.verifier,
        )
        audits = usable_audits(standing_verdicts(self.workspace.lake), measured.signals)
        audited = out_of_fold(audits)
        calibration = fit(audits, scorer=night.scorer, reward=reward)
        # What no gate caught is known by its signals; without them an item is not published either.
        live = [calibration.p(measured.signals[item.item_id]) or 0.0 for item in self.live]
        return Opinions(audited, {audit.item_id: audit.valid for audit in audits}, [*live, *[0.0] * self.caught])

    def judged(self, candidate: Opinions, present: Opinions) -> list[Judged]:
        return [
            Judged(p, present.audited[item_id], candidate.valid[item_id], self.slices[item_id])
            for item_id, p in candidate.audited.items()
            if item_id in present.audited
        ]


def _moved(registry: Registry, model_id: str, action: Literal["promote", "rollback"], night: Night | None) -> bool:
    """Whether the reward was promoted, or taken back, by this night or by anybody."""
    told = "" if night is None else f"{night.run}: "
    return any(
        move.action == action
        and (move.model_id if action == "promote" else move.replaced) == model_id
        and move.reason.startswith(told)
        for move in registry.history(Role.REWARD)
    )


def _promote(registry: Registry, night: Night, candidate: str, reason: str) -> str:
    if _moved(registry, candidate, "rollback", None):
        return f"passed, and not promoted: it was taken back before; medgr2 promote {candidate[:12]} overrules that"
    current = registry.champion(Role.REWARD)
    if not _in_force(registry, current, night):
        return "passed, and not promoted: the reward in force is no longer the one that it was compared with"
    try:
        registry.promote(Role.REWARD, candidate, reason=reason, expected_current=current)
    except ConflictError as moved:
        return f"passed, and not promoted: {moved.what}"
    return "promoted"


def _withdraw(registry: Registry, night: Night, reason: str) -> str:
    if not any(move.action == "rollback" and move.reason == reason for move in registry.history(Role.REWARD)):
        current = registry.champion(Role.REWARD)
        if not _in_force(registry, current, night):
            return "kept the reward before it"
        try:
            registry.rollback(Role.REWARD, reason=reason, expected_current=current)
        except ConflictError as moved:
            return f"the reward in force does harm, and was not withdrawn: {moved.what}"
    return f"the reward in force is withdrawn: {reason}"


def _in_force(registry: Registry, current: str | None, night: Night) -> bool:
    return (str(registry.model(current)["artifact"]) if current else None) == night.reward
