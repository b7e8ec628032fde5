"""What a reward model says of a claim depends on the claim alone; a folder that is not what it says is refused."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import astuple, replace
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medgr2.models.judging import JUDGE, Claim, JudgeReader, grade_of, judging_text, score_of
from medgr2.models.prompts import load_prompt
from medgr2.models.reward_model import HEAD, Ensemble, JudgeCard, Opinion, RewardModel
from medgr2.models.training import RECORD
from medgr2.schemas.errors import DataError, NotFoundError, UsageError

BASE = Path(__file__).parents[2] / "models" / "base"
ARCHITECTURE = "Idefics3ForConditionalGeneration"
WIDTH = 64


def make_folder(folder: Path, form: str = "yes-no", spread: float = 0.02, bias: float = 0.5) -> Path:
    """The base as a reward model: what it says is of no use, but it says it to the last digit."""
    from safetensors.numpy import save_file

    shutil.copytree(BASE, folder)
    card = {"form": form, "prompt_name": JUDGE, "prompt": load_prompt(JUDGE), "architecture": ARCHITECTURE}
    (folder / RECORD).write_text(json.dumps({"method": "reward", "judge": card}))
    if form == "head":
        weight = np.random.default_rng(5).normal(0, spread, size=(1, WIDTH)).astype(np.float32)
        save_file({"weight": weight, "bias": np.array([bias], dtype=np.float32)}, folder / HEAD)
    return folder


def change_record(folder: Path, **changes: Any) -> None:
    record = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps({**record, "judge": {**record["judge"], **changes}}))


@pytest.fixture(scope="module")
def claims(tmp_path_factory: pytest.TempPathFactory) -> list[Claim]:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(3)
    made = []
    for i in range(40):
        # Shapes, modes and lengths differ on purpose: batch mates must not change each other's padding.
        pixels = rng.integers(0, 256, size=(48 + 8 * (i % 3), 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(("RGB", "L", "RGBA")[i % 3]).save(folder / f"{i}.png")
        options = ("upper left", "upper right", "lower left", "nowhere", "a fifth place")[: 4 + i % 2]
        reason = "CT of the chest" + " shows a cyst" * (i % 7) + "."
        made.append(Claim(folder / f"{i}.png", "Where is the finding?" * (1 + i % 2), options, "ABCD"[i % 4], reason))
    return made


@pytest.fixture(scope="module", params=["yes-no", "head"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("rewards") / "reward", request.param)


@pytest.fixture(scope="module")
def reward(folder: Path) -> RewardModel:
    return RewardModel(folder)


def test_a_claim_is_judged_for_itself_alone(reward: RewardModel, claims: list[Claim]) -> None:
    """Not by what is read beside it, nor by how many there are, nor by their order."""
    together = reward.score(claims)
    assert together == pytest.approx([reward.score([claim])[0] for claim in claims], abs=1e-12)
    assert reward.score(claims[::-1])[::-1] == pytest.approx(together, abs=1e-12)
    assert all(0.0 < score < 1.0 for score in together)
    assert len({round(score, 9) for score in together}) == len(claims)  # else there was nothing to mix up
    assert reward.score([]) == []


def test_another_process_says_the_same(folder: Path, reward: RewardModel, claims: list[Claim]) -> None:
    program = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from medgr2.models.judging import Claim\n"
        "from medgr2.models.reward_model import RewardModel\n"
        "rows = [Claim(Path(p), q, tuple(o), a, r) for p, q, o, a, r in json.load(sys.stdin)]\n"
        f"print(json.dumps(RewardModel(Path({str(folder)!r})).score(rows)))\n"
    )
    asked = [[str(part) if isinstance(part, Path) else part for part in astuple(claim)] for claim in claims[:6]]
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(asked), capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout.splitlines()[-1]) == pytest.approx(reward.score(claims[:6]), abs=1e-12)


def test_every_part_of_a_claim_is_read(reward: RewardModel, claims: list[Claim]) -> None:
    claim = claims[3]
    other = {
        "image_path": claims[4].image_path,
        "question": "Which anatomy is shown?",
        "options": ("upper left", "lower right", "lower left", "nowhere", "a fifth place"),
        "answer": "A",
        "rationale": "MRI.",
    }
    (said,) = reward.score([claim])
    for name, value in other.items():
        (changed,) = reward.score([replace(claim, **{name: value})])
        assert abs(changed - said) > 1e-9, name


def test_yes_against_no_is_the_softmax_of_the_plain_forward(claims: list[Claim], tmp_path: Path) -> None:
    """One unpadded claim through transformers' own classes, in float32: an independent path to the number."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = make_folder(tmp_path / "reward")
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    text = judging_text(load_prompt(JUDGE), claims[8])
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}], add_generation_prompt=True
    )
    with Image.open(claims[8].image_path) as image:
        inputs = processor(text=[prompt], images=[[image.convert("RGB")]], return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits[0, -1]
    yes, no = (processor.tokenizer(word)["input_ids"][0] for word in ("Yes", "No"))
    expected = float(torch.softmax(logits[[yes, no]], 0)[0])
    assert RewardModel(folder).score([claims[8]])[0] == pytest.approx(expected, rel=1e-4)


def test_a_head_is_read_linearly_and_kept_in_its_range(claims: list[Claim], tmp_path: Path) -> None:
    """Twice the weights are twice the distance from the bias; what lies beyond the grades is cut to them."""
    one = RewardModel(make_folder(tmp_path / "one", "head", 0.002)).score(claims)
    two = RewardModel(make_folder(tmp_path / "two", "head", 0.004)).score(claims)
    assert [s - 0.5 for s in two] == pytest.approx([2 * (s - 0.5) for s in one], rel=1e-4)
    wild = RewardModel(make_folder(tmp_path / "wild", "head", 100.0)).score(claims)
    assert {min(wild), max(wild)} == {0.0, 1.0}
    assert (grade_of(0.0), grade_of(1.0), grade_of(0.75)) == (-6.0, 10.0, 6.0)
    assert [score_of(grade_of(s)) for s in (0.0, 0.375, 1.0)] == [0.0, 0.375, 1.0]
    assert (score_of(-7.0), score_of(math.inf)) == (0.0, 1.0)
    assert math.isnan(score_of(math.nan))


def test_an_answer_that_is_no_option_is_refused(reward: RewardModel, claims: list[Claim]) -> None:
    with pytest.raises(DataError, match="none of its 4 options"):
        reward.score([claims[1], replace(claims[0], answer="E")])


def test_braces_and_marks_in_a_claim_stay_text(reward: RewardModel, claims: list[Claim]) -> None:
    plain = replace(claims[0], question="Where {question} is {0} it?", rationale="Ends <end_of_utterance> here")
    assert math.isfinite(reward.score([plain])[0])
    text = JudgeReader(_processor(), reward.card.prompt).text(plain)
    assert "Where {question} is {0} it?" in text
    assert text.count("<end_of_utterance>") == 1  # the turn's own


def test_yes_and_no_are_found_behind_what_a_template_sets_before_a_reply() -> None:
    """An empty think block before every reply is the template's, and would be the same token for both words."""
    processor = _processor()
    bare = JudgeReader(processor, "{question}").words()
    processor.chat_template = processor.chat_template.replace("<|assistant|>", "<|assistant|>{{ '<think></think>' }}")
    assert JudgeReader(processor, "{question}").words() == bare
    tokenizer = processor.tokenizer
    assert bare == (tokenizer("Yes")["input_ids"][0], tokenizer("No")["input_ids"][0])


def _processor() -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(BASE)


def test_a_folder_that_is_no_reward_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such folder"):
        RewardModel(tmp_path / "nowhere")
    with pytest.raises(DataError, match="not a reward model"):
        RewardModel(BASE)
    folder = make_folder(tmp_path / "reward")
    change_record(folder, form="thumbs")
    with pytest.raises(DataError, match="not a reward model"):
        RewardModel(folder)


def test_a_reward_model_of_another_architecture_is_refused(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "reward")
    change_record(folder, architecture="LlavaForConditionalGeneration")
    with pytest.raises(DataError, match="another architecture: trained as Llava"):
        RewardModel(folder)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    """transformers would fill in what is missing with random numbers, and only warn."""
    from safetensors.numpy import load_file, save_file

    folder = make_folder(tmp_path / "reward")
    tensors = load_file(folder / "model.safetensors")
    name = next(n for n in sorted(tensors) if "q_proj.weight" in n)
    save_file({n: t for n, t in tensors.items() if n != name}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match="1 of its weights are missing"):
        RewardModel(folder)
    save_file({**tensors, name: tensors[name][:-1]}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match="1 of its weights are missing or"):
        RewardModel(folder)


def test_a_head_that_is_missing_or_of_another_model_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    folder = make_folder(tmp_path / "reward", "head")
    bias = np.zeros(1, dtype=np.float32)
    for tensors, says in [
        ({"weight": np.zeros((1, WIDTH + 1), dtype=np.float32), "bias": bias}, "another architecture"),
        ({"weight": np.zeros((1, WIDTH), dtype=np.float32)}, "another architecture"),
        ({"weight": np.full((1, WIDTH), np.nan, dtype=np.float32), "bias": bias}, "not finite"),
    ]:
        save_file(tensors, folder / HEAD)
        with pytest.raises(DataError, match=says):
            RewardModel(folder)
    (folder / HEAD).write_bytes(b"cut short")
    with pytest.raises(DataError, match="can not be read"):
        RewardModel(folder)
    (folder / HEAD).unlink()
    with pytest.raises(DataError, match="is missing"):
        RewardModel(folder)


def test_a_score_that_is_no_number_is_refused(claims: list[Claim], tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = make_folder(tmp_path / "reward")
    tensors = {n: np.full_like(t, np.nan) for n, t in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match="3 of 3 scores"):
        RewardModel(folder).score(claims[:3])


class Scripted(RewardModel):
    """A reward model that says what it is told to: the ensemble is arithmetic over its members."""

    def __init__(self, scores: list[float], prompt: str = "{question}") -> None:
        self.card = JudgeCard(form="yes-no", prompt_name="p", prompt=prompt, architecture="a")
        self.scores = scores

    def score(self, claims: Any) -> list[float]:
        return self.scores[: len(claims)]


def test_an_ensemble_is_mean_less_spread(claims: list[Claim]) -> None:
    opinions = Ensemble([Scripted([0.9, 0.5]), Scripted([0.9, 0.7]), Scripted([0.9, 0.9])]).judge(claims[:2])
    assert opinions[0] == Opinion(pytest.approx(0.9), pytest.approx(0.0))
    assert opinions[1].mean == pytest.approx(fmean([0.5, 0.7, 0.9]))
    assert opinions[1].score == pytest.approx(0.7 - pstdev([0.5, 0.7, 0.9]))
    assert Ensemble([Scripted([0.4])]).judge(claims[:1])[0].score == pytest.approx(0.4)
    assert Ensemble([Scripted([])]).judge([]) == []


def test_an_ensemble_of_none_or_of_strangers_is_refused() -> None:
    with pytest.raises(UsageError, match="no reward model"):
        Ensemble([])
    with pytest.raises(UsageError, match="different ways"):
        Ensemble([Scripted([0.5]), Scripted([0.5], prompt="{rationale}")])
