"""Items that may not stay, in a lake of a few rows; nights through the real ingest are in test_incremental."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from medgr2.infra.lake import Lake
from medgr2.infra.settings import StorageSettings
from medgr2.models.facts import Facts
from medgr2.tasks.outdated import outdated, renew_contexts, superseded

NOW = datetime(2026, 1, 1, tzinfo=UTC)
IMAGE = {"split": "train", "modality": "CT", "report": "A cyst.", "source": "s"}
SHOWN = ("report", "labels")


@pytest.fixture
def lake(tmp_path: Any) -> Lake:
    return Lake(StorageSettings(root=str(tmp_path / "root")))


def note(lake: Lake, minute: int, file: str, *images: str, verdict: str = "accepted") -> None:
    at = NOW + timedelta(minutes=minute)
    lake.append(
        "files", [{"file_id": file, "images": [*images], "verdict": verdict, "seen_at": at}], once=f"{file}{minute}"
    )


def write(lake: Lake, item: str, image: str, **more: Any) -> None:
    row = {"item_id": item, "image_id": image, "origin": "generated", "options": ["a"], "question": "?", **more}
    lake.append_new("items", [row], key="item_id")


def test_nothing_is_superseded_where_nothing_was_noted(lake: Lake) -> None:
    assert superseded(lake) == set()
    assert outdated(lake) == set()


def test_of_several_pictures_of_a_file_only_those_that_it_gives_no_more(lake: Lake) -> None:
    note(lake, 0, "film", "a", "b", "c")
    note(lake, 1, "film", "a", "d")
    note(lake, 0, "other", "c")
    assert superseded(lake) == {"b"}


@pytest.mark.parametrize("verdict", ["rejected", "failed"])
def test_a_file_that_gives_nothing_now_replaces_nothing(lake: Lake, verdict: str) -> None:
    note(lake, 0, "file", "a")
    note(lake, 1, "file", verdict=verdict)
    assert superseded(lake) == set()
    note(lake, 2, "file", "b")
    assert superseded(lake) == {"a"}


def test_items_follow_the_facts_that_their_prompt_showed(lake: Lake) -> None:
    lake.append_new("images", [{**IMAGE, "image_id": "a", "labels": '{"grade": "II"}'}], key="image_id")
    now = Facts.of({**IMAGE, "labels": '{"grade": "II"}'})
    before = Facts.of({**IMAGE, "labels": '{"grade": "I"}'})
    write(lake, "fresh", "a", context=now.context(SHOWN))
    write(lake, "stale", "a", context=before.context(SHOWN))
    write(lake, "not shown", "a", context=before.context(("report",)))
    write(lake, "of an older release", "a")
    write(lake, "by a person", "a", origin="human", context=before.context(SHOWN))
    write(lake, "of an erased image", "z", context=before.context(SHOWN))
    assert outdated(lake) == {"stale"}


def test_what_is_written_again_word_for_word_stands_on_the_new_facts(lake: Lake) -> None:
    lake.append_new("images", [{**IMAGE, "image_id": "a"}], key="image_id")
    old = Facts.of({**IMAGE, "report": "A nodule."}).context(SHOWN)
    write(lake, "again", "a", context=old, prompt="kept", added_at=NOW)
    write(lake, "other", "a", context=old)
    write(lake, "human", "a", context=None, origin="human")
    renew_contexts(lake, dict.fromkeys(("again", "human", "unheard of"), Facts.of(IMAGE).context(SHOWN)))
    assert outdated(lake) == {"other"}
    rows = {row["item_id"]: row for row in lake.read("items").to_pylist()}
    assert (rows["again"]["prompt"], rows["again"]["added_at"], rows["again"]["question"]) == ("kept", NOW, "?")
    assert rows["human"]["context"] is None
    version = lake.version("items")
    renew_contexts(lake, {"again": Facts.of(IMAGE).context(SHOWN)})
    assert lake.version("items") == version, "nothing to say is not said"
