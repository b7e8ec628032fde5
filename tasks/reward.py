"""The reward of the next nights: taught by what this one found out, tried on what people said, promoted or not."""

from __future__ import annotations

from medgr2.infra.workspace import Workspace
from medgr2.models.registry import Registration, Registry, Source
from medgr2.models.reward_training import PRESETS
from medgr2.schemas.cycle_reports import RewardTrial
from medgr2.schemas.errors import DataError
from medgr2.schemas.parameters import RefreshParameters, TrainParameters
from medgr2.schemas.vocabulary import Role, Verdict
from medgr2.tasks import reward_evidence
from medgr2.tasks.night import Night
from medgr2.tasks.reward_train import CODE, WORKER, RewardPlan, assemble, reward_cells, reward_recipe
from medgr2.tasks.reward_trial import sit
from medgr2.tasks.stage import Announce, run_and_record
from medgr2.tasks.training_cell import training_request
from medgr2.tasks.training_plans import adapters


def co_train(
    workspace: Workspace,
    night: Night,
    parameters: RefreshParameters,
    how: TrainParameters,
    seed: int,
    announce: Announce,
) -> RewardTrial:
    """Always from the base: a reward that goes on from the one before would learn to please itself."""
    told = reward_evidence.gather(workspace.lake, night)
    counts = reward_evidence.counted(told)
    if not told:
        return RewardTrial(decision="nothing to teach a reward")
    source, evidence = reward_evidence.publish(workspace, night, told)
    plan = plan_of(how, seed)
    artifact, why = train(workspace, night, plan, source, evidence, announce)
    if artifact is None:
        return RewardTrial(told=counts, decision=f"not trained: {why}")
    candidate = Registry(workspace.store, workspace.lake).register(
        Registration(
            role=Role.REWARD,
            artifact=artifact,
            method=f"judge-{plan.settings.form}",
            parent=night.base_id,
            sources=(source,),
            code=CODE,
            recipe=reward_recipe(plan, night.base).digest,
            metrics={"told": counts},
            run=night.run,
        )
    )
    gate, decision = sit(workspace, night, parameters, candidate, announce)
    return RewardTrial(told=counts, candidate=candidate, decision=decision, gate=gate)


def plan_of(parameters: TrainParameters, seed: int) -> RewardPlan:
    how = parameters.settings
    settings = PRESETS[how.judge].model_copy(
        update={
            "steps": how.judge_steps,
            "seed": seed,
            "batch": how.judge_batch,
            "accumulation": how.judge_accumulation,
            "learning_rate": how.judge_learning_rate,
            "warmup_steps": how.judge_warmup_steps,
            "lora": adapters(how, how.lora_rank if how.judge_lora_rank is None else how.judge_lora_rank),
            "device": how.device,
            "precision": how.precision,
            "attention": how.attention,
            "exact": how.exact,
            "gradient_checkpointing": how.gradient_checkpointing,
        }
    )
    return RewardPlan(settings=settings, members=how.judge_members)


def train(
    workspace: Workspace, night: Night, plan: RewardPlan, source: Source, evidence: str, announce: Announce
) -> tuple[str | None, str]:
    """The reward's artifact, or why there is none. Members that were trained before are found."""
    recipe = reward_recipe(plan, night.base)
    cells = reward_cells(recipe, source, evidence)
    request = training_request(recipe, WORKER, night.run)
    outcomes = run_and_record(request, list(cells.values()), workspace, announce).outcomes
    made: dict[str, str] = {}
    for where, cell in cells.items():
        outcome = outcomes[cell.key]
        if outcome.verdict is not Verdict.ACCEPTED or outcome.value is None:
            return None, outcome.detail or ", ".join(outcome.reasons)
        made[where] = str(outcome.value["artifact"])
    if len(set(made.values())) < len(made):
        raise DataError("two members of a reward are the same model", where=night.run, kept="the reward in force")
    return assemble(workspace, made), ""
