"""The budget of tokens of a row: its picture takes as many as it needs, and with the reply it fits the model.

A row that does not is left out and named. Cut to fit, it would lose picture or reply and teach something else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgr2.models.chat_check import open_processor, turns
from medgr2.models.engines.chats import ChatWriter, open_picture
from medgr2.schemas.errors import DataError

UNFIT_SHARE = 0.05
"""Above this share of rows it is not the rows that are wrong, but the model, the pictures or the budget."""
NAMED = 5


@dataclass(frozen=True, slots=True)
class Row:
    """What the model reads, and the reply to learn or the tokens that a reply of its own may have."""

    item: str
    image: Path
    user: str
    reply: str | int


class RowBudget:
    def __init__(self, base: Path, longest: int | None = None) -> None:
        from transformers import AutoConfig

        self._processor = open_processor(base)
        self._plain = ChatWriter(self._processor).plain
        config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
        context = int(config.get_text_config().max_position_embeddings)
        self.limit = min(context, longest or context)
        self._expanded: dict[tuple[int, int], int | str] = {}

    def unfit(self, rows: Sequence[Row]) -> dict[int, str]:
        """The places of the rows that are left out, each with its reason; refused when they are too many."""
        found = dict(self._found(rows))
        if len(found) > UNFIT_SHARE * len(rows):
            first = ", ".join(f"{rows[i].item[:12] or i}: {why}" for i, why in list(found.items())[:NAMED])
            raise DataError(
                f"{len(found)} of {len(rows)} rows do not fit the model or its budget of {self.limit} tokens, more "
                f"than one in {1 / UNFIT_SHARE:.0f}; first: {first}",
                kept="nothing was trained",
                next_command="give rows a larger budget (row_tokens) or replies less room (grpo_longest), or take "
                "smaller pictures",
            )
        return found

    def _found(self, rows: Sequence[Row]) -> Iterator[tuple[int, str]]:
        for place, (row, length) in enumerate(zip(rows, self._lengths(rows), strict=True)):
            needed = self._picture(row)
            if isinstance(needed, str):
                yield place, needed
                continue
            # The text has one token where the picture will be.
            tokens = length - 1 + needed + (row.reply if isinstance(row.reply, int) else 0)
            if tokens > self.limit:
                yield place, f"too long: {tokens} of {self.limit} tokens"

    def _lengths(self, rows: Sequence[Row]) -> list[int]:
        """Tokens of the texts alone."""
        texts = [self._text(row) for row in rows]
        return [
            len(ids) for ids in self._processor.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        ]

    def _text(self, row: Row) -> str:
        """What is learned whole, or what is asked up to where the reply begins."""
        reply = None if isinstance(row.reply, int) else self._plain(row.reply)
        said: str = self._processor.apply_chat_template(
            turns(self._plain(row.user), reply), add_generation_prompt=reply is None, tokenize=False
        )
        return said

    def _picture(self, row: Row) -> int | str:
        """Tokens that a picture of this size becomes: measured once on a whole row, and held to the processor's own
        count."""
        from PIL import Image

        try:
            with Image.open(row.image) as image:
                size = (image.height, image.width)
        except OSError as e:
            return f"the picture cannot be read ({type(e).__name__})"
        if size not in self._expanded:
            try:
                self._expanded[size] = self._measured(row, size)
            except MemoryError:
                raise
            except Exception as e:  # processors refuse odd pictures each in their own way; the next may be whole
                return f"the processor refuses a picture of {size[1]} x {size[0]} ({type(e).__name__})"
        return self._expanded[size]

    def _measured(self, row: Row, size: tuple[int, int]) -> int | str:
        text = self._text(row)
        read: Any = self._processor(text=[text], images=[[open_picture(row.image)]], add_special_tokens=False)
        alone = self._processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        found = len(read["input_ids"][0]) - len(alone) + 1
        declared = getattr(self._processor, "_get_num_multimodal_tokens", None)
        needed = int(declared(image_sizes=[size])["num_image_tokens"][0]) if declared else found
        if found != needed:
            return f"image tokens: {found} in the prompt, {needed} for a picture of {size[1]} x {size[0]}"
        return found
