"""The shipped base: loads through the Auto classes, is small, reads pictures, and its training is deterministic."""

import json
from pathlib import Path

import pytest

from medgr2_phantoms.base import loss_of, pretrain, rate_at, save
from medgr2_phantoms.lessons import fill_album
from medgr2_phantoms.measure import Sitter, answering, generating, prepare
from medgr2_phantoms.tinyvlm import build_model, build_processor, build_tokenizer

torch = pytest.importorskip("torch", reason="the embedded model needs the extra 'models'")

BASE = Path(__file__).parents[2] / "models" / "base"


@pytest.fixture(scope="module")
def sitter():
    return Sitter(BASE)


def test_the_shipped_files_are_small_and_carry_no_code():
    files = {path.name: path.stat().st_size for path in BASE.iterdir()}
    assert sum(files.values()) < 5_000_000
    assert not [name for name in files if name.endswith((".py", ".bin", ".pt", ".pkl"))]
    config = json.loads((BASE / "config.json").read_text())
    assert config["architectures"] == ["Idefics3ForConditionalGeneration"]
    assert "auto_map" not in config


def test_the_shipped_base_has_the_built_shape_and_tokenizer(sitter):
    tokenizer = build_tokenizer(0)
    assert sitter.processor.tokenizer.get_vocab() == tokenizer.get_vocab()
    built = {name: tensor.shape for name, tensor in build_model(tokenizer, 0).state_dict().items()}
    assert {name: tensor.shape for name, tensor in sitter.model.state_dict().items()} == built
    assert sitter.model.lm_head.weight.data_ptr() == sitter.model.get_input_embeddings().weight.data_ptr()


def test_the_base_answers_well_where_it_was_taught_and_worse_on_the_ward(sitter):
    clean, ward = answering(sitter, prepare(300, "clean", 11)), answering(sitter, prepare(300, "ward", 12))
    assert clean["all"] > 0.85
    assert 0.6 < ward["all"] < clean["all"]


def test_the_base_is_at_chance_without_the_picture(sitter):
    assert answering(sitter, prepare(300, "ward", 13), blank=True)["all"] < 0.38


def test_the_base_writes_items_of_mixed_worth(sitter):
    torch.manual_seed(0)
    parsed, valid, _ = generating(sitter, prepare(300, "ward", 14))
    assert parsed["all"] > 0.9
    assert 0.4 < valid["all"] < 0.95


def test_pretraining_twice_gives_the_same_weights():
    tokenizer, weights = build_tokenizer(0), []
    for _ in range(2):
        model = build_model(tokenizer, 0)
        pretrain(model, tokenizer, fill_album(40, "clean", 1), steps=4, seed=2)
        weights.append(model.state_dict())
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    untrained = build_model(tokenizer, 0).state_dict()
    assert any(not torch.equal(tensor, untrained[name]) for name, tensor in weights[0].items())


def test_the_lean_loss_is_the_model_s_own():
    import numpy as np

    from medgr2_phantoms.lessons import make_batch

    tokenizer = build_tokenizer(0)
    model = build_model(tokenizer, 0)
    batch = make_batch(fill_album(4, "clean", 1), np.arange(4), "answering", tokenizer, np.random.default_rng(0))
    total, weight = loss_of(model, batch, torch.ones(len(tokenizer)))
    own = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        pixel_values=batch.pixel_values,
        labels=batch.labels,
    ).loss
    assert (total / weight).item() == pytest.approx(own.item(), rel=1e-4)


def test_the_rate_warms_up_holds_and_falls():
    rates = [rate_at(step, 1000) for step in (0, 299, 700, 999)]
    assert rates[0] < rates[1] == rates[2] > 10 * rates[3]


def test_an_oversized_base_is_refused(tmp_path):
    (tmp_path / "extra.bin").write_bytes(b"0" * 5_000_001)
    tokenizer = build_tokenizer(0)
    with pytest.raises(SystemExit, match="under 5 MB"):
        save(build_model(tokenizer, 0), build_processor(tokenizer), tmp_path)
