"""What a base model must be able to say and read before anything is trained on it: its picture, its turns, its end."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medgr2.schemas.errors import DataError

ASKED, REPLIED = "Which letter?", "The letter is A."


def open_processor(base: Path) -> Any:
    """The processor of a model folder, refused when a training with it would teach nothing and not say so."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    except Exception as e:
        raise _unfit(base, [f"its processor cannot be opened ({type(e).__name__})"]) from e
    if missing := list(_missing(processor, base)):
        raise _unfit(base, missing)
    return processor


def end_tokens(processor: Any, base: Path) -> set[int]:
    """Any of them ends a reply."""
    listed = _json(base / "generation_config.json").get("eos_token_id")
    return {processor.tokenizer.eos_token_id, *(listed if isinstance(listed, list) else [listed])} - {None}


def turns(user: str, reply: str | None = None) -> list[dict[str, Any]]:
    """A question about one picture, and what is said to it."""
    asked = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": user}]}
    said = {"role": "assistant", "content": [{"type": "text", "text": reply}]}
    return [asked] if reply is None else [asked, said]


def _missing(processor: Any, base: Path) -> Iterator[str]:
    tokenizer = getattr(processor, "tokenizer", None)
    if tokenizer is None or getattr(processor, "image_processor", None) is None:
        yield "it reads no pictures"
        return
    if tokenizer.eos_token_id is None:
        yield "its tokenizer has no end token: a reply would never end"
    if tokenizer.pad_token_id is None:
        yield "its tokenizer has no token to pad with"
    image = str(getattr(processor, "image_token", "") or "")
    if not image or _id(tokenizer, image) is None:
        yield "its tokenizer has no token for a picture"
    elif _id(tokenizer, image) != _configured(base, "image_token_id", "image_token_index"):
        yield "its tokenizer and its configuration name another token for a picture"
    elif getattr(processor, "chat_template", None) is None:
        yield "it has no chat template"
    else:
        yield from _unsaid(processor, base, image)


def _unsaid(processor: Any, base: Path, image: str) -> Iterator[str]:
    try:
        prompt = processor.apply_chat_template(turns(ASKED), add_generation_prompt=True, tokenize=False)
        whole = processor.apply_chat_template(turns(ASKED, REPLIED), tokenize=False)
    except Exception as e:
        yield f"its chat template fails ({type(e).__name__})"
        return
    if prompt.count(image) != 1:
        yield f"its chat template shows {prompt.count(image)} pictures where there is one"
    if not whole.startswith(prompt) or REPLIED not in whole[len(prompt) :]:
        yield "its chat template changes the question once there is a reply"
        return
    after = whole[whole.rindex(REPLIED) + len(REPLIED) :]
    if not end_tokens(processor, base) & set(processor.tokenizer(after, add_special_tokens=False)["input_ids"]):
        yield "its chat template closes a reply without an end token: a reply would never end"


def _id(tokenizer: Any, token: str) -> int | None:
    found = tokenizer.convert_tokens_to_ids(token)
    return None if found is None or found == tokenizer.unk_token_id else int(found)


def _configured(base: Path, *names: str) -> int | None:
    config = _json(base / "config.json")
    return next((int(config[name]) for name in names if config.get(name) is not None), None)


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _unfit(base: Path, missing: list[str]) -> DataError:
    return DataError(
        f"the model can not be trained: {'; '.join(missing)}",
        where=str(base),
        kept="nothing was trained",
        next_command="set MEDGR2_MODELS__BASE to a whole folder, tokenizer and chat template included, of a model that "
        "was made to chat about pictures",
    )
