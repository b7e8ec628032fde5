"""The hospital's folder: deterministic, patient-disjoint, and silent about the truth."""

import csv
import hashlib
import json
from collections import Counter, defaultdict

import pytest

from medgr2_phantoms.questions import QUESTION_TYPES
from medgr2_phantoms.world import FINDINGS, MODALITIES

SMALL = ("--images", "40", "--heldout", "10", "--seed-qa", "10")


def rows(hospital):
    with (hospital.folder / "labels.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def questions(hospital, name):
    return [json.loads(line) for line in (hospital.folder / name).read_text().splitlines()]


def digest(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_columns_and_counts(hospital):
    table = rows(hospital)
    assert list(table[0]) == ["file", "patient_id", "modality", "report", "source", "licence", "split"]
    assert Counter(row["split"] for row in table) == {"train": 123, "heldout": 60}
    assert {row["file"] for row in table} == {f"images/{path.name}" for path in (hospital.folder / "images").iterdir()}
    assert {row["modality"] for row in table} == set(MODALITIES)


def test_patients_have_one_to_three_images_and_one_split(hospital):
    splits = defaultdict(list)
    for row in rows(hospital):
        splits[row["patient_id"]].append(row["split"])
    assert {len(seen) for seen in splits.values()} == {1, 2, 3}
    assert all(len(set(seen)) == 1 for seen in splits.values())


def test_questions_ask_about_their_own_split(hospital):
    split = {row["file"]: row["split"] for row in rows(hospital)}
    for name, wanted, count in (("seed_qa.jsonl", "train", 50), ("heldout.jsonl", "heldout", 60)):
        asked = questions(hospital, name)
        assert len(asked) == count
        assert {split[row["file"]] for row in asked} == {wanted}
        assert set(Counter(row["question_type"] for row in asked)) == set(QUESTION_TYPES)
        assert len({(row["file"], row["question_type"]) for row in asked}) == count
        assert list(asked[0]) == ["file", "question_type", "question", "options", "answer", "rationale"]


def test_file_names_tell_nothing(hospital):
    words = [word.lower() for word in (*MODALITIES, *FINDINGS, "train", "heldout")]
    for row in rows(hospital):
        assert len(row["file"]) == len("images/0123456789abcdef.png")
        assert not any(word in row["file"] for word in words)
    files = [row["file"] for row in rows(hospital)]
    assert files[:180] == sorted(files[:180])  # listed by name, so the order tells nothing either


def test_the_truth_names_every_good_image_by_its_bytes(hospital):
    truth = {json.loads(line)["image_sha256"] for line in hospital.truth.read_text().splitlines()}
    images = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (hospital.folder / "images").iterdir()}
    assert len(truth) == 180
    assert len(images - truth) == 3
    assert truth < images


def test_broken_files_cannot_be_decoded(hospital):
    from PIL import Image

    broken = 0
    for path in (hospital.folder / "images").iterdir():
        try:
            with Image.open(path) as image:
                image.load()
        except (OSError, SyntaxError):
            broken += 1
    assert broken == 3


def test_a_seed_gives_the_same_bytes_and_another_seed_other_patients(write_hospital, tmp_path):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        done = write_hospital(tmp_path / name, tmp_path / f"{name}.jsonl", *SMALL, "--seed", seed)
        assert done.returncode == 0, done.stderr
    a, b, c = (digest(tmp_path / name) for name in "abc")
    assert a == b
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert not set(a.values()) & set(c.values())
    assert not {name for name in a if name.startswith("images")} & set(c)


@pytest.mark.parametrize("inside", ["truth.jsonl", "images/truth.jsonl"])
def test_the_truth_may_not_lie_in_the_folder(write_hospital, tmp_path, inside):
    done = write_hospital(tmp_path / "h", tmp_path / "h" / inside, *SMALL)
    assert done.returncode != 0
    assert "may not lie inside" in done.stderr


def test_a_folder_with_images_is_not_overwritten(write_hospital, tmp_path):
    for wanted in (0, 1):
        done = write_hospital(tmp_path / "h", tmp_path / "t.jsonl", *SMALL)
        assert done.returncode == wanted
    assert "already holds images" in done.stderr
