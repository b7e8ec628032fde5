"""The split audit: a clean root passes; each kind of leak, planted straight into the lake, is found and named."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from ingest_helpers import KEY, hospital, label, picture, settings
from PIL import Image, ImageOps

from medgr2.flows.cli import run
from medgr2.infra import versions
from medgr2.infra.pictures.fingerprint import fingerprint
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.schemas.errors import ExitCode
from medgr2.schemas.intake import IntakeParameters
from medgr2.schemas.items import Item
from medgr2.schemas.vocabulary import QuestionType
from medgr2.tasks.intake.audit import audit_splits
from medgr2.tasks.intake.ingest import ingest

SIZE = (96, 96)
PATIENT, NEAR, OTHERWISE = (
    "no patient, study or group in two splits", "no near-duplicate in another split",
    "no near-duplicate is told otherwise",
)  # fmt: skip
SPLIT, BENCHMARK, ITEMS, EXAM = (
    "every image is in one known split", "no benchmark image outside the held-out split",
    "no item of a training set on an image that is not for training", "no held-out question on a training image",
)  # fmt: skip


def image(number: int, *, mirror: bool = False, **more: Any) -> dict[str, Any]:
    """A row as ingest would write it, but for what is wrong with it."""
    shown = Image.open(io.BytesIO(picture(number, SIZE)))
    name = f"{number:02x}{'f' if mirror else '0'}" + "0" * 61
    return {
        "image_id": name, "origin": name, "modality": "CT", "labels": '{"diagnosis": "mass"}', "split": "train",
        "patient_key": f"patient {name}", "fingerprint": fingerprint(ImageOps.mirror(shown) if mirror else shown),
        **more,
    }  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Taken in properly, with questions in both splits: nothing leaks here."""
    opened = open_workspace(settings(tmp_path))
    files = {f"{n}.png": picture(200 + n, SIZE) for n in range(6)}
    told = [label(name, split="train" if n < 4 else "heldout") for n, name in enumerate(files)]
    folder = hospital(tmp_path / "in", told, files)
    ingest(opened, str(folder), "", IntakeParameters(reports="keep"), run="test", announce=lambda plan: None)
    held = {row["split"]: row["image_id"] for row in opened.lake.read("images").to_pylist()}
    publish(opened, "nightly", held["train"])
    publish(opened, "heldout", held["heldout"])
    return opened


def publish(workspace: Workspace, dataset: str, image_id: str) -> str:
    item = Item(
        image_id=image_id, question_type=QuestionType.DISEASE, question=f"What is seen in {dataset}?",
        options=("mass", "cyst", "scar", "none"), answer="A", rationale="A mass.",
    )  # fmt: skip
    row = item.model_dump(mode="json") | {"item_id": item.item_id, "origin": "human"}
    workspace.lake.append_new("items", [row], key="item_id")
    versions.publish(workspace.lake, dataset=dataset, add=[item.item_id], card={}, run="test")
    return item.item_id


def plant(workspace: Workspace, *rows: dict[str, Any]) -> None:
    workspace.lake.append("images", rows, once=f"planted {[row['image_id'] for row in rows]}")


def leaks(workspace: Workspace) -> dict[str, tuple[str, ...]]:
    audit = audit_splits(workspace)
    assert audit.violations == sum(check.violations for check in audit.checks)
    return {check.name: check.examples for check in audit.checks if check.violations}


def test_a_clean_root_has_no_leak_and_everything_was_looked_at(workspace: Workspace) -> None:
    audit = audit_splits(workspace)
    assert audit.violations == 0
    assert (audit.images, audit.without_fingerprint) == (6, 0)
    looked_at = {check.name: check.looked_at for check in audit.checks}
    assert looked_at == {SPLIT: 6, PATIENT: 6, NEAR: 6, OTHERWISE: 6, BENCHMARK: 6, ITEMS: 1, EXAM: 1}
    assert audit.splits == {"CT": {"heldout": 2, "train": 4}}


def test_an_empty_root_has_none_either(tmp_path: Path) -> None:
    assert audit_splits(open_workspace(settings(tmp_path))).violations == 0


def test_what_is_alike_and_agrees_within_one_split_is_no_leak(workspace: Workspace) -> None:
    plant(workspace, image(1), image(1, mirror=True))
    assert leaks(workspace) == {}
    assert audit_splits(workspace).near_duplicates == 1


def test_what_is_quarantined_leaks_nothing(workspace: Workspace) -> None:
    plant(workspace, image(1, patient_key="p"), image(1, mirror=True, patient_key="p", split="quarantined"))
    assert leaks(workspace) == {}


@pytest.mark.parametrize("split", ["heldout", "validation"])
def test_a_patient_in_two_splits(workspace: Workspace, split: str) -> None:
    plant(workspace, image(1, patient_key="e" * 64), image(2, patient_key="e" * 64, split=split))
    assert leaks(workspace) == {PATIENT: (f"{'e' * 12}: {' and '.join(sorted(['train', split]))}",)}


