"""Labels that are offered as wrong options: real ones, of the same place, none of the image's own, and steady."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from medgr2.infra.lake import Lake
from medgr2.infra.settings import StorageSettings
from medgr2.schemas.vocabulary import QuestionType
from medgr2.tasks.facts import read_pools
from medgr2.tasks.label_rings import RINGS

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DISEASE, GRADING, ANATOMY, OTHER = (
    QuestionType.DISEASE, QuestionType.GRADING, QuestionType.ANATOMY, QuestionType.ATTRIBUTE,
)  # fmt: skip


class Ward:
    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.rows: dict[str, dict[str, Any]] = {}

    def image(self, name: str, day: int = 0, **told: Any) -> None:
        anatomy, place = told.pop("anatomy", None), {"modality": "CT", "source": "s", "split": "train"}
        for key in place:
            place[key] = told.pop(key, place[key])
        row = {"image_id": name, "anatomy": anatomy, "labels": json.dumps(told) if told else None, **place}
        self.rows[name] = row
        self.lake.append_new("images", [{**row, "added_at": NOW + timedelta(days=day)}], key="image_id")

    def offered(self, name: str, kind: QuestionType = DISEASE) -> tuple[str, ...]:
        return read_pools(self.lake, [name]).candidates(self.rows[name], kind)


@pytest.fixture
def ward(tmp_path: Any) -> Ward:
    return Ward(Lake(StorageSettings(root=str(tmp_path / "root"))))


def test_labels_of_the_same_kind_source_and_modality(ward: Ward) -> None:
    ward.image("a", diagnosis="cyst", grade="mild", anatomy="liver", attributes="round")
    ward.image("b", diagnosis="nodule; scar", grade="severe", anatomy="kidney", attributes="oval | lobed")
    ward.image("c", diagnosis="fracture", modality="MRI")
    ward.image("d", diagnosis="effusion", source="t")
    assert set(ward.offered("a")) == {"nodule", "scar"}
    assert ward.offered("a", GRADING) == ("severe",)
    assert ward.offered("a", ANATOMY) == ("kidney",)
    assert set(ward.offered("a", OTHER)) == {"oval", "lobed"}
    assert ward.offered("c") == ward.offered("d") == ()


def test_the_modalities_are_a_list_of_their_own(ward: Ward) -> None:
    ward.image("a")
    offered = ward.offered("a", QuestionType.MODALITY)
    assert len(offered) == 7
    assert "CT" not in offered


def test_none_of_its_own_however_it_is_written(ward: Ward) -> None:
    ward.image("a", diagnosis="Cyst; old scar")
    ward.image("b", diagnosis="cyst.")
    ward.image("c", diagnosis="OLD SCAR|nodule")
    assert ward.offered("a") == ("nodule",)


def test_of_several_spellings_one(ward: Ward) -> None:
    ward.image("a")
    for name, spelling in zip("bcd", ("nodule", "Nodule", "NODULE."), strict=True):
        ward.image(name, diagnosis=spelling)
    assert len(ward.offered("a")) == 1


def test_the_exam_keeps_its_labels(ward: Ward) -> None:
    ward.image("a")
    ward.image("b", diagnosis="nodule", split="heldout")
    ward.image("c", diagnosis="scar", split="validation")
    assert ward.offered("a") == ()


def test_descriptions_are_no_options(ward: Ward) -> None:
    ward.image("a")
    ward.image("b", diagnosis="a " * 60)
    ward.image("c", diagnosis="?")
    assert ward.offered("a") == ()


def test_what_comes_in_later_is_offered_to_later_ones_only(ward: Ward) -> None:
    ward.image("a", day=1, diagnosis="cyst")
    ward.image("b", day=0, diagnosis="nodule")
    before = ward.offered("a")
    ward.image("c", day=2, diagnosis="scar")
    assert ward.offered("a") == before == ("nodule",)
    assert ward.offered("b") == ()
    assert set(ward.offered("c")) == {"cyst", "nodule"}


def test_of_many_a_few_by_hash_so_that_one_less_disturbs_few(ward: Ward) -> None:
    for n in range(40):
        ward.image(f"{n:064x}", diagnosis=f"finding {n}")
    pools = read_pools(ward.lake, list(ward.rows))
    before = {name: pools.candidates(row, DISEASE) for name, row in ward.rows.items()}
    assert {len(offered) for offered in before.values()} == {RINGS}
    assert len(set(before.values())) == 40, "each image has its own"
    ward.lake.amend("images", lambda held: _relabelled(held, 7), key="image_id")
    pools = read_pools(ward.lake, list(ward.rows))
    after = {name: pools.candidates(row, DISEASE) for name, row in ward.rows.items() if not name.endswith("7")}
    had = {name for name in after if "finding 7" in before[name]}
    assert 0 < len(had) < 20
    assert {name for name in after if after[name] != before[name]} == had


def _relabelled(held: Any, number: int) -> Any:
    from medgr2.infra.lake import Amendment

    rows = [row for row in held.to_pylist() if row["image_id"] == f"{number:064x}"]
    return Amendment(True, [[{**row, "labels": '{"diagnosis": "finding 8"}'} for row in rows]])
