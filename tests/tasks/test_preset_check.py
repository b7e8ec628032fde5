"""What a preset needs is looked at before anything is spent."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from medgr2.infra.settings import ComputeSettings, ModelSettings, Settings, StorageSettings
from medgr2.models import memory_need
from medgr2.models.adapters import LoraSettings
from medgr2.schemas.errors import SettingsError
from medgr2.schemas.parameters import TrainParameters
from medgr2.tasks.preset_check import refuse_unmet

BASE = Path(__file__).parents[2] / "models" / "base"


def settings(root: Path, mode: Any = "inline", **models: Any) -> Settings:
    return Settings(
        storage=StorageSettings(root=str(root)), compute=ComputeSettings(mode=mode), models=ModelSettings(**models)
    )


def own(folder: Path, **config: Any) -> str:
    """The shipped model as somebody's own, saying other things of itself."""
    shutil.copytree(BASE, folder)
    body = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(body | config))
    return str(folder)


def test_the_embedded_recipe_needs_nothing(tmp_path: Path) -> None:
    assert refuse_unmet(settings(tmp_path), TrainParameters()) == ()


@pytest.mark.parametrize("preset", ["paper", "med-r1", "default"])
def test_a_recipe_for_a_gpu_is_not_begun_on_the_embedded_base(tmp_path: Path, preset: Any) -> None:
    with pytest.raises(SettingsError, match=f"preset {preset} can not be trained here: the base is the embedded") as no:
        refuse_unmet(settings(tmp_path), TrainParameters(preset=preset))
    assert "nothing was started" in no.value.kept
    assert "MEDGR2_MODELS__BASE" in no.value.next_command
    tried = TrainParameters(preset=preset, device="cpu", precision="float32", grpo_longest=40)
    warned = refuse_unmet(settings(tmp_path), tried)
    assert ["MEDGR2_MODELS__TOLD=true" in line for line in warned] == [True] + [False] * (preset != "default")
    assert all("not the paper's" in line for line in warned[1:])
    assert len(refuse_unmet(settings(tmp_path, told=True), tried)) == len(warned) - 1


def test_a_base_that_is_not_there_is_told_and_never_fetched(tmp_path: Path) -> None:
    here = settings(tmp_path, base="Qwen/Qwen2.5-VL-7B-Instruct")
    with pytest.raises(SettingsError, match="there is no such folder"):
        refuse_unmet(here, TrainParameters(preset="paper"))
    half = Path(own(tmp_path / "half"))
    (half / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}})
    )
    with pytest.raises(SettingsError, match="1 of its 2 files of weights are missing"):
        refuse_unmet(settings(tmp_path, base=str(half)), TrainParameters())


def test_a_gpu_has_to_be_asked_for_and_there(tmp_path: Path) -> None:
    base = own(tmp_path / "own")
    with pytest.raises(SettingsError, match="MEDGR2_MODELS__DEVICE is cpu"):
        refuse_unmet(settings(tmp_path, base=base), TrainParameters(preset="default"))
    if importlib.import_module("torch").cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(SettingsError, match="sees none"):
        refuse_unmet(settings(tmp_path, base=base, device="cuda"), TrainParameters(preset="default"))
    # A cluster's GPUs are not this machine's.
    elsewhere = settings(tmp_path, "ray-job", base=base, device="cuda", told=True)
    assert refuse_unmet(elsewhere, TrainParameters(preset="default", grpo_longest=40)) == ()


def test_the_base_that_a_preset_was_made_for_is_not_warned_of(tmp_path: Path) -> None:
    base = own(tmp_path / "own", architectures=["Qwen2_5_VLForConditionalGeneration"], model_type="qwen2_5_vl")
    for preset, told in (("paper", 0), ("med-r1", 1)):
        how = TrainParameters(preset=preset, device="cpu", grpo_longest=40)  # type: ignore[arg-type]
        assert len(refuse_unmet(settings(tmp_path, base=base, told=True), how)) == told


def test_answers_as_long_as_all_that_can_be_read_leave_no_room(tmp_path: Path) -> None:
    for longest in (512, 600):
        with pytest.raises(SettingsError, match=f"{longest} tokens leave no room for a question: the model reads 512"):
            refuse_unmet(settings(tmp_path), TrainParameters(grpo_longest=longest))
    refuse_unmet(settings(tmp_path), TrainParameters(grpo_longest=512, grpo_steps=0))


def large(folder: Path, **config: Any) -> str:
    """Says of itself that it has seven billion weights; nothing is there but what says so."""
    base = Path(own(folder, **config))
    shapes: dict[str, Any] = {f"layers.{i}.weight": (4096, 16384) for i in range(104)}
    header = json.dumps({n: {"dtype": "BF16", "shape": s, "data_offsets": [0, 0]} for n, s in shapes.items()}).encode()
    (base / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return str(base)


@pytest.mark.parametrize(
    ("room", "changes", "short"),
    [
        (10, {}, "the policy needs at least 2"),
        (60, {"judge_lora_rank": 0}, "the reward needs at least 104"),
        (60, {"judge_lora_rank": 0, "judge_steps": 0}, ""),
        (60, {}, ""),
    ],
)
def test_all_that_a_cycle_trains_has_to_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, changes: dict[str, Any], short: str
) -> None:
    monkeypatch.setattr(memory_need, "available", lambda: room * memory_need.GIB)
    here = settings(tmp_path, base=large(tmp_path / "large"), told=True)
    tried = {"preset": "default", "device": "cpu", "precision": "float32", "grpo_longest": 40}
    how = TrainParameters.model_validate(tried | changes)
    if not short:
        assert refuse_unmet(here, how) == ()
        return
    with pytest.raises(SettingsError, match=short) as refused:
        refuse_unmet(here, how)
    assert ("judge_lora_rank" in refused.value.next_command) == ("reward" in short)


def test_the_generator_has_to_fit_where_it_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = memory_need.least_bytes(BASE, LoraSettings(rank=1))
    monkeypatch.setattr(memory_need, "available", lambda: some)
    how = TrainParameters(lora_rank=1, generator_lora_rank=0, judge_steps=0)
    with pytest.raises(SettingsError, match="too little memory: the generator needs"):
        refuse_unmet(settings(tmp_path), how)
    assert refuse_unmet(settings(tmp_path), how.model_copy(update={"generator_steps": 0})) == ()


def test_who_grades_replies_is_told_of_where_it_will_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_need, "available", lambda: 120 * memory_need.GIB)
    here = settings(tmp_path, base=large(tmp_path / "large", model_type="qwen2_5_vl"), told=True)
    tried = {"preset": "paper", "device": "cpu", "precision": "float32", "grpo_longest": 40, "lora_rank": 8}
    (warned,) = refuse_unmet(here, TrainParameters.model_validate(tried))
    assert "its 4 members grade replies" in warned
    assert "--set grades=items" in warned
    assert refuse_unmet(here, TrainParameters.model_validate(tried | {"grades": "items"})) == ()


def test_too_little_memory_is_found_out_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_need, "available", lambda: 1000)
    with pytest.raises(SettingsError, match="too little memory"):
        refuse_unmet(settings(tmp_path), TrainParameters())
