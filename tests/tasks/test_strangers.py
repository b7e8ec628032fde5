"""Whose picture is shown instead: of another patient, and the same one whatever comes later."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from medgr2.infra.lake import Lake
from medgr2.infra.settings import StorageSettings
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.items import Item
from medgr2.schemas.vocabulary import QuestionType
from medgr2.tasks.strangers import Strangers

FIRST = datetime(2026, 1, 1, tzinfo=UTC)


def image(number: int, patient: str | None, run: str = "a", days: int = 0) -> dict[str, Any]:
    return {
        "image_id": sha256_hex(f"image {number}".encode()), "modality": "CT", "split": "train", "patient_key": patient,
        "run": run, "added_at": FIRST + timedelta(days=days),
    }  # fmt: skip


def item(row: dict[str, Any], text: str) -> Item:
    return Item(
        image_id=row["image_id"], question_type=QuestionType.DISEASE, question=text,
        options=("cyst", "nodule", "normal", "fibrosis"), answer="A", rationale="It is a cyst.",
    )  # fmt: skip


def test_a_stranger_is_of_another_patient_and_all_are_taken(tmp_path: Path) -> None:
    lake = Lake(StorageSettings(root=str(tmp_path)))
    rows = [image(n, f"p{n // 3}") for n in range(12)]
    lake.append_new("images", rows, key="image_id")
    patient = {row["image_id"]: row["patient_key"] for row in rows}
    strangers = Strangers(lake)
    chosen = [(row, strangers.of(item(row, f"What is seen in case {n}?"), 2)) for row in rows for n in range(30)]
    assert all(len({row["patient_key"], *(patient[other] for other in others)}) == 3 for row, others in chosen)
    assert {other for _, others in chosen for other in others} == set(patient)


def test_pictures_that_come_later_change_no_choice(tmp_path: Path) -> None:
    lake = Lake(StorageSettings(root=str(tmp_path)))
    rows = [image(n, f"p{n}") for n in range(10)]
    lake.append_new("images", rows, key="image_id")
    asked = [item(row, "What is seen?") for row in rows]
    before = [Strangers(lake).of(one, 3) for one in asked]
    later = [image(n, f"p{n}", run="b", days=1) for n in range(10, 200)]
    lake.append_new("images", later, key="image_id")
    assert [Strangers(lake).of(one, 3) for one in asked] == before
    # The later ones see all that is held.
    shown = {other for row in later for other in Strangers(lake).of(item(row, "What is seen?"), 3)}
    assert shown & {row["image_id"] for row in rows}


def test_one_patient_alone_has_no_stranger(tmp_path: Path) -> None:
    lake = Lake(StorageSettings(root=str(tmp_path)))
    rows = [image(n, "p") for n in range(3)]
    lake.append_new("images", rows, key="image_id")
    assert Strangers(lake).of(item(rows[0], "What is seen?"), 3) == []
    assert Strangers(lake).of(item(image(99, None), "What is seen?"), 3) == []