def test_a_study_in_two_splits_whatever_the_patient(workspace: Workspace) -> None:
    plant(workspace, image(1, keys=["study", "one"]), image(2, keys=["study", "two"], split="heldout"))
    assert leaks(workspace) == {PATIENT: ("study: heldout and train",)}


def test_a_mirrored_copy_in_another_split(workspace: Workspace) -> None:
    one, other = image(1), image(1, mirror=True, split="heldout")
    plant(workspace, one, other)
    ((name, examples),) = leaks(workspace).items()
    assert name == NEAR
    assert set(examples[0].split(" and ")) == {one["image_id"][:12], other["image_id"][:12]}


@pytest.mark.parametrize("otherwise", [{"modality": "MRI"}, {"labels": '{"diagnosis": "normal"}'}])
def test_copies_that_are_told_otherwise(workspace: Workspace, otherwise: dict[str, str]) -> None:
    plant(workspace, image(1), image(1, mirror=True, **otherwise))
    assert leaks(workspace).keys() == {OTHERWISE}


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_benchmark_image_outside_the_held_out_split(workspace: Workspace, split: str) -> None:
    same, alike, exam = image(1, split=split), image(2, split=split), image(3, split="heldout")
    plant(workspace, same, alike, exam)
    known = [
        {"benchmark_id": "a", "benchmark": "b", "content": same["origin"], "fingerprint": b""},
        {"benchmark_id": "b", "benchmark": "b", "content": "x", "fingerprint": image(2, mirror=True)["fingerprint"]},
        {"benchmark_id": "c", "benchmark": "b", "content": exam["origin"], "fingerprint": exam["fingerprint"]},
    ]
    workspace.lake.append_new("benchmarks", known, key="benchmark_id")
    assert leaks(workspace) == {BENCHMARK: tuple(sorted((same["image_id"], alike["image_id"])))}


@pytest.mark.parametrize("split", ["heldout", "validation", "quarantined"])
def test_a_published_item_about_an_image_that_is_not_for_training(workspace: Workspace, split: str) -> None:
    plant(workspace, image(1, split=split))
    item = publish(workspace, "nightly", image(1)["image_id"])
    assert leaks(workspace) == {ITEMS: (f"item {item[:12]}",)}


def test_a_published_item_about_an_image_that_is_not_there(workspace: Workspace) -> None:
    assert publish(workspace, "nightly", "d" * 64)[:12] in leaks(workspace)[ITEMS][0]


@pytest.mark.parametrize("dataset", ["heldout", "omnimedvqa"])
def test_an_exam_question_on_a_training_image(workspace: Workspace, dataset: str) -> None:
    plant(workspace, image(1))
    publish(workspace, dataset, image(1)["image_id"])
    assert leaks(workspace).keys() == {EXAM}


def test_an_item_that_left_the_newest_version_is_no_leak(workspace: Workspace) -> None:
    plant(workspace, image(1, split="quarantined"))
    item = publish(workspace, "nightly", image(1)["image_id"])
    versions.publish(workspace.lake, dataset="nightly", add=[], remove=[item], card={}, run="later")
    assert leaks(workspace) == {}


def test_one_image_twice_and_an_unknown_split(workspace: Workspace) -> None:
    plant(workspace, image(1), image(1), image(2, split="exam"), image(3, split=None))
    assert set(leaks(workspace)[SPLIT]) == {image(n)["image_id"] for n in (1, 2, 3)}


def test_pictures_without_a_fingerprint_are_counted(workspace: Workspace) -> None:
    plant(workspace, image(1, fingerprint=None), image(2, fingerprint=b""))
    audit = audit_splits(workspace)
    assert (audit.without_fingerprint, audit.violations) == (2, 0)


def test_every_violation_is_counted_and_a_few_are_named(workspace: Workspace) -> None:
    for n in range(9):
        plant(workspace, image(n, patient_key=f"{n}"), image(20 + n, patient_key=f"{n}", split="heldout"))
    (check,) = [check for check in audit_splits(workspace).checks if check.violations]
    assert (check.name, check.violations, len(check.examples)) == (PATIENT, 9, 5)


def test_the_command_ends_with_a_code_of_its_own(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEDGR2_STORAGE__ROOT", workspace.settings.storage.root)
    monkeypatch.setenv("MEDGR2_PRIVACY__PATIENT_KEY", KEY)
    assert run(["audit", "splits", "--json"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["violations"] == 0
    plant(workspace, image(1, patient_key="p"), image(2, patient_key="p", split="heldout"))
    before = workspace.lake.version("images")
    assert run(["audit", "splits", "--json"]) == ExitCode.DATA == 6
    said = capsys.readouterr()
    assert json.loads(said.out)["violations"] == 1
    assert PATIENT in said.err
    assert workspace.lake.version("images") == before
