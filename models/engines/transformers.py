"""The transformers engine: batches of image prompts in, completions or log-probabilities out.

The contract is determinism: what a request gets does not depend on what shares its batch, on the size or order
of the batch, or on the process. On a CPU the weights run in float64, where the rounding that the shape of a
batch causes is near 1e-15, and sampling is the argmax of logits plus noise that the request's own seed draws.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from medgr2.models.engines.chats import ChatWriter, open_picture
from medgr2.models.engines.decoding import Prompts, Row, by_one_number, grow, gumbel_max, likelihood, read, read_on
from medgr2.models.engines.noise import NoiseStream
from medgr2.models.engines.rounds import in_rounds
from medgr2.models.engines.seam import Completion, Conversation, Held, Request, T
from medgr2.models.engines.stems import cut, in_order, spares, stems_of
from medgr2.schemas.errors import DataError, NotFoundError, UsageError

DTYPES = ("float64", "float32", "bfloat16")
ROWS, MOST_ROWS = 128, 512  # samples side by side; more where a model remembers so little that all fit into ROOM
PROMPTS_OF_ROWS = 4  # of so many rows one may be a prompt of its own
ROOM, LONG = 2**30, 256  # bytes; tokens of a prompt and its reply
FEW, MUCH_LONGER = 8, 1.25  # with so many at least, one that is so much longer waits for the next group


@dataclass(frozen=True, slots=True)
class Reading:
    """A given completion to be judged: how likely is it as the reply to the prompt?"""

    image_path: Path
    text: str
    completion: str


@dataclass(frozen=True, slots=True)
class LogProb:
    total: float
    tokens: int

    @property
    def mean(self) -> float:
        return self.total / self.tokens


@dataclass(frozen=True, slots=True)
class Examined:
    """A request, and perhaps a completion of somebody else's that is judged from the same reading of its prompt."""

    request: Request
    completion: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    completions: list[Completion]
    logprob: LogProb | None


