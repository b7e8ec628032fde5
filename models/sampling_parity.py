"""Whether a server that samples for GRPO has the weights and reads the prompts that are trained on.

GRPO compares what a reply's chance was when it was sampled with what it is now. A server with other weights, another
chat template or other pictures tells other chances; nothing fails then, and what is learned is not what was meant. So
before it is trusted some replies are drawn from it, and what it says of each token is held against the model that is
trained; and the trainer's own figures are looked at after every step.
"""

from __future__ import annotations

import base64
import json
import math
import mimetypes
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from medgr2.models.engines.chats import ChatWriter, open_picture
from medgr2.models.engines.http_safety import is_loopback
from medgr2.models.engines.seam import Request
from medgr2.models.watch import waiting_for
from medgr2.schemas.errors import NightStoppedError, SettingsError

SECONDS = 120.0
DRAWN = 8
"""Prompts that are asked before the first step."""
FAR = 0.2
UNSEEN = 3
"""Steps that may go by without the trainer's own figure."""
FIGURE = "sampling/sampling_logp_difference/mean"
URL = "MEDGR2_TRAINING__SAMPLER_URL"


class Tolerance(BaseModel):
    """How far a server may be off, in nats a token."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float = Field(gt=0)
    far_share: float = Field(gt=0, le=1)


TOLERANCES: dict[Literal["float32", "bfloat16"], Tolerance] = {
    # A few steps of training are further away than this.
    "float32": Tolerance(mean=1e-3, far_share=0.01),
    # Three digits: two programs that round so differ by as much as a few steps. Not measured on a GPU.
    "bfloat16": Tolerance(mean=0.02, far_share=0.02),
}


@dataclass(frozen=True, slots=True)
class Drawn:
    """A reply, token by token, and how likely the server says that each was."""

    request: Request
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    chances: tuple[float, ...]


class Parity(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    replies: int
    tokens: int
    mean: float
    worst: float
    far_share: float
    """Of tokens that are off by more than FAR."""
    other_prompts: int
    """Prompts that the server spells in other tokens."""

    def line(self) -> str:
        return (
            f"over {self.tokens} tokens of {self.replies} replies the log-probabilities differ by {self.mean:.2g} on "
            f"average and {self.worst:.2g} at most; {self.far_share:.1%} of them by more than {FAR}; "
            f"{self.other_prompts} prompts are spelt otherwise"
        )

    def within(self, tolerance: Tolerance) -> bool:
        figures = (self.mean, self.worst, self.far_share)
        true = all(map(math.isfinite, figures)) and self.other_prompts == 0
        return true and self.mean <= tolerance.mean and self.far_share <= tolerance.far_share


def refuse_untrue_server(
    policy: Path, asked: Sequence[tuple[Path, str]], url: str, longest: int, tolerance: Tolerance
) -> Parity:
    """Of the pictures and questions given, with the policy that training begins from."""
    drawn = draw(asked[:DRAWN], url, longest)
    found = compare(policy, drawn)
    if not found.within(tolerance):
        raise NightStoppedError(
            f"the server that would sample for GRPO is not the model that is trained: {found.line()}; allowed are "
            f"{tolerance.mean:g} on average and {tolerance.far_share:.1%} beyond {FAR}",
            where=url,
            kept="the model that the practice began from; no step was taken",
            next_command="start vLLM with the folder of this very model, its own chat template, dtype as in training "
            "and --logprobs-mode processed_logprobs; or train with the sampler transformers",
        )
    return found


def draw(asked: Sequence[tuple[Path, str]], url: str, longest: int) -> list[Drawn]:
    host = urlsplit(url).hostname or ""
    if not is_loopback(host):
        raise SettingsError(
            f"pictures and questions would be sent to {host or 'nowhere'}, and a sampler is a server on this machine",
            where=URL,
            kept="everything: nothing was sent",
            next_command=f"{URL}=http://127.0.0.1:8000, through a tunnel where vLLM is on another machine",
        )
    with waiting_for(f"the server that samples, {url}"):
        model = str(_call(f"{url}/v1/models")["data"][0]["id"])
        return [
            _drawn(Request(path, text, (seed,), 1.0, longest), model, url) for seed, (path, text) in enumerate(asked)
        ]


def compare(policy: Path, drawn: Sequence[Drawn]) -> Parity:
    """Each reply read by the policy in float32, one by one, as its trainer reads them."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(policy, local_files_only=True, trust_remote_code=False)
    model = AutoModelForImageTextToText.from_pretrained(
        policy, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype="float32"
    ).eval()
    chats, off, other = ChatWriter(processor), [], 0
    for one in drawn:
        inputs = dict(
            processor(
                text=[chats.write(one.request)],
                images=[[open_picture(one.request.image_path)]],
                add_special_tokens=False,
                return_tensors="pt",
            )
        )
        prompt = inputs["input_ids"]
        # A server tells where pictures stand by one token each or by as many as they take: text is what is compared.
        marks = {processor.tokenizer.convert_tokens_to_ids(str(processor.image_token))}
        other += _text(prompt[0].tolist(), marks) != _text(one.prompt, marks)
        said = torch.tensor([one.tokens])
        inputs["input_ids"] = torch.cat([prompt, said], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        with torch.inference_mode():
            logits = model(**inputs, use_cache=False).logits[0, prompt.shape[1] - 1 : -1]
        own = torch.log_softmax(logits.float(), -1).gather(1, said[0, :, None])[:, 0]
        off.append(np.abs(own.numpy() - np.asarray(one.chances)))
    apart = np.concatenate(off) if off else np.asarray([np.nan])
    return Parity(
        replies=len(drawn),
        tokens=sum(len(one.tokens) for one in drawn),
        mean=float(apart.mean()),
        worst=float(apart.max()),
        far_share=float((~(apart <= FAR)).mean()),
        other_prompts=other,
    )


def parity_watch(tolerance: Tolerance) -> Any:
    """For a trainer whose replies a server samples: it ends when they drift apart, before such a model is saved, and
    when nobody can tell whether they do."""
    from transformers import TrainerCallback

    class ParityWatch(TrainerCallback):
        unseen = 0

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
            if "loss" not in (logs or {}):  # the sum of the whole training, which is of no step
                return
            apart = logs.get(FIGURE)
            self.unseen = 0 if apart is not None else self.unseen + 1
            if self.unseen == UNSEEN:
                raise NightStoppedError(
                    f"for {UNSEEN} steps the trainer has not told how far the server that samples and the model that "
                    f"is trained are apart: {FIGURE} is missing from what it logs",
                    where=f"step {state.global_step}",
                    kept="the checkpoints before it",
                    next_command="train with the release of TRL that constraints.txt names and its importance sampling "
                    "correction on, or with the sampler transformers",
                )
            if apart is not None and not apart <= tolerance.mean:
                raise NightStoppedError(
                    f"after step {state.global_step} the server that samples and the model that is trained differ by "
                    f"{apart:.2g} nats a token on average; allowed are {tolerance.mean:g}",
                    kept="the checkpoints before it",
                    next_command="look whether it takes the new weights, or train with the sampler transformers",
                )

    return ParityWatch()


def _text(ids: Sequence[int], marks: set[int]) -> list[int]:
    return [token for token in ids if token not in marks]


def _drawn(request: Request, model: str, url: str) -> Drawn:
    assert request.image_path is not None  # noqa: S101  as made above
    kind = mimetypes.guess_type(request.image_path.name)[0] or "image/png"
    picture = f"data:{kind};base64,{base64.b64encode(request.image_path.read_bytes()).decode()}"
    content = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": request.text}]
    body = {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": request.max_new_tokens,
        "temperature": request.temperature,
        "seed": request.seeds[0],
        "logprobs": True,
        "return_token_ids": True,
    }
    reply = _call(f"{url}/v1/chat/completions", body)
    try:
        (choice,) = reply["choices"]
        tokens = tuple(int(token) for token in choice["token_ids"])
        chances = tuple(float(one["logprob"]) for one in choice["logprobs"]["content"])
        prompt = tuple(int(token) for token in reply["prompt_token_ids"])
    except (KeyError, TypeError, ValueError) as e:
        raise _no_server(url, f"it tells no tokens with their chances ({type(e).__name__})") from None
    if not tokens or len(tokens) != len(chances):
        raise _no_server(url, f"it tells {len(chances)} chances of {len(tokens)} tokens")
    return Drawn(request, prompt, tokens, chances)


def _call(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310  loopback, checked
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=SECONDS) as answer:
            return dict(json.loads(answer.read()))
    except urllib.error.HTTPError as e:
        raise _no_server(url, f"it answered {e.code}") from None
    except OSError as e:
        raise _no_server(url, type(getattr(e, "reason", e)).__name__) from None
    except (ValueError, TypeError):
        raise _no_server(url, "its answer can not be read") from None


def _no_server(url: str, what: str) -> SettingsError:
    return SettingsError(
        f"no server of the kind that TRL samples from answers: {what}",
        where=url,
        kept="the model that the practice began from; no step was taken",
        next_command=f"start vLLM on this machine and name it in {URL}, or train with the sampler transformers",
    )
