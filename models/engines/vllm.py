"""The vLLM engine, in this process: its scheduler batches whatever is asked, and whoever is done leaves at once.

It lives in an environment of its own (infra/deploy/vllm-environment.sh), so in worker processes only. Each request has
a seed of its own, but batches of other shapes round differently: a reply is nearly, not exactly, a function of its
request. What was bought is in the journal all the same, and nothing is asked twice.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from medgr2.infra.settings import GeneratorSettings
from medgr2.models.engines.chats import ChatWriter, open_picture
from medgr2.models.engines.seam import Completion, Conversation, Held, Request, T
from medgr2.models.engines.steps import in_steps
from medgr2.schemas.errors import MissingExtraError, NotFoundError

AT_ONCE = 256
"""Conversations that are open: as many as vLLM runs side by side. What finds no room in its cache waits there."""
SEEDS = 2**63
"""torch takes no larger one, and one that did would end every request that is open."""
_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    # The engine's core in this process and not in a child of it, which a SIGKILL would leave behind.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}
_ON_CPU = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    # It would tie its threads to cores that other workers are tied to as well.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}


class VllmEngine:
    repeatable = True

    def __init__(self, folder: Path, settings: GeneratorSettings, *, device: str = "cpu") -> None:
        for name, value in (_QUIET | (_ON_CPU if device == "cpu" else {})).items():
            os.environ.setdefault(name, value)
        if not any(folder.glob("*.safetensors")):
            raise NotFoundError("no safetensors weights", where=str(folder), next_command="make base-weights")
        try:
            from transformers import AutoProcessor
            from vllm import EngineArgs, LLMEngine
        except ImportError as e:
            raise MissingExtraError(
                f"vLLM cannot be imported here: {type(e).__name__} of {e.name}",
                where="MEDGR2_GENERATOR__PYTHON",
                next_command="make vllm-env  and set MEDGR2_GENERATOR__PYTHON=.venv-vllm/bin/python",
            ) from None
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        self._chats = ChatWriter(processor)
        self._engine: Any = LLMEngine.from_engine_args(
            EngineArgs(
                model=str(folder),
                load_format="safetensors",
                trust_remote_code=False,
                dtype="float32" if device == "cpu" else "auto",
                enforce_eager=device == "cpu",
                max_model_len=-1,  # as long as fits, up to the model's own limit
                max_num_seqs=AT_ONCE,
                # On a CPU, a seeded prompt that is read in two pieces ends vLLM 0.31: it cannot turn its noise back.
                enable_chunked_prefill=None if device != "cpu" else False,
                limit_mm_per_prompt={"image": 1},
                # Held to a form, a small model would fill its reply with white space.
                structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
                disable_log_stats=True,
            )
        )
        self._structured = settings.structured == "auto"

    def hold(self, conversations: Iterable[tuple[str, Conversation[T]] | None]) -> Iterator[Held[T]]:
        return in_steps(self, conversations, AT_ONCE)

    def ask(self, ticket: str, request: Request) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        form = StructuredOutputsParams(json=dict(request.form)) if self._structured and request.form else None
        wanted = SamplingParams(
            temperature=request.temperature,
            seed=request.seeds[0] % SEEDS,
            max_tokens=request.max_new_tokens,
            structured_outputs=form,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        prompt: dict[str, Any] = {"prompt": self._chats.write(request)}
        if not request.sightless:
            prompt["multi_modal_data"] = {"image": open_picture(request.image_path)}
        self._engine.add_request(ticket, prompt, wanted)

    def step(self) -> Iterator[tuple[str, Completion]]:
        for output in self._engine.step():
            if output.finished:
                (said,) = output.outputs
                yield (
                    output.request_id,
                    Completion(
                        text=said.text,
                        finished=said.finish_reason == "stop",
                        tokens=len(said.token_ids),
                        tokens_in=len(output.prompt_token_ids or ()),
                    ),
                )

    def drop(self, tickets: Iterable[str]) -> None:
        self._engine.abort_request(list(tickets))


@lru_cache(maxsize=1)
def load_vllm(folder: Path, settings: GeneratorSettings, device: str) -> VllmEngine:
    """One engine a process: a second would find the memory taken."""
    return VllmEngine(folder, settings, device=device)
