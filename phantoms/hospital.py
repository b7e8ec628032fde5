"""`python -m medgr2_phantoms.hospital`: write one hospital's folder of images, and its truth somewhere else."""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from medgr2_phantoms.questions import QUESTION_TYPES, TOPICS, ask, fixed_label
from medgr2_phantoms.reports import WRONG, write_report
from medgr2_phantoms.world import Scene, draw, sample_scene

Split = Literal["train", "heldout"]
SOURCE, LICENCE = "medgr2 phantoms", "CC0-1.0"
COLUMNS = ("file", "patient_id", "modality", "report", "source", "licence", "split")


class Study(NamedTuple):
    """One image of one patient, as the hospital filed it."""

    file: str
    patient_id: str
    split: Split
    scene: Scene
    report: str
    png: bytes


def _name(*parts: object) -> str:
    """An opaque name: the same parts always give it, and nothing can be read from it."""
    return hashlib.sha256("/".join(str(part) for part in parts).encode()).hexdigest()[:16]


def see_patients(count: int, split: Split, seed: int) -> list[Study]:
    """Images of as many patients as it takes, one to three each; a return visit may look at the same place again."""
    rng = np.random.default_rng([seed, 0 if split == "train" else 1])
    studies: list[Study] = []
    patient = 0
    while len(studies) < count:
        patient += 1
        first = sample_scene(rng, **fixed_label(str(rng.choice(QUESTION_TYPES)), rng))
        for visit in range(min(int(rng.integers(1, 4)), count - len(studies))):
            scene = first
            if visit:
                same = {"modality": first.modality, "anatomy": first.anatomy} if rng.random() < 0.5 else {}
                scene = sample_scene(rng, **same)
            picture = BytesIO()
            draw(scene, "ward").save(picture, "PNG")
            studies.append(
                Study(
                    file=f"images/{_name('image', seed, split, len(studies))}.png",
                    patient_id=f"P{_name('patient', seed, split, patient)}",
                    split=split,
                    scene=scene,
                    report=write_report(scene, WRONG["ward"], rng),
                    png=picture.getvalue(),
                )
            )
    return studies


def examine(studies: Sequence[Study], count: int, rng: np.random.Generator) -> list[dict[str, object]]:
    """Human questions about these images: types in turn, keys even over their labels, no image asked the same twice."""
    rows: list[dict[str, object]] = []
    asked: set[tuple[str, str]] = set()
    for number in range(count):
        question_type = QUESTION_TYPES[number % len(QUESTION_TYPES)]
        key = TOPICS[question_type].key
        wanted = next(iter(fixed_label(question_type, rng).values()))
        unasked = [study for study in studies if (study.file, question_type) not in asked]
        if not unasked:
            raise SystemExit(f"{len(studies)} images are too few for {count} questions; raise --images")
        fitting = [study for study in unasked if key(study.scene) == wanted] or unasked
        study = fitting[int(rng.integers(len(fitting)))]
        asked.add((study.file, question_type))
        question = ask(study.scene, question_type, rng)
        rows.append(
            {
                "file": study.file,
                "question_type": question_type,
                "question": question.question,
                "options": list(question.options),
                "answer": question.answer,
                "rationale": question.rationale,
            }
        )
    return rows


def broken_files(count: int, seed: int) -> list[tuple[str, bytes]]:
    """Files an ingest must refuse: a PNG cut short, an empty file, a text that calls itself a PNG."""
    rng = np.random.default_rng([seed, 3])
    files = []
    for index in range(count):
        whole = BytesIO()
        draw(sample_scene(rng), "ward").save(whole, "PNG")
        contents = (whole.getvalue()[: len(whole.getvalue()) // 2], b"", f"not an image {index}\n".encode())
        files.append((f"images/{_name('broken', seed, index)}.png", contents[index % 3]))
    return files


def _write_lines(path: Path, rows: Sequence[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def open_hospital(out: Path, truth: Path, images: int, heldout: int, seed_qa: int, corrupt: int, seed: int) -> None:
    """Write the folder and the truth; held-out images are as many as held-out questions, with other patients."""
    if truth.resolve().is_relative_to(out.resolve()):
        raise SystemExit(f"the truth may not lie inside the hospital's folder: {truth} is under {out}")
    pictures = out / "images"
    if pictures.exists() and any(pictures.iterdir()):
        raise SystemExit(f"{pictures} already holds images; give --out an empty or new folder")
    pictures.mkdir(parents=True, exist_ok=True)
    truth.parent.mkdir(parents=True, exist_ok=True)
    train, held = see_patients(images, "train", seed), see_patients(heldout, "heldout", seed)
    listed = [
        (s.file, s.patient_id, s.scene.modality, s.report, SOURCE, LICENCE, s.split) for s in sorted(train + held)
    ]
    for study in train + held:
        (out / study.file).write_bytes(study.png)
    for name, content in broken_files(corrupt, seed):
        (out / name).write_bytes(content)
        listed.append((name, f"P{_name('patient', seed, name)}", "CT", "", SOURCE, LICENCE, "train"))
    with (out / "labels.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(listed)
    rng = np.random.default_rng([seed, 2])
    _write_lines(out / "seed_qa.jsonl", examine(train, seed_qa, rng))
    _write_lines(out / "heldout.jsonl", examine(held, heldout, rng))
    _write_lines(
        truth,
        [
            {"image_sha256": hashlib.sha256(study.png).hexdigest(), "scene": study.scene.model_dump()}
            for study in train + held
        ],
    )
    print(
        f"{out}: {len(train)} train and {len(held)} held-out images of "
        f"{len({study.patient_id for study in train + held})} patients, {seed_qa} seed questions, "
        f"{heldout} held-out questions, {corrupt} broken files; truth in {truth}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m medgr2_phantoms.hospital", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write; nothing in it tells the truth")
    parser.add_argument("--truth", type=Path, required=True, help="file for the oracle, outside --out")
    parser.add_argument("--images", type=int, default=1000, help="unlabelled training images")
    parser.add_argument("--heldout", type=int, default=300, help="held-out questions, and as many held-out images")
    parser.add_argument("--seed-qa", type=int, default=150, help="human questions about training images")
    parser.add_argument("--corrupt", type=int, default=0, help="broken files to add")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    open_hospital(chosen.out, chosen.truth, chosen.images, chosen.heldout, chosen.seed_qa, chosen.corrupt, chosen.seed)


if __name__ == "__main__":
    main()
