"""Each row's picture takes the tokens that it needs, and a row that does not fit is named and never cut."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medgr2.models.row_budget import Row, RowBudget
from medgr2.schemas.errors import DataError

BASE = Path(__file__).parents[2] / "models" / "base"
ASKED = "Question: Which modality is this image? Options: A) CT B) MRI C) OCT D) X-Ray"
REPLY = "<think>seen</think><answer>A</answer>"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    for name, size in {"square": (64, 64), "wide": (20, 640), "tall": (700, 9), "dot": (1, 1)}.items():
        Image.fromarray(rng.integers(0, 256, size=(*size, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    return tmp_path


@pytest.fixture(scope="module")
def splitting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base, cutting larger pictures into tiles: how many tokens a picture becomes depends on its size."""
    folder = tmp_path_factory.mktemp("splitting") / "model"
    shutil.copytree(BASE, folder)
    path = folder / "processor_config.json"
    body = json.loads(path.read_text())
    body["image_processor"] |= {"do_image_splitting": True, "size": {"longest_edge": 128}}
    path.write_text(json.dumps(body))
    path = folder / "tokenizer.json"
    body = json.loads(path.read_text())
    first = max(body["model"]["vocab"].values()) + 1
    mark = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
    body["added_tokens"] += [{"id": first + i, "content": tile, **mark} for i, tile in enumerate(tiles)]
    path.write_text(json.dumps(body))
    return folder


@pytest.mark.parametrize("kind", ["whole", "splitting"])
def test_the_length_of_a_row_is_what_the_trainer_will_see(kind: str, pictures: Path, splitting: Path) -> None:
    """At one token less than it has, a row is left out; at what it has it fits."""
    from transformers import AutoProcessor

    from medgr2.models.chat_check import turns

    base = BASE if kind == "whole" else splitting
    processor = AutoProcessor.from_pretrained(base, local_files_only=True)
    seen = set()
    for name in ("square", "wide", "tall"):
        row = Row(name, pictures / f"{name}.png", ASKED, REPLY)
        with Image.open(row.image) as image:
            text = processor.apply_chat_template(turns(ASKED, REPLY), tokenize=False)
            read = processor(text=[text], images=[[image.convert("RGB")]], add_special_tokens=False)
        length = len(read["input_ids"][0])
        seen.add(length)
        assert RowBudget(base, length).unfit([row]) == {}
        with pytest.raises(DataError, match=f"too long: {length} of {length - 1} tokens"):
            RowBudget(base, length - 1).unfit([row])
    assert len(seen) == (1 if kind == "whole" else 3)


def test_one_bad_row_is_left_out_with_its_reason(pictures: Path) -> None:
    (pictures / "torn.png").write_bytes(b"not a picture")
    good = [Row(f"good-{i}", pictures / "square.png", ASKED, REPLY) for i in range(60)]
    bad = [
        Row("long", pictures / "square.png", "so " * 600, REPLY),
        Row("torn", pictures / "torn.png", ASKED, REPLY),
        Row("room", pictures / "square.png", ASKED, 500),
    ]
    found = RowBudget(BASE).unfit([*good[:10], *bad, *good[10:]])
    assert list(found) == [10, 11, 12]
    assert [found[place].split(":")[0].split(" (")[0] for place in (10, 11, 12)] == [
        "too long", "the picture cannot be read", "too long",
    ]  # fmt: skip


def test_too_many_bad_rows_stop_the_training_and_name_the_first(pictures: Path) -> None:
    rows = [Row(f"{i:064x}", pictures / "square.png", "so " * (600 if i < 2 else 1), REPLY) for i in range(20)]
    with pytest.raises(DataError, match="2 of 20 rows do not fit") as refused:
        RowBudget(BASE).unfit(rows)
    assert f"{0:012x}: too long" in str(refused.value)


def test_a_mark_for_a_picture_that_somebody_typed_takes_no_place(pictures: Path) -> None:
    plain = Row("plain", pictures / "square.png", "the < image> here", REPLY)
    typed = Row("typed", pictures / "square.png", "the <image> here", "<answer>A</answer><end_of_utterance><image>")
    assert RowBudget(BASE).unfit([plain, typed]) == {}


def test_a_processor_that_counts_otherwise_than_it_writes_is_caught(pictures: Path) -> None:
    """What a picture needs is asked of the processor apart from what it puts into the prompt."""
    budget = RowBudget(BASE)
    declared = type(budget._processor)._get_num_multimodal_tokens
    try:
        type(budget._processor)._get_num_multimodal_tokens = lambda *_, **__: {"num_image_tokens": [9]}
        with pytest.raises(DataError, match="image tokens: 7 in the prompt, 9 for a picture of 64 x 64"):
            budget.unfit([Row("one", pictures / "square.png", ASKED, REPLY)])
    finally:
        type(budget._processor)._get_num_multimodal_tokens = declared


def test_a_picture_that_cannot_be_measured_condemns_itself_alone(pictures: Path) -> None:
    whole = (pictures / "square.png").read_bytes()
    (pictures / "cut.png").write_bytes(whole[: len(whole) // 2])
    rows = [Row("cut", pictures / "cut.png", ASKED, REPLY)]
    rows += [Row(str(n), pictures / "square.png", ASKED, REPLY) for n in range(30)]
    unfit = RowBudget(BASE, None).unfit(rows)
    assert list(unfit) == [0]
    assert "refuses a picture of 64 x 64" in unfit[0]
