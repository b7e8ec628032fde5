"""The shipped base: loads through the Auto classes, is small, reads pictures, and its training is deterministic."""

import json
from pathlib import Path

import pytest

from medgr2_phantoms.base import STEADY, Stage, loss_of, pretrain, rate_at, save
from medgr2_phantoms.lessons import fill_album
from medgr2_phantoms.measure import Sitter, answering, generating, prepare
from medgr2_phantoms.tinyvlm import build_model, build_processor

torch = pytest.importorskip("torch", reason="the embedded model needs the extra 'models'")

BASE = Path(__file__).parents[2] / "models" / "base"


@pytest.fixture(scope="module")
def sitter():
    return Sitter(BASE)


@pytest.fixture(scope="module")
def sheets():
    return prepare(300, "clean", 11), prepare(300, "ward", 12)


def test_the_shipped_files_are_small_and_carry_no_code():
    files = {path.name: path.stat().st_size for path in BASE.iterdir()}
    assert sum(files.values()) < 5_000_000
    assert not [name for name in files if name.endswith((".py", ".bin", ".pt", ".pkl"))]
    config = json.loads((BASE / "config.json").read_text())
    assert config["architectures"] == ["Idefics3ForConditionalGeneration"]
    assert "auto_map" not in config


def test_the_shipped_base_has_the_built_shape_and_tokenizer(sitter, tokenizer):
    assert sitter.processor.tokenizer.get_vocab() == tokenizer.get_vocab()
    built = {name: tensor.shape for name, tensor in build_model(tokenizer, 0).state_dict().items()}
    assert {name: tensor.shape for name, tensor in sitter.model.state_dict().items()} == built
    assert sitter.model.lm_head.weight.data_ptr() == sitter.model.get_input_embeddings().weight.data_ptr()


def test_the_base_answers_well_where_it_was_taught_and_worse_on_the_ward(sitter, sheets):
    clean, ward = (answering(sitter, sheet) for sheet in sheets)
    assert clean["all"] > 0.85
    assert 0.6 < ward["all"] < clean["all"]


def test_the_base_is_at_chance_without_the_picture(sitter, sheets):
    assert answering(sitter, sheets[1], blank=True)["all"] < 0.38


def test_the_base_writes_items_of_mixed_worth(sitter, sheets):
    torch.manual_seed(0)
    parsed, valid, _ = generating(sitter, sheets[1])
    assert parsed["all"] > 0.9
    assert 0.4 < valid["all"] < 0.95


SHORT = (
    Stage(2, {"captioning": 4}),
    Stage(2, {"answering": 4, "generating": 4}),
    Stage(2, {"answering": 4, "generating": 4}, style="final"),
)


def test_pretraining_twice_gives_the_same_weights(tokenizer):
    weights, album = [], fill_album(40, "clean", 1)
    for _ in range(2):
        model = build_model(tokenizer, 0)
        pretrain(model, tokenizer, album, SHORT, seed=2)
        weights.append(model.state_dict())
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    untrained = build_model(tokenizer, 0).state_dict()
    assert any(not torch.equal(tensor, untrained[name]) for name, tensor in weights[0].items())


@pytest.mark.parametrize(("until", "steps"), [(0.0, 300), (1e9, STEADY)])
def test_a_stage_ends_when_answering_is_learnt_or_its_steps_are_spent(tokenizer, capsys, monkeypatch, until, steps):
    model = build_model(tokenizer, 0)
    monkeypatch.setattr("medgr2_phantoms.base.loss_of", _no_loss)
    curriculum = (Stage(300, {"answering": 1}, until=until), Stage(1, {"answering": 1}))
    pretrain(model, tokenizer, fill_album(4, "clean", 1), curriculum, seed=2)
    assert f"stage 2, step {steps + 1} " in capsys.readouterr().out


def _no_loss(model, batch, weights):
    return model.lm_head.weight[0, 0] * 0.0 + 1.0, weights.sum()


def test_the_lean_loss_is_the_model_s_own(tokenizer):
    import numpy as np

    from medgr2_phantoms.lessons import make_batch

    model, album = build_model(tokenizer, 0), fill_album(4, "clean", 1)
    batch = make_batch(album, np.arange(4), "answering", "final", tokenizer, np.random.default_rng(0))
    total, weight = loss_of(model, batch, torch.ones(len(tokenizer)))
    own = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        pixel_values=batch.pixel_values,
        labels=batch.labels,
    ).loss
    assert (total / weight).item() == pytest.approx(own.item(), rel=1e-4)


def test_the_rate_warms_up_holds_and_falls_to_nothing():
    rates = [rate_at(0, 0.0), rate_at(299, 0.0), rate_at(5000, 0.0), rate_at(6000, 0.5), rate_at(7000, 1.0)]
    assert rates[0] < rates[1] == rates[2] == 2 * rates[3]
    assert rates[4] == 0.0


def test_an_oversized_base_is_refused(tokenizer, tmp_path):
    (tmp_path / "extra.bin").write_bytes(b"0" * 5_000_001)
    with pytest.raises(SystemExit, match="under 5 MB"):
        save(build_model(tokenizer, 0), build_processor(tokenizer), tmp_path)
