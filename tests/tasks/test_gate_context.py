"""What drafts are compared with: every evaluation set that is there, and none passed over in silence."""

from __future__ import annotations

from typing import Any

from deltalake import DeltaTable

from medgr2.models.gates import sift
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import EVALUATION_DATASETS
from medgr2.schemas.vocabulary import QuestionType
from medgr2.tasks.gate_context import compare_with, members_of
from medgr2.tasks.night import Night

NIGHT = Night(
    run="ds/one", dataset="ds", base_id="b", base="b", generator="g", scorer="s", champion_id=None, images="",
    history=None,
)  # fmt: skip


def draft(image_id: str) -> Item:
    return Item(
        image_id=image_id, question_type=QuestionType.DISEASE, question="What is the diagnosis?",
        options=("cyst", "nodule", "normal", "fibrosis"), answer="A", rationale="CT shows a cyst, so cyst.",
    )  # fmt: skip


def test_sets_that_are_there_are_compared_and_absent_ones_are_told(room: Any) -> None:
    held = room.picture(1, split="heldout")
    room.publish("heldout", [room.item(held, 1, "human")])
    compared = compare_with(room.lake, NIGHT, [draft(room.picture(2))])
    assert compared.sets["heldout"] == 1
    assert set(compared.sets) == set(EVALUATION_DATASETS)
    assert sum(compared.sets.values()) == 1
    assert compared.context.unread == frozenset()


def test_a_set_that_cannot_be_read_whole_lets_nothing_through(room: Any) -> None:
    held = room.picture(1, split="heldout")
    gone = room.item(held, 2, "human")
    room.publish("heldout", [room.item(held, 1, "human"), gone])
    DeltaTable(f"{room.settings.storage.root}/lake/items").delete(f"item_id = '{gone}'")
    one = draft(room.picture(2))
    context = compare_with(room.lake, NIGHT, [one]).context
    assert context.unread == {"heldout"}
    assert sift([one], context)[one.item_id] == ("evaluation_unread",)


def test_an_image_made_of_a_benchmarks_file_is_refused(room: Any) -> None:
    """Ingest strips and converts: the image has another hash than the file that the benchmark lists."""
    image = room.picture(3)
    file = sha256_hex(b"the file as the benchmark has it")
    rows = room.lake.read("images", where={"image_id": image}).to_pylist()
    made_of_it = {**rows[0], "image_id": sha256_hex(b"another"), "origin": file}
    room.lake.append_new("images", [made_of_it], key="image_id")
    listed = {"benchmark_id": "1" * 64, "benchmark": "some", "content": file, "fingerprint": None}
    room.lake.append_new("benchmarks", [listed], key="benchmark_id")
    suspect, other = draft(made_of_it["image_id"]), draft(image)
    judged = sift([suspect, other], compare_with(room.lake, NIGHT, [suspect, other]).context)
    assert judged[suspect.item_id] == ("looks_like_evaluation",)
    assert judged[other.item_id] == ()


def test_a_dataset_that_was_never_published_has_no_members(room: Any) -> None:
    assert members_of(room.lake, "seed") == set()
