"""What was taught and is held still is compared with the exam; what was erased since stops none."""

from __future__ import annotations

from typing import Any

import pytest

from medgr2.infra.workspace import Workspace
from medgr2.models.registry import Registration, Registry, Source
from medgr2.schemas.errors import DataError
from medgr2.schemas.vocabulary import Role
from medgr2.tasks.evaluate import read_heldout
from medgr2.tasks.examination import examine
from medgr2.tasks.lessons import read_lessons
from medgr2.tasks.remembered import check_disjoint, left_in


def exam(room: Any) -> Any:
    items = [room.item(room.picture(i, split="heldout", patient=f"p{i // 2}"), i, "human") for i in range(4)]
    return room.publish("heldout", items)


def test_a_shared_image_or_patient_stops_the_exam(room: Any) -> None:
    heldout = read_heldout(room.lake, exam(room))
    clean = room.source("clean", [room.item(room.picture(50, patient="someone else"), 50)])
    check_disjoint(heldout, left_in(room.lake, [clean]))
    patient = room.source("patient", [room.item(room.picture(51, patient="p1"), 51)])
    with pytest.raises(DataError, match="0 images and 1 patients"):
        check_disjoint(heldout, left_in(room.lake, [clean, patient]))


def test_who_has_no_patient_shares_none(room: Any) -> None:
    heldout = [row | {"patient_key": ""} for row in read_heldout(room.lake, exam(room))]
    source = room.source("nobody", [room.item(room.picture(52), 52)])
    taught = left_in(room.lake, [source])
    assert taught.patients == {"patient-52"}
    check_disjoint(heldout, taught)


@pytest.mark.parametrize("erased", ["items", "images", "membership"])
def test_a_champion_whose_lessons_lost_an_item_sits_its_exams_still(room: Any, erased: str) -> None:
    heldout = exam(room)
    ids = [room.item(room.picture(60 + n, patient=f"q{n}"), 60 + n) for n in range(3)]
    source = room.source("lessons", ids)
    (lost,) = room.lake.read("items", where={"item_id": ids[0]}).to_pylist()
    column = "image_id" if erased == "images" else "item_id"
    with room.lake.state(erased, write=True) as table:
        table.delete(f"{column} = '{lost[column]}'")
    with pytest.raises(DataError):
        read_lessons(room.lake, [source])
    taught = left_in(room.lake, [source])
    assert taught.patients == {"q1", "q2"}
    assert taught.question_types == {"Modality Recognition"}
    workspace = Workspace(settings=room.settings, store=room.store, lake=room.lake, images=room.images)
    registry = Registry(room.store, room.lake)
    champion = registry.register(
        Registration(role=Role.POLICY, artifact=room.base, method="sft", sources=(source,), recipe="r", run="test")
    )
    rows = examine(workspace, registry.model(champion), heldout, run="r", announce=lambda _: None)
    assert len(rows) == 12
    # What is left of the lessons is compared all the same.
    shared = room.publish("heldout", [room.item(room.picture(70, split="heldout", patient="q2"), 70, "human")])
    with pytest.raises(DataError, match="0 images and 1 patients"):
        examine(workspace, registry.model(champion), shared, run="r", announce=lambda _: None)


def test_another_version_under_the_recorded_name_is_told(room: Any) -> None:
    source = room.source("lessons", [room.item(room.picture(80), 80)])
    with pytest.raises(DataError, match="has the digest"):
        left_in(room.lake, [Source(dataset=source.dataset, version=source.version, digest="0" * 64)])
