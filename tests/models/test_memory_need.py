from __future__ import annotations

import json
from pathlib import Path

import pytest

from medgr2.models import memory_need
from medgr2.models.adapters import LoraSettings
from medgr2.models.memory_need import GIB, least_bytes, refuse_too_little, shapes_of
from medgr2.models.sft import SftSettings
from medgr2.schemas.errors import DataError, SettingsError

BASE = Path(__file__).parents[2] / "models" / "base"


def weights_of(folder: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    """Headers alone: what a file of that size would say of itself."""
    folder.mkdir()
    header = json.dumps(
        {"__metadata__": {}, **{n: {"dtype": "BF16", "shape": s, "data_offsets": [0, 0]} for n, s in shapes.items()}}
    ).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


def test_all_numbers_of_the_shipped_base_are_counted() -> None:
    from safetensors.numpy import load_file

    held = load_file(BASE / "model.safetensors")
    assert dict(shapes_of(BASE)) == {name: tensor.shape for name, tensor in held.items()}
    count = sum(tensor.size for tensor in held.values())
    assert least_bytes(BASE) == 16 * count
    assert least_bytes(BASE, reference=True) == 20 * count
    assert 4 * count < least_bytes(BASE, LoraSettings(rank=1)) < least_bytes(BASE, LoraSettings(rank=8)) < 16 * count


def test_seven_billion_weights_do_not_fit_a_laptop_and_their_adapters_need_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = {f"layers.{i}.weight": (4096, 16384) for i in range(104)}
    base = weights_of(tmp_path / "model", layers)
    assert 100 < least_bytes(base) / GIB < 110
    assert 26 < least_bytes(base, LoraSettings(rank=16)) / GIB < 28
    monkeypatch.setattr(memory_need, "available", lambda: 32 * GIB)
    with pytest.raises(SettingsError, match=r"at least 104\.0 GiB .* 32\.0 GiB are free \(cpu\)") as refused:
        refuse_too_little(base, SftSettings())
    assert "lora_rank" in refused.value.next_command
    refuse_too_little(base, SftSettings(), LoraSettings(rank=16))
    monkeypatch.setattr(memory_need, "available", lambda: None)
    refuse_too_little(base, SftSettings())


def test_a_training_is_refused_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medgr2.models.grpo import GrpoSettings, train_grpo
    from medgr2.models.sft import train_sft

    monkeypatch.setattr(memory_need, "available", lambda: 1000)
    with pytest.raises(SettingsError, match="too little memory"):
        train_sft(BASE, [], tmp_path / "out", SftSettings())
    with pytest.raises(SettingsError, match="too little memory"):
        train_grpo(BASE, [], tmp_path / "out", GrpoSettings())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damaged", [b"", b"\0" * 8, b"\xff" * 100, (5).to_bytes(8, "little") + b"not{}"])
def test_damaged_weights_are_told_as_such(tmp_path: Path, damaged: bytes) -> None:
    with pytest.raises(DataError, match="no safetensors"):
        least_bytes(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(damaged)
    with pytest.raises(DataError, match="damaged"):
        least_bytes(tmp_path)
