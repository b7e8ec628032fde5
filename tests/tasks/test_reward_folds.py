"""Folds of a reward: what shows the same patient, study, group or file stands together, and stays where it is."""

from __future__ import annotations

from typing import Any

import pytest

from medgr2.schemas.digest import sha256_hex
from medgr2.tasks.reward_folds import FOLDS, folds


def images(room: Any, *told: dict[str, Any]) -> list[str]:
    """Rows of `images` alone: folds look at no picture."""
    held = room.lake.read("images", ["image_id"]).num_rows
    ids = [sha256_hex(f"picture {held + n}".encode()) for n in range(len(told))]
    rows = [
        {"image_id": one, "split": "train", "added_at": room.now, **more} for one, more in zip(ids, told, strict=True)
    ]
    room.lake.append_new("images", rows, key="image_id")
    return ids


@pytest.mark.parametrize(
    "bond",
    [{"keys": ["a study", "its number"]}, {"origin": "a film"}, {"patient_key": "ann"}],
    ids=["group", "file", "patient"],
)
def test_what_is_bound_stands_in_one_fold(room: Any, bond: dict[str, Any]) -> None:
    """Of many hospitals no patient is known, and twenty slices are of one volume all the same."""
    bound, others = images(room, *[bond] * 20), images(room, *[{}] * 40)
    found = folds(room.lake, [*bound, *others])
    assert len({found[one] for one in bound}) == 1
    assert {found[one] for one in others} == set(range(FOLDS))


def test_one_picture_binds_two_patients(room: Any) -> None:
    a, b = [f"a{n}" for n in range(16)], [f"b{n}" for n in range(16)]
    firsts = images(room, *({"patient_key": one, "keys": [one]} for one in a))
    images(room, *({"patient_key": one, "keys": [one, other]} for one, other in zip(a, b, strict=True)))
    seconds = images(room, *({"patient_key": one, "keys": [one]} for one in b))
    found = folds(room.lake, [*firsts, *seconds])
    pairs = list(zip(firsts, seconds, strict=True))
    assert all(found[first] == found[second] for first, second in pairs), "though the one between was not asked for"
    assert {found[first] for first, _ in pairs} == set(range(FOLDS))


def test_what_comes_later_moves_nobody(room: Any) -> None:
    """Else a member would judge what it learned from."""
    known = images(room, *({"patient_key": f"p{n}", "keys": [f"p{n}", f"study {n}"]} for n in range(20)))
    alone = images(room, *[{}] * 20)
    found = folds(room.lake, [*known, *alone])
    later = ({"patient_key": f"p{n % 20}", "keys": [f"p{n % 20}", f"0 study {n}"]} for n in range(80))
    images(room, *later)
    assert folds(room.lake, [*known, *alone]) == found
    assert folds(room.lake, alone[:3]) == {one: found[one] for one in alone[:3]}
