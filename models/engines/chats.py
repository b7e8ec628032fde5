"""A request as a vision-language model of this process reads it: messages for its chat template, and a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medgr2.models.engines.seam import Request
from medgr2.schemas.errors import DataError


class ChatWriter:
    """Prompts in the words of one model's chat template."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        marks = {*processor.tokenizer.all_special_tokens, str(getattr(processor, "image_token", ""))}
        self._marks = sorted(marks - {""})

    def write(self, request: Request) -> str:
        text: str = self._processor.apply_chat_template(list(self._messages(request)), add_generation_prompt=True)
        return text

    def plain(self, text: str) -> str:
        """Control tokens that somebody typed into a report or a question stay text."""
        for mark in self._marks:
            if mark in text:
                text = text.replace(mark, f"{mark[0]} {mark[1:]}")
        return text

    def _messages(self, request: Request) -> Iterator[dict[str, Any]]:
        picture: list[dict[str, Any]] = [] if request.sightless else [{"type": "image"}]
        for exchange in request.earlier:
            yield {"role": "user", "content": [*picture, {"type": "text", "text": self.plain(exchange.asked)}]}
            yield {"role": "assistant", "content": [{"type": "text", "text": self.plain(exchange.replied)}]}
            picture = []
        yield {"role": "user", "content": [*picture, {"type": "text", "text": self.plain(request.text)}]}


def open_picture(path: Path | None) -> Any:
    from PIL import Image, UnidentifiedImageError

    if path is None:
        raise DataError("a vision-language model in this process is asked about a picture, and there is none")
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError, ValueError) as problem:
        raise DataError(f"cannot read an image: {type(problem).__name__}", where=str(path)) from None