class TransformersEngine:
    """A vision-language model folder made by save_pretrained, read from safetensors and nothing else."""

    repeatable = True

    def __init__(self, folder: Path, *, dtype: str = "float64", device: str = "cpu") -> None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor
        from transformers.utils import logging

        if dtype not in DTYPES:
            raise UsageError(f"cannot compute in {dtype!r}", next_command=f"use one of: {', '.join(DTYPES)}")
        if not any(folder.glob("*.safetensors")):
            raise NotFoundError("no safetensors weights", where=str(folder), next_command="make base-weights")
        logging.disable_progress_bar()
        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        self.processor: Any = AutoProcessor.from_pretrained(folder, **local)
        loaded, told = AutoModelForImageTextToText.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **local,
        )
        _refuse_made_up(told, folder)
        self.model: Any = loaded.to(device)
        self.model.eval().requires_grad_(False)
        if dtype == "float64":
            _norms_in_full_precision(self.model)
        self.device = device
        tokenizer = self.processor.tokenizer
        self._end = {tokenizer.eos_token_id}
        listed = self.model.generation_config.eos_token_id
        self._end |= set(listed if isinstance(listed, list) else [listed]) - {None}
        self._pad = tokenizer.pad_token_id
        self._chats = ChatWriter(self.processor)
        # There the rounding differs from batch to batch in any case, and 150,000 words a token are too many to draw.
        self._choose = gumbel_max if device == "cpu" else by_one_number
        size = int(self.model.get_output_embeddings().weight.shape[0])
        self._words = size if device == "cpu" else 1
        self._rows = _rows(self.model)

    def hold(self, conversations: Iterable[tuple[str, Conversation[T]] | None]) -> Iterator[Held[T]]:
        return in_rounds(
            lambda requests: [done[0] for done in self.complete(requests)], conversations, self._rows // PROMPTS_OF_ROWS
        )

    def complete(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """For each request, one completion per seed. Samples of one prompt share its reading."""
        return [found.completions for found in self.examine([Examined(request) for request in requests])]

    def logprobs(self, readings: Sequence[Reading]) -> list[LogProb]:
        """Log-probability of each completion's tokens; the end mark is not one of them."""
        asked = [Examined(Request(r.image_path, r.text, seeds=()), r.completion) for r in readings]
        return [found.logprob for found in self.examine(asked) if found.logprob is not None]

    def examine(self, asked: Sequence[Examined]) -> list[Found]:
        """Completions of each prompt, and how likely a given one is: from one reading of the prompt."""
        found: dict[int, Found] = {}
        for sightless in (False, True):  # a batch has a picture for every prompt, or for none
            part = [i for i, one in enumerate(asked) if one.request.sightless is sightless]
            for group in _groups([asked[i] for i in part], self._rows):
                whole = [part[i] for i in group]
                found.update(zip(whole, self._examine([asked[i] for i in whole]), strict=True))
        return [found[i] for i in range(len(asked))]

    def _examine(self, asked: Sequence[Examined]) -> list[Found]:
        import torch

        tokenizer = self.processor.tokenizer
        rows = [
            Row(prompt, NoiseStream(seed, self._words), r.temperature, r.max_new_tokens, r.weighed)
            for prompt, r in enumerate(one.request for one in asked)
            for seed in r.seeds
        ]
        replies: list[list[int]] = [
            tokenizer(self._chats.plain(one.completion), add_special_tokens=False)["input_ids"]
            if one.completion is not None
            else [self._pad]
            for one in asked
        ]
        if empty := sum(not ids for ids in replies):
            raise DataError(f"{empty} of {len(asked)} completions hold no token to judge")
        with torch.inference_mode():
            prompts = self._read([one.request for one in asked])
            lengths: list[int] = prompts.mask.sum(-1).tolist()
            judged = any(one.completion is not None for one in asked)
            totals = likelihood(self.model, prompts, replies, self._pad) if judged else [0.0] * len(asked)
            grow(self.model, prompts, rows, self._end, self._choose)
        found = [
            Found([], LogProb(total, len(ids)) if one.completion is not None else None)
            for one, total, ids in zip(asked, totals, replies, strict=True)
        ]
        texts = tokenizer.batch_decode([row.tokens for row in rows], skip_special_tokens=True) if rows else []
        for row, text in zip(rows, texts, strict=True):
            told = Completion(text, row.finished, len(row.tokens), lengths[row.prompt], words=self._weighed(row))
            found[row.prompt].completions.append(told)
        return found

    def _weighed(self, row: Row) -> tuple[tuple[str, float], ...]:
        if not row.weighed:
            return ()
        texts = self.processor.tokenizer.batch_decode([[token] for token in row.tokens], skip_special_tokens=True)
        return tuple(zip(texts, row.chances[: len(row.tokens)], strict=True))

    def _read(self, requests: Sequence[Request]) -> Prompts:
        texts = [self._chats.write(request) for request in requests]
        if requests[0].sightless:
            return read(self.model, self._inputs(texts, None))
        pictures = [request.image_path for request in requests]
        if len(set(pictures)) < len(pictures):
            ids = self.processor.tokenizer(texts, add_special_tokens=False)["input_ids"]
            stems = stems_of(pictures, ids)
            firsts = [stem.prompts[0] for stem in stems]
            if spares(stems, ids):
                whole = self._inputs([texts[i] for i in firsts], [pictures[i] for i in firsts])
                if inputs := cut(whole, [ids[i] for i in firsts], stems, self._pad):
                    return read_on(self.model, read(self.model, inputs), *in_order(stems), self._pad)
        return read(self.model, self._inputs(texts, pictures))

    def _inputs(self, texts: Sequence[str], pictures: Sequence[Path | None] | None) -> dict[str, Any]:
        inputs = self.processor(
            text=list(texts),
            images=[[open_picture(path)] for path in pictures] if pictures is not None else None,
            padding=True,
            padding_side="left",
            add_special_tokens=False,
            return_tensors="pt",
        )
        return dict(inputs.to(self.device))


def load_engine(folder: Path, dtype: str = "float64", device: str = "cpu") -> TransformersEngine:
    """One engine a process and folder; a folder of the artifact store never changes."""
    return _loaded(folder, dtype, device)


@lru_cache(maxsize=2)
def _loaded(folder: Path, dtype: str, device: str) -> TransformersEngine:
    return TransformersEngine(folder, dtype=dtype, device=device)


def _rows(model: Any) -> int:
    """How many samples at most are decoded side by side, by what each token of each of them leaves behind."""
    text = model.config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    left_behind = 2 * text.num_hidden_layers * heads * width * model.dtype.itemsize
    return min(MOST_ROWS, max(ROWS, ROOM // (left_behind * LONG)))


def _groups(asked: Sequence[Examined], most: int) -> Iterator[list[int]]:
    """Of about the same length, so that little is read and nothing is waited for that is padding. What is asked about
    one picture stands side by side, the pictures of most questions first."""
    times = Counter(one.request.image_path for one in asked)

    def order(i: int) -> tuple[int, int, int, str, int]:
        one, picture = asked[i], asked[i].request.image_path
        return (
            one.request.max_new_tokens,
            -times[picture],
            len(one.request.text),
            str(picture),
            len(one.completion or ""),
        )

    def other_kind(first: int, other: int) -> bool:
        shared = [times[asked[i].request.image_path] > 1 for i in (first, other)]
        longer = len(asked[other].request.text) > MUCH_LONGER * len(asked[first].request.text)
        return longer or shared[0] != shared[1]

    group: list[int] = []
    rows = 0
    for index in sorted(range(len(asked)), key=order):
        own = max(1, len(asked[index].request.seeds))
        full = rows + own > most or len(group) == most // PROMPTS_OF_ROWS
        if group and (full or (len(group) >= FEW and other_kind(group[0], index))):
            yield group
            group, rows = [], 0
        group.append(index)
        rows += own
    if group:
        yield group


def _refuse_made_up(told: dict[str, Any], folder: Path) -> None:
    """What is missing or of another shape, transformers draws at random, and only warns."""
    if made_up := {*told["missing_keys"], *(name for name, *_ in told["mismatched_keys"])}:
        raise DataError(
            f"the weights are of another model than the configuration: {len(made_up)} of its weights are missing or "
            "have another shape",
            where=str(folder),
            kept="nothing was asked of it",
            next_command="name a folder that one training wrote, whole",
        )


def _norms_in_full_precision(model: Any) -> None:
    """transformers' RMSNorm rounds to float32 whatever the dtype, which would let 1e-15 grow to 1e-7."""
    import torch

    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child).__name__.endswith("RMSNorm") and hasattr(child, "variance_epsilon"):
                exact = torch.nn.RMSNorm(child.weight.shape, eps=child.variance_epsilon, dtype=torch.float64)
                exact.weight = child.weight
                setattr(module, name, exact)
