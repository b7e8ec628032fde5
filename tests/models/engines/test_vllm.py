"""The vLLM engine: in a process of its own environment, and as the worker of a stage on a local Ray."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "served"))

from model_servers import BASE, draw_pictures, fill, quiet_environment, vllm_python

from medgr2.infra.settings import ComputeSettings, GeneratorSettings, Settings, StorageSettings
from medgr2.infra.workspace import open_workspace
from medgr2.models.engines.seam import Request
from medgr2.models.engines.transformers import TransformersEngine
from medgr2.models.model_ref import base_model
from medgr2.models.prompts import GENERATE_EMBEDDED, generating_text, load_prompt, parse_draft
from medgr2.schemas.errors import MissingExtraError
from medgr2.schemas.items import Draft
from medgr2.schemas.parameters import GenerateParameters
from medgr2.schemas.vocabulary import QuestionType
from medgr2.tasks.generate import drafted, generate

DRIVER = Path(__file__).with_name("vllm_driver.py")
DEADLINE_SECONDS = 400
FORM = {
    "type": "object",
    "properties": {"place": {"type": "string", "enum": ["left", "right"]}, "sure": {"type": "boolean"}},
    "required": ["place", "sure"],
    "additionalProperties": False,
}


def test_without_vllm_it_says_what_to_type() -> None:
    from medgr2.models.engines.vllm import VllmEngine

    try:
        import vllm  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtraError) as told:
            VllmEngine(BASE, GeneratorSettings(engine="vllm"))
        assert "make vllm-env" in told.value.next_command
    else:
        pytest.skip("vLLM is installed beside the tests")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("pictures")
    kinds = list(QuestionType)
    made = []
    for i, (data, modality) in enumerate(draw_pictures(20)):
        path = folder / f"{i}.png"
        path.write_bytes(data)
        text = generating_text(load_prompt(GENERATE_EMBEDDED), kinds[i % 5], f"{modality}, mild" if i % 2 else None)
        row = {"image": str(path), "text": text, "seed": i, "temperature": 0, "tokens": 128, "form": None, "more": 0}
        made.append(row)
    return made


def hold(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> list[dict[str, Any]]:
    """In the order of the rows; one process, as the engine is one to a process."""
    done = subprocess.run(
        [str(vllm_python()), str(DRIVER), str(BASE), json.dumps({"engine": "vllm", **settings})],
        env=quiet_environment(folder), input=json.dumps(rows), capture_output=True, text=True, timeout=DEADLINE_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("held "))
    found: list[dict[str, Any]] = json.loads(line.removeprefix("held "))
    return found


@pytest.mark.e2e
def test_it_says_what_our_own_engine_says_and_each_trouble_is_one_rows(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    one = rows[0]
    asked = [
        *rows,
        *({**one, "seed": seed, "temperature": 1.0} for seed in (1, 1, 2, 3, 4, 5)),
        *({**row, "text": "Where is it?", "form": FORM, "temperature": 1.0} for row in rows[:8]),
        {**one, "more": 2},
        {**one, "image": None},
        {**one, "text": "so " * 3000},
        {**one, "tokens": 5},
        {**one, "text": "CT <image> <end_of_utterance><|assistant|>"},
    ]
    held = hold(tmp_path, asked)
    greedy, drawn, formed = held[:20], held[20:26], held[26:34]
    mended, blind, endless, cut, marked = held[34:]

    ours = TransformersEngine(BASE).complete(
        [Request(Path(r["image"]), r["text"], temperature=0, max_new_tokens=128) for r in rows]
    )
    said = [row["said"][0][0] for row in greedy]
    assert len({done[0].text for done in ours}) > 8
    assert sum(text == done[0].text for text, done in zip(said, ours, strict=True)) >= 18
    assert [row["said"][0][3] for row in greedy] == [done[0].tokens_in for done in ours]
    assert sum(isinstance(parse_draft(text), Draft) for text in said) >= 16

    texts = [row["said"][0][0] for row in drawn]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1
    for row in formed:
        reply = json.loads(row["said"][0][0])
        assert set(reply) == {"place", "sure"}
        assert row["said"][0][1]

    assert mended["calls"] == 3
    assert mended["said"][2][3] > mended["said"][0][3], "what was said before is shown"
    assert blind["trouble"][0] == "DataError"
    assert endless["trouble"][0] == "VLLMValidationError"
    assert "so so" not in endless["trouble"][1]
    assert (cut["said"][0][1], cut["said"][0][2]) == (False, 5)
    assert marked["trouble"] is None, "a mark that somebody typed is not a second picture"


@pytest.mark.e2e
def test_forms_can_be_left_out(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    asked = [{**row, "form": FORM} for row in rows[:4]]
    free = hold(tmp_path, asked, structured="never")
    assert not any('"place"' in row["said"][0][0] for row in free)


@pytest.mark.e2e
def test_a_whole_stage_on_ray_workers_of_another_interpreter(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    settings = Settings(
        storage=StorageSettings(root=str(tmp_path / "root")),
        compute=ComputeSettings(mode="ray-local", workers=1),
        generator=GeneratorSettings(engine="vllm", python=vllm_python()),
    )
    workspace = open_workspace(settings)
    images = fill(workspace, 20)
    model = base_model(settings).revision
    how = GenerateParameters(question_types=(QuestionType.MODALITY, QuestionType.DISEASE))
    plans: list[Any] = []
    night: dict[str, Any] = {"model": model, "run": "n/1", "announce": plans.append}
    report = generate(workspace, how, images, **night)
    assert (report.plan.found, report.failed, report.left) == (40, 0, 0)
    assert report.conserved()
    assert report.accepted >= 20
    assert drafted(workspace, how, images, model=model, run="n/1")
    again = generate(workspace, how, images, **night)
    assert (plans[-1].new, again.accepted) == (0, report.accepted)
    assert sum(row["calls"] or 0 for row in workspace.lake.read("outcomes").to_pylist()) == 40
