"""`medgr2 evaluate` as a person types it, on benchmarks in the layouts of their authors."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from ingest_helpers import KEY, hospital, label, picture

from medgr2.flows.cli import run
from medgr2.infra.lake import Lake
from medgr2.infra.settings import load_settings
from medgr2.infra.workspace import open_workspace
from medgr2.models.registry import Registration, Registry
from medgr2.schemas.errors import ExitCode
from medgr2.schemas.vocabulary import Role
from medgr2.tasks.lessons import source_of
from medgr2.tasks.questions import take_questions

SIZE = (64, 64)
OPTIONS = {"option_A": "CT", "option_B": "MRI", "option_C": "OCT", "option_D": "X-Ray"}
MODALITIES = {"CT(Computed Tomography)": "CT", "MR (Magnetic Resonance Imaging)": "MRI", "X-Ray": "X-Ray"}
TYPES = ("Modality Recognition", "Disease Diagnosis")


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    for name, value in (
        ("STORAGE__ROOT", str(tmp_path / "root")), ("COMPUTE__MODE", "inline"), ("PRIVACY__PATIENT_KEY", KEY),
    ):  # fmt: skip
        monkeypatch.setenv(f"MEDGR2_{name}", value)
    return Lake(load_settings().storage)


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code = run(list(arguments))
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out


def omnimedvqa(folder: Path) -> Path:
    rows, pictures = [], {}
    for number in range(12):
        theirs, ours = list(MODALITIES.items())[number % 3]
        name = f"Images/Some/{number}.png"
        pictures[name] = picture(100 + number, SIZE)
        rows += [
            {
                "dataset": "Some", "question_id": f"{number}-{kind}", "question_type": kind, "image_path": name,
                "question": f"What is picture {number}, by {kind}?", "gt_answer": ours, "modality_type": theirs,
                **OPTIONS,
            }
            for kind in TYPES
        ]  # fmt: skip
    for name, data in {**pictures, "QA_information/Open-access/Some.json": json.dumps(rows).encode()}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def benchmark(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Lake:
    typed(capsys, "ingest", str(omnimedvqa(tmp_path / "OmniMedVQA")), "--layout", "omnimedvqa")
    return lake


def taught_on_ct(tmp_path: Path, capsys: pytest.CaptureFixture[str], *, patient: str = "nobody else") -> str:
    """A policy whose lessons are all about CT, registered as training would."""
    folder = hospital(
        tmp_path / "own", [label("a.png", patient_id=patient, split="train")], {"a.png": picture(1, SIZE)}
    )
    typed(capsys, "ingest", str(folder))
    workspace = open_workspace(load_settings())
    row = {
        "file": "a.png", "question_type": TYPES[0], "question": "Which modality?", "options": ["CT", "MRI"],
        "answer": "A", "rationale": "CT, so CT.",
    }  # fmt: skip
    _, version = take_questions(workspace, [(1, row)], folder, "seed", run="r", announce=lambda _: None)
    registry = Registry(workspace.store, workspace.lake)
    base = registry.register(Registration(role=Role.BASE, artifact=artifact(), method="given", run="base"))
    return registry.register(
        Registration(
            role=Role.POLICY, artifact=artifact(), method="sft", parent=base, sources=(source_of(version),), recipe="r"
        )
    )


def artifact() -> str:
    from medgr2.models.model_ref import base_model

    return base_model(load_settings()).revision


def test_both_protocols_of_omnimedvqa(benchmark: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = taught_on_ct(tmp_path, capsys)
    base, mine = json.loads(
        typed(capsys, "evaluate", "base", policy[:12], "--on", "omnimedvqa", "--samples", "2", "--json")
    )
    for found in (base, mine):
        assert (found["on"], found["n"], found["failed"]) == ("omnimedvqa@1", 24, 0)
        assert {name: s["n"] for name, s in found["by_modality"]["slices"].items()} == {"CT": 8, "MRI": 8, "X-Ray": 8}
        assert {name: s["n"] for name, s in found["by_question_type"]["slices"].items()} == dict.fromkeys(TYPES, 12)
        assert found["blind"] is not None
        assert found["blank"] is not None
        assert found["swapped"] is not None
        assert found["sampled"]["samples"] == 2
    assert base["by_modality"]["in_domain"] is None
    slices = mine["by_modality"]["slices"]
    assert [name for name, s in slices.items() if s["taught"]] == ["CT"]
    assert mine["by_modality"]["in_domain"] == slices["CT"]["accuracy"]["value"]
    others = [slices[name]["accuracy"]["value"] for name in ("MRI", "X-Ray")]
    assert mine["by_modality"]["cross_domain"] == pytest.approx(sum(others) / 2)
    assert mine["by_question_type"]["slices"][TYPES[0]]["taught"]
    assert not mine["by_question_type"]["slices"][TYPES[1]]["taught"]
    # The same weights: one purchase, the same answers, rows of their own.
    assert mine["micro"] == base["micro"]
    assert base["against"] is None
    assert mine["against"]["other"] == base["model"]
    assert (mine["against"]["greedy"]["wins"], mine["against"]["greedy"]["losses"]) == (0, 0)
    assert mine["against"]["sampled"]["p_value"] == 1.0
    assert benchmark.read("evals").num_rows == 2 * 24 * 4
    uses = benchmark.read("uses", where={"purpose": "evaluate", "dataset": "omnimedvqa"}).to_pylist()
    assert {row["model_id"] for row in uses} == {base["model"], policy}


def test_what_a_person_reads(benchmark: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = taught_on_ct(tmp_path, capsys)
    out = tmp_path / "predictions"
    text = typed(
        capsys, "evaluate", "base", policy, "--on", "omnimedvqa@1", "--export", str(out), "--format", "lmms-eval"
    )
    assert f"{policy[:12]} (policy, sft) on omnimedvqa@1, 24 items" in text
    assert re.search(r"macro +0\.\d{3} \[0\.\d{3}, [01]\.\d{3}\]", text)
    assert re.search(r"\* CT +8 ", text)
    assert re.search(rf"{policy[:12]} .*\*", text), "the matrix marks what a model was taught"
    assert "no picture" in text
    assert "grey picture" in text
    assert "0 won, 0 lost, p = 1" in text
    assert len(list(out.iterdir())) == 2
    assert all(len(path.read_text().splitlines()) == 24 for path in out.iterdir())


def test_again_it_buys_nothing(benchmark: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    first = typed(capsys, "evaluate", "base", "--on", "omnimedvqa", "--json")
    assert run(["evaluate", "base", "--on", "omnimedvqa", "--json"]) == 0
    said = capsys.readouterr()
    assert "0 new, 96 reused" in said.err
    assert said.out == first


def test_pictures_of_a_patient_whom_the_model_was_taught_stop_it(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = taught_on_ct(tmp_path, capsys)
    images = open_workspace(load_settings()).lake.read("images").to_pylist()
    # As a mistake outside of this program would leave it: the patient's next picture in the exam.
    stray = images[0] | {"image_id": "f" * 64, "split": "heldout", "keys": [], "fingerprint": None}
    lake.append_new("images", [stray], key="image_id")
    item = {
        "item_id": "e" * 64, "image_id": "f" * 64, "question_type": TYPES[0], "question": "Which?",
        "options": ["CT", "MRI"], "answer": "A", "rationale": "", "origin": "human",
    }  # fmt: skip
    lake.append_new("items", [item], key="item_id")
    from medgr2.infra import versions

    versions.publish(lake, dataset="heldout", add=["e" * 64], card={}, run="by mistake")
    assert run(["evaluate", policy, "--on", "heldout"]) == ExitCode.DATA
    assert "0 images and 1 patients are both in the training data and in the held-out set" in capsys.readouterr().err
    assert lake.read("evals").num_rows == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["base", "--on", "seed"], ExitCode.USAGE, "no evaluation set"),
        (["base", "--on", "slake@9"], ExitCode.NOT_FOUND, "slake"),
        (["policy", "--on", "omnimedvqa"], ExitCode.USAGE, "has no champion yet"),
        (["0000", "--on", "omnimedvqa"], ExitCode.NOT_FOUND, "no model"),
        ([], ExitCode.USAGE, "MODEL"),
    ],
)
def test_what_can_not_be_asked(
    benchmark: Lake, capsys: pytest.CaptureFixture[str], arguments: list[str], code: ExitCode, says: str
) -> None:
    assert run(["evaluate", *arguments]) == code
    assert says in capsys.readouterr().err


def test_every_command_of_the_document_is_typed_and_works(
    benchmark: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its order, on small folders in place of its large ones."""
    policy = taught_on_ct(tmp_path, capsys)
    typed(capsys, "promote", policy)
    exam = hospital(tmp_path / "exam", [label("b.png", split="heldout"), label("c.png", split="heldout")],
                    {"b.png": picture(2, SIZE), "c.png": picture(3, SIZE)})  # fmt: skip
    questions = [
        {"file": name, "question_type": TYPES[0], "question": "Which modality?", "options": ["CT", "MRI"],
         "answer": "A", "rationale": "CT, so CT."}
        for name in ("b.png", "c.png")
    ]  # fmt: skip
    (exam / "exam.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    typed(capsys, "ingest", str(exam), "--heldout", str(exam / "exam.jsonl"))
    folders = {"/data/OmniMedVQA": tmp_path / "OmniMedVQA", "/data/SLAKE": slake(tmp_path / "SLAKE")}
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "docs" / "evaluating.md").read_text()
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    assert len(lines) > 10
    for line in lines:
        words = [str(folders.get(word, word)) for word in shlex.split(line)[1:]]
        assert typed(capsys, *words), line
    assert {path.suffix for path in (tmp_path / "predictions").iterdir()} == {".tsv", ".jsonl"}


def slake(folder: Path) -> Path:
    rows = [
        {"img_id": n, "img_name": f"xmlab{n}/source.jpg", "question": "Is it a lung?", "answer": "Yes", "q_lang": "en",
         "location": "Lung", "modality": "CT", "answer_type": "CLOSED", "content_type": "Organ", "qid": n}
        for n in range(2)
    ]  # fmt: skip
    for n in range(2):
        (folder / "imgs" / f"xmlab{n}").mkdir(parents=True)
        (folder / "imgs" / f"xmlab{n}" / "source.jpg").write_bytes(picture(300 + n, SIZE, "JPEG"))
    (folder / "test.json").write_text(json.dumps(rows))
    return folder
