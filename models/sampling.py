"""Who writes the replies of GRPO: the trainer itself, or vLLM, which is tried before it is trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from medgr2.models.care import care
from medgr2.models.exactness import inexact
from medgr2.models.sampling_parity import TOLERANCES, parity_watch, refuse_untrue_server
from medgr2.schemas.errors import MissingExtraError

Sampler = Literal["transformers", "vllm-server", "vllm-colocate"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """In the words of TRL's configuration, with who looks after it."""

    arguments: dict[str, Any] = field(default_factory=dict)
    callbacks: tuple[Any, ...] = ()


def sampling(
    sampler: Sampler,
    policy: Path,
    asked: Sequence[tuple[Path, str]],
    longest: int,
    precision: Literal["float32", "bfloat16"],
    *,
    exact: bool,
) -> Sampling:
    """A server is tried on some of the prompts before the first step; one inside the trainer, only after each step."""
    if sampler == "transformers":
        return Sampling()
    if exact:
        raise inexact("vLLM samples the replies, from a state that is not saved", "the sampler transformers")
    if find_spec("vllm") is None:
        raise MissingExtraError(
            "TRL samples with vLLM only where vLLM is installed beside it",
            where=f"sampler {sampler}",
            kept="nothing was trained",
            next_command="train in the image of a Ray cluster that holds vLLM and the extra 'train', or with the "
            "sampler transformers",
        )
    tolerance = TOLERANCES[precision]
    arguments: dict[str, Any] = {"use_vllm": True, "vllm_mode": "colocate"}
    if sampler == "vllm-server":
        url = care().sampler_url
        refuse_untrue_server(policy, asked, url, longest, tolerance)
        arguments |= {"vllm_mode": "server", "vllm_server_base_url": url}
    return Sampling(arguments, (parity_watch(tolerance),))
