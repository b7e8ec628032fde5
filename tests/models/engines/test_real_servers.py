"""The HTTP engine against real servers that look at real pictures: vLLM, and `transformers serve`."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp", reason="the extra 'http' is not installed")
sys.path.insert(0, str(Path(__file__).parents[2] / "served"))

from model_servers import NAME, draw_pictures, fill, long_model, serving_transformers, serving_vllm

from medgr2.infra.settings import ComputeSettings, GeneratorSettings, Settings, StorageSettings
from medgr2.infra.workspace import open_workspace
from medgr2.models.engines.http import HttpEngine
from medgr2.models.engines.http_probe import greet, try_picture
from medgr2.models.engines.seam import Completion, Conversation, Held, Request
from medgr2.models.engines.transformers import TransformersEngine
from medgr2.models.model_ref import served_model
from medgr2.models.prompts import GENERATE_EMBEDDED, generating_text, load_prompt, parse_draft
from medgr2.models.styles import STYLES
from medgr2.schemas.errors import SettingsError
from medgr2.schemas.items import Draft
from medgr2.schemas.parameters import GenerateParameters
from medgr2.schemas.vocabulary import QuestionType
from medgr2.tasks.generate import drafted, generate

pytestmark = pytest.mark.e2e
FORM = {
    "type": "object",
    "properties": {"place": {"type": "string", "enum": ["left", "right"]}, "sure": {"type": "boolean"}},
    "required": ["place", "sure"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return long_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def vllm(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GeneratorSettings]:
    with serving_vllm(model, tmp_path_factory.mktemp("vllm")) as url:
        yield GeneratorSettings(engine="openai", url=url, model=NAME, in_flight=16, patience_seconds=300)


@pytest.fixture(scope="module")
def plain(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GeneratorSettings]:
    with serving_transformers(model, tmp_path_factory.mktemp("plain")) as url:
        yield GeneratorSettings(engine="openai", url=url, model=str(model), in_flight=4, patience_seconds=300)


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> list[Request]:
    """Greedy, so that two engines with the same weights can be held against each other."""
    folder = tmp_path_factory.mktemp("pictures")
    kinds = list(QuestionType)
    made = []
    for i, (data, modality) in enumerate(draw_pictures(24)):
        path = folder / f"{i}.png"
        path.write_bytes(data)
        text = generating_text(load_prompt(GENERATE_EMBEDDED), kinds[i % 5], f"{modality}, mild" if i % 2 else None)
        made.append(Request(path, text, temperature=0, max_new_tokens=128))
    return made


def talk(request: Request) -> Conversation[Completion]:
    return (yield request)


def hold(settings: GeneratorSettings, requests: list[Request]) -> list[Held[Completion]]:
    """In the order of the requests."""
    engine = HttpEngine(settings, settings.model)
    held = {one.name: one for one in engine.hold((str(i), talk(r)) for i, r in enumerate(requests))}
    return [held[str(i)] for i in range(len(requests))]


def texts(held: list[Held[Completion]]) -> list[str]:
    return [one.result.text if one.result else f"trouble: {one.trouble}" for one in held]


def agreement(said: list[str], expected: list[str]) -> float:
    return sum(one == other for one, other in zip(said, expected, strict=True)) / len(said)


@pytest.fixture(scope="module")
def expected(model: Path, requests: list[Request]) -> list[str]:
    """What our own engine reads off the same pictures, in float64."""
    found = [done[0].text for done in TransformersEngine(model).complete(requests)]
    assert len(set(found)) > 12, "pictures that all get the same reply prove nothing"
    return found


def test_vllm_sees_the_pictures_that_we_send(
    vllm: GeneratorSettings, requests: list[Request], expected: list[str]
) -> None:
    held = hold(vllm, requests)
    assert agreement(texts(held), expected) >= 0.9
    assert sum(isinstance(parse_draft(text), Draft) for text in texts(held)) >= 20
    assert all(one.usage.calls == 1 and one.usage.tokens_in > 0 and one.usage.tokens_out > 0 for one in held)
    swapped = [Request(requests[i - 1].image_path, r.text, temperature=0) for i, r in enumerate(requests)]
    assert agreement(texts(hold(vllm, swapped)), expected) < 0.7, "another picture, and the same reply"


def test_vllm_tells_the_chances_of_the_first_word(vllm: GeneratorSettings, requests: list[Request]) -> None:
    asked = [Request(r.image_path, r.text, temperature=0, max_new_tokens=4, likely=5) for r in requests[:6]]
    for one in hold(vllm, asked):
        assert one.result is not None
        words, chances = zip(*one.result.likely, strict=True)
        assert len(set(words)) == 5
        assert one.result.text.startswith(words[0])
        assert 0.2 < sum(map(math.exp, chances)) <= 1.0001


def test_vllm_draws_by_the_seed(vllm: GeneratorSettings, requests: list[Request]) -> None:
    def drawn(*seeds: int) -> list[str]:
        first = requests[0]
        return texts(hold(vllm, [Request(first.image_path, first.text, (s,), 1.0, 128) for s in seeds]))

    several = drawn(*range(8))
    assert len(set(several)) > 2
    assert agreement(drawn(*range(8)), several) >= 0.75  # batches of another shape round differently


def test_vllm_holds_a_tiny_model_to_a_form(vllm: GeneratorSettings, requests: list[Request]) -> None:
    asked = [
        Request(r.image_path, "Where is it?", (i,), temperature=1.0, max_new_tokens=64, form=FORM)
        for i, r in enumerate(requests[:16])
    ]
    for one in hold(vllm, asked):
        assert one.result is not None, one.trouble
        assert one.result.finished
        reply = json.loads(one.result.text)
        assert set(reply) == {"place", "sure"}
        assert reply["place"] in ("left", "right")
    free = [Request(r.image_path, r.text, r.seeds, 1.0, 64) for r in asked]
    never = vllm.model_copy(update={"structured": "never"})
    assert not any(text.startswith('{"place"') for text in texts(hold(never, free))), "the form did nothing"


def test_vllm_lists_its_model_and_a_stranger_is_told_so(vllm: GeneratorSettings, requests: list[Request]) -> None:
    assert greet(vllm).models == (NAME,)
    assert try_picture(vllm).in_form
    stranger = vllm.model_copy(update={"model": "nobody"})
    with pytest.raises(SettingsError, match=f"no model 'nobody'.*{NAME}"):
        hold(stranger, requests[:2])


def test_what_vllm_refuses_is_one_rows_trouble(vllm: GeneratorSettings, requests: list[Request]) -> None:
    endless = Request(requests[0].image_path, "so " * 9000, temperature=0)
    first, refused, last = hold(vllm, [requests[0], endless, requests[1]])
    assert first.result
    assert last.result
    assert refused.trouble is not None
    assert refused.trouble.reason == "http_400"
    assert "so so" not in refused.trouble.detail


def settings_at(tmp_path: Path, generator: GeneratorSettings) -> Settings:
    return Settings(
        storage=StorageSettings(root=str(tmp_path / "root")),
        # It was never taught to write so much: some of its replies never end.
        compute=ComputeSettings(mode="inline", failure_limit=1.0),
        generator=generator,
    )


def test_a_whole_stage_over_http(vllm: GeneratorSettings, tmp_path: Path) -> None:
    workspace = open_workspace(settings_at(tmp_path, vllm))
    images = fill(workspace, 20)
    how = GenerateParameters(style="direct", question_types=(QuestionType.MODALITY, QuestionType.DISEASE), repairs=0)
    model = served_model(vllm)
    plans: list[Any] = []
    night: dict[str, Any] = {"model": model, "run": "n/1", "announce": plans.append}
    report = generate(workspace, how, images, **night)
    assert report.plan.found == 40
    assert report.conserved()
    assert report.left == 0
    usage = workspace.lake.read("outcomes").to_pylist()
    assert sum(row["calls"] or 0 for row in usage) >= 40
    assert all(row["tokens_in"] > 500 for row in usage if row["calls"])
    # A tiny model that was never taught this prompt, held to the form of a draft, writes one, however foolish, or comes
    # to no end; without the form it would write no JSON at all.
    assert not set(report.reasons) & {"not_json", "not_an_object", "unknown_key", "http_400"}, report.reasons
    assert len(drafted(workspace, how, images, model=model, run="n/1")) == report.accepted
    again = generate(workspace, how, images, **night)
    assert plans[-1].reused >= report.accepted
    assert again.conserved()


def test_transformers_serve_sees_the_pictures_too(
    plain: GeneratorSettings, requests: list[Request], expected: list[str]
) -> None:
    held = hold(plain, requests)
    assert agreement(texts(held), expected) >= 0.9
    assert all(one.usage.tokens_in > 0 for one in held)


def test_transformers_serve_has_no_forms_and_answers_all_the_same(
    plain: GeneratorSettings, requests: list[Request], expected: list[str]
) -> None:
    """And no chances of words."""
    asked = [
        Request(r.image_path, r.text, temperature=0, max_new_tokens=128, form=FORM, likely=5) for r in requests[:4]
    ]
    held = hold(plain, asked)
    assert agreement(texts(held), expected[:4]) >= 0.75
    assert not any(one.result and one.result.likely for one in held)
    assert STYLES["direct"].form
