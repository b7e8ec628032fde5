"""A model that cannot be trained is refused with what it lacks, before a step is taken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medgr2.models.chat_check import end_tokens, open_processor
from medgr2.schemas.errors import DataError

BASE = Path(__file__).parents[2] / "models" / "base"


def edited(name: str, change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / name
        body = json.loads(path.read_text())
        change(body)
        path.write_text(json.dumps(body))

    return edit


def without(*tokens: str) -> Callable[[Path], None]:
    """The tokenizer as one that never had these special tokens."""

    def edit(folder: Path) -> None:
        def tokenizer(body: dict[str, Any]) -> None:
            body["added_tokens"] = [t for t in body["added_tokens"] if t["content"] not in tokens]
            for token in tokens:
                body["model"]["vocab"].pop(token, None)

        def config(body: dict[str, Any]) -> None:
            for name in [name for name, value in body.items() if value in tokens]:
                del body[name]
            for name in ("additional_special_tokens", "extra_special_tokens"):
                if isinstance(body.get(name), list):
                    body[name] = [token for token in body[name] if token not in tokens]

        edited("tokenizer.json", tokenizer)(folder)
        edited("tokenizer_config.json", config)(folder)

    return edit


def template(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "chat_template.jinja").write_text(text) and None  # type: ignore[func-returns-value]


TURNS = (BASE / "chat_template.jinja").read_text()

BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "no end token": (edited("tokenizer_config.json", lambda body: body.pop("eos_token")), "no end token"),
    "no padding": (edited("tokenizer_config.json", lambda body: body.pop("pad_token")), "pad"),
    "another image token": (edited("config.json", lambda body: body.update(image_token_id=5)), "name another token"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "processor cannot be opened"),
    "no chat template": (lambda folder: (folder / "chat_template.jinja").unlink(), "no chat template"),
    "no picture in the template": (template(TURNS.replace("<image>", "")), "shows 0 pictures"),
    "two pictures in the template": (template(TURNS.replace("<image>", "<image><image>")), "shows 2 pictures"),
    "no end in the template": (template(TURNS.replace("<end_of_utterance>", "")), "without an end token"),
    "a template that fails": (template("{{ raise_exception('no pictures here') }}"), "template fails"),
    "a reply that is dropped": (
        template(TURNS.replace("{% for message in messages %}", "{% for message in messages[:1] %}")),
        "changes the question",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_missing_is_named(kind: str, tmp_path: Path) -> None:
    breaks, says = BROKEN[kind]
    folder = tmp_path / "model"
    shutil.copytree(BASE, folder)
    breaks(folder)
    with pytest.raises(DataError, match=says) as refused:
        open_processor(folder)
    assert refused.value.kept == "nothing was trained"
    assert "MEDGR2_MODELS__BASE" in refused.value.next_command


def test_a_tokenizer_that_never_had_the_token_of_a_picture_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(BASE, folder)
    without("<image>")(folder)
    with pytest.raises(DataError, match=r"picture|processor cannot be opened"):
        open_processor(folder)


def test_the_shipped_base_has_all(tmp_path: Path) -> None:
    processor = open_processor(BASE)
    assert end_tokens(processor, BASE) == {1}
    folder = tmp_path / "model"
    shutil.copytree(BASE, folder)
    edited("generation_config.json", lambda body: body.update(eos_token_id=[1, 7]))(folder)
    assert end_tokens(processor, folder) == {1, 7}


def test_a_training_on_it_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    from PIL import Image

    from medgr2.models.grpo import GrpoSettings, Prompt, train_grpo
    from medgr2.models.sft import Example, SftSettings, train_sft

    folder = tmp_path / "model"
    shutil.copytree(BASE, folder)
    template(TURNS.replace("<end_of_utterance>", ""))(folder)
    picture = tmp_path / "a.png"
    Image.new("RGB", (32, 32)).save(picture)
    with pytest.raises(DataError, match="never end"):
        train_sft(folder, [Example(picture, "Q", "A")], tmp_path / "out", SftSettings(steps=1, batch=1))
    with pytest.raises(DataError, match="never end"):
        train_grpo(folder, [Prompt(picture, "Q", "A", 4, 0.9)], tmp_path / "out", GrpoSettings(steps=1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "model"]
