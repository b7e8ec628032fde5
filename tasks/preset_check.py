"""Whether a preset can be trained here: its device, its base and the memory, looked at before anything is spent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medgr2.infra.settings import Settings
from medgr2.models.crew_terms import refuse_unshareable
from medgr2.models.memory_need import GIB, free_bytes, held_bytes, least_bytes, refuse_too_little, spread_of
from medgr2.models.model_ref import base_folder, policy_folder
from medgr2.schemas.errors import SettingsError
from medgr2.schemas.parameters import EMBEDDED, TrainParameters
from medgr2.schemas.presets import BASES
from medgr2.tasks.reward import plan_of
from medgr2.tasks.reward_folds import FOLDS
from medgr2.tasks.training_plans import lessons_of, practice_of, writing_of

KEPT = "nothing was started, and nothing spent"
FAMILIES = {"Qwen/Qwen2.5-VL-7B-Instruct": "qwen2_5_vl", "Qwen/Qwen2-VL-2B-Instruct": "qwen2_vl"}


def refuse_unmet(settings: Settings, how: TrainParameters) -> tuple[str, ...]:
    """Raises what is missing; returns what a person should know who goes on all the same."""
    wanted, chosen = BASES[how.preset], how.settings
    try:
        base_folder(settings)
        folder = policy_folder(settings)
    except SettingsError as absent:
        raise _unmet(how, absent.what, where=absent.where) from None
    if chosen.device == "cuda":
        if settings.models.base == EMBEDDED and not settings.models.policy:
            raise _unmet(how, "the base is the embedded model, which is made for one thread of a CPU")
        _refuse_without_gpu(settings, how)
    context = _context(folder)
    if chosen.grpo_steps and context is not None and chosen.grpo_longest >= context:
        raise SettingsError(
            f"answers of {chosen.grpo_longest} tokens leave no room for a question: the model reads {context}",
            where=str(folder),
            kept=KEPT,
            next_command=f"--set grpo_longest={max(2, context // 8)}",
        )
    warnings = [] if settings.compute.mode == "ray-job" else _refuse_too_large(settings, how, folder)
    if chosen.told and not settings.models.told:
        warnings.append(
            "the policy is told in words how to reply, and the models that it starts from and is judged by are not: "
            "set MEDGR2_MODELS__TOLD=true if they were never taught it, or their replies cannot be read"
        )
    family = FAMILIES.get(wanted)
    if family and _config(folder).get("model_type") != family:
        made = _architecture(folder)
        warnings.append(f"the preset {how.preset} was made for {wanted}; on {made} its results are not the paper's")
    return tuple(warnings)


def _refuse_too_large(settings: Settings, how: TrainParameters, start: Path) -> list[str]:
    """All that the loop trains: what does not fit is found out before the first of them is, not after the night."""
    chosen, base, several = how.settings, base_folder(settings), settings.training
    asked = [("the policy", "lora_rank", start, plan) for plan in (lessons_of(chosen, 0), practice_of(chosen, 0))]
    if chosen.generator_steps and settings.models.base == EMBEDDED and settings.generator.engine != "openai":
        asked.append(("the generator", "generator_lora_rank", base, writing_of(chosen, 0)))
    for what, smaller, folder, plan in asked:
        if method := plan and (plan.sft or plan.grpo):
            reference = plan.grpo is not None and plan.grpo.beta > 0 and method.lora is None
            if several.processes > 1:
                refuse_unshareable(method, several.processes, several.sharding, method.rows)
            spread = spread_of(several.processes, several.sharding, method.device)
            refuse_too_little(
                folder, method, method.lora, reference=reference, spread=spread, what=what, smaller=smaller
            )
    if chosen.judge_steps:
        judge = plan_of(how, 0).settings
        refuse_too_little(base, judge, judge.lora, what="the reward", smaller="judge_lora_rank")
    return _graders(settings, how, start, base) if chosen.grpo_steps and chosen.grades == "replies" else []


def _graders(settings: Settings, how: TrainParameters, start: Path, base: Path) -> list[str]:
    """They are there once a reward is promoted: what they need besides is no reason to refuse the first cycle."""
    chosen, device = how.settings, settings.models.device
    count = FOLDS * chosen.judge_members
    practice = practice_of(chosen, 0)
    assert practice is not None  # noqa: S101  it has steps
    assert practice.grpo is not None  # noqa: S101
    beside = least_bytes(start, practice.grpo.lora, reference=chosen.grpo_beta > 0 and practice.grpo.lora is None)
    held = count * held_bytes(base, device)
    needed, there = held + (beside if chosen.device == device else 0), free_bytes(device)
    if there is None or needed <= there:
        return []
    return [
        f"once a reward is promoted, its {count} members grade replies while the policy practises: together they need "
        f"at least {needed / GIB:.1f} GiB, and {there / GIB:.1f} GiB are free ({device}); --set grades=items does "
        "without them"
    ]


def _refuse_without_gpu(settings: Settings, how: TrainParameters) -> None:
    if settings.models.device != "cuda":
        raise _unmet(how, "it trains on a GPU, and MEDGR2_MODELS__DEVICE is cpu")
    if settings.compute.mode == "ray-job":
        return  # the cluster has it, not this machine: it says so itself where it has none
    import torch

    if not torch.cuda.is_available():
        raise _unmet(how, f"it trains on a GPU, and torch {torch.__version__} sees none")


def _unmet(how: TrainParameters, what: str, where: str = "") -> SettingsError:
    wanted = BASES[how.preset]
    base = wanted if wanted not in ("", EMBEDDED) else "a vision-language model"
    return SettingsError(
        f"the preset {how.preset} can not be trained here: {what}",
        where=where,
        kept=KEPT,
        next_command="on a machine with a GPU: set MEDGR2_MODELS__DEVICE=cuda and MEDGR2_MODELS__BASE to a folder with "
        f"{base}, and MEDGR2_MODELS__TOLD=true if it was never taught how to reply; or, to try the recipe on the "
        "embedded base: --set device=cpu --set precision=float32 --set told=false --set grpo_longest=40",
    )


def _architecture(folder: Path) -> str:
    return str((_config(folder).get("architectures") or ["a model without a name"])[0])


def _context(folder: Path) -> int | None:
    """Tokens that a model reads, where its configuration says it in so many words."""
    config = _config(folder)
    told = config.get("text_config", config).get("max_position_embeddings")
    return int(told) if told is not None else None


def _config(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
