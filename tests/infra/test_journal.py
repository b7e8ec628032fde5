"""The journal: durable groups, merges and races that read as if nothing had happened, damage that is named."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgr2.infra import journal as journal_module
from medgr2.infra import journal_segment
from medgr2.infra.journal import FAN_IN, Journal
from medgr2.infra.journal_index import Standing
from medgr2.infra.objects_folder import FolderStore
from medgr2.schemas.cells import Outcome, Recipe
from medgr2.schemas.errors import DataError, UsageError
from medgr2.schemas.usage import Usage
from medgr2.schemas.vocabulary import Verdict

RECIPE = Recipe(stage="squares", code="1")
CELLS = [RECIPE.cell(inputs={"n": n}) for n in range(200)]


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def done(n: int, **more: object) -> Outcome:
    return Outcome.accepted(CELLS[n], {"n": n, **more})


def failed(n: int, attempt: int) -> Outcome:
    return Outcome(CELLS[n].key, Verdict.FAILED, None, ("ValueError",), f"try {attempt}", attempt)


def segments(store: FolderStore) -> list[str]:
    return [info.key for info in store.list("journal/")]


def test_what_was_appended_reads_back_with_every_field(store: FolderStore) -> None:
    outcomes = [
        Outcome(CELLS[0].key, Verdict.ACCEPTED, {"text": 'µ 漢 \x00 "', "list": [1, None, 2.5, {"a": []}]}, (), "", 1),
        Outcome(CELLS[1].key, Verdict.REJECTED, None, ("blurred", "blank"), "two reasons", 2),
        Outcome(CELLS[2].key, Verdict.FAILED, {}, ("ValueError",), "x.py:3", 3),
    ]
    Journal(store, "squares").append(outcomes)
    assert Journal(store, "squares").outcomes([c.key for c in CELLS[:4]]) == {o.key: o for o in outcomes}


def test_stages_do_not_see_each_other(store: FolderStore) -> None:
    Journal(store, "squares").append([done(1)])
    assert Journal(store, "squares-2").outcomes() == {}
    assert len(Journal(store, "squares").index()) == 1


def test_outcomes_come_in_the_order_of_the_keys_and_each_once(store: FolderStore) -> None:
    Journal(store, "squares").append([done(n) for n in (3, 1, 2)])
    asked = [CELLS[n].key for n in (2, 9, 3, 2, 1)]
    assert list(Journal(store, "squares").outcomes(asked)) == [CELLS[n].key for n in (2, 3, 1)]


def test_the_latest_failure_holds_until_a_final_outcome_which_holds_for_ever(store: FolderStore) -> None:
    journal = Journal(store, "squares")
    key = CELLS[0].key
    journal.append([failed(0, 2)])
    journal.append([failed(0, 1)])
    assert journal.index().standings([key]) == {key: Standing(Verdict.FAILED, 2)}
    journal.append([done(0, who="first")])
    journal.append([done(0, who="second")])
    journal.append([failed(0, 9)])
    assert journal.outcomes([key])[key].value == {"n": 0, "who": "first"}


def test_an_open_journal_sees_what_others_append_and_merge(store: FolderStore) -> None:
    mine, other = Journal(store, "squares"), Journal(store, "squares")
    assert len(mine.index()) == 0
    for n in range(FAN_IN):
        other.append([done(n)])
    assert len(mine.index()) == FAN_IN
    assert other.merge() == FAN_IN
    assert len(mine.index()) == FAN_IN
    assert mine.outcomes([CELLS[5].key])[CELLS[5].key].value == {"n": 5}
    assert len(segments(store)) == 1


def test_a_merge_killed_before_its_deletes_reads_the_same(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(store, "squares")
    for n in range(FAN_IN):
        journal.append([done(n), failed(n + 100, 1)])
    before = Journal(store, "squares").outcomes()
    real = FolderStore(store.root)
    for kill_after in (0, 1, 7):
        left = kill_after

        def delete(key: str) -> None:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            real.delete(key)

        with monkeypatch.context() as patch:
            patch.setattr(store, "delete", delete)
            with pytest.raises(KeyboardInterrupt):
                Journal(store, "squares")._merge_group([k.rpartition("/")[2] for k in segments(store)])
        assert Journal(store, "squares").outcomes() == before
    for n in range(FAN_IN):
        Journal(store, "squares").append([done(n)])
    Journal(store, "squares").merge()
    assert Journal(store, "squares").outcomes() == before


@pytest.mark.parametrize("spoil", [lambda d: d[:-7], lambda d: b"", lambda d: d[:50] + b"\xff" + d[51:]])
def test_a_damaged_segment_is_named_and_its_cells_count_as_not_done(store: FolderStore, spoil: object) -> None:
    journal = Journal(store, "squares")
    journal.append([done(1)])
    victim = segments(store)[0]
    journal.append([done(2)])
    store.put(victim, spoil(store.get(victim)))  # type: ignore[operator]
    fresh = Journal(store, "squares")
    assert list(fresh.outcomes([CELLS[1].key, CELLS[2].key])) == [CELLS[2].key]
    assert len(fresh.damaged) == 1
    assert victim in fresh.damaged[0]
    # Damage after the index was read is found as well, when the values are.
    assert list(journal.outcomes([CELLS[1].key, CELLS[2].key])) == [CELLS[2].key]


def test_a_merge_leaves_a_damaged_segment_where_a_person_can_look_at_it(store: FolderStore) -> None:
    for n in range(FAN_IN + 1):
        Journal(store, "squares").append([done(n)])
    victim = segments(store)[3]
    store.put(victim, store.get(victim)[:-1])
    journal = Journal(store, "squares")
    journal.merge()
    assert victim in segments(store)
    assert len(Journal(store, "squares").outcomes()) == FAN_IN


def test_an_object_that_is_no_segment_is_named_not_read(store: FolderStore) -> None:
    Journal(store, "squares").append([done(1)])
    store.put("journal/squares/notes.txt", b"do not delete")
    journal = Journal(store, "squares")
    assert len(journal.outcomes()) == 1
    assert "notes.txt" in journal.damaged[0]


def test_many_writers_and_mergers_at_once_lose_nothing(store: FolderStore) -> None:
    def write(part: int) -> None:
        journal = Journal(store, "squares")
        for n in range(part, 200, 4):
            journal.append([done(n)])
            if n % 3 == 0:
                journal.merge()

    threads = [threading.Thread(target=write, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen = Journal(store, "squares").outcomes()
        assert all(seen[key].value == {"n": n} for n, key in enumerate(c.key for c in CELLS) if key in seen)
    assert len(Journal(store, "squares").outcomes()) == 200


@pytest.mark.parametrize("name", ["", "../evil", "A", "a/b"])
def test_a_stage_name_that_is_no_folder_is_refused(store: FolderStore, name: str) -> None:
    with pytest.raises(UsageError):
        Journal(store, name)


def test_a_key_that_no_recipe_made_is_refused(store: FolderStore) -> None:
    with pytest.raises(DataError, match="not a cell key"):
        Journal(store, "squares").append([Outcome("mine", Verdict.ACCEPTED, {})])


ROWS = st.tuples(
    # Few keys, and pairs of keys that share their first eight bytes: the index sorts by those first.
    st.sampled_from([f"{a:016x}{b:048x}" for a in (0, 1, 2**64 - 1) for b in (0, 1, 2**192 - 1)]),
    st.sampled_from(list(Verdict)),
    st.integers(1, 5),
    st.text(max_size=3),
)


@settings(max_examples=60)
@given(groups=st.lists(st.lists(ROWS, min_size=1, max_size=6), max_size=12), fan_in=st.integers(2, 5), data=st.data())
def test_any_merging_reads_as_the_plain_history(
    tmp_path_factory: pytest.TempPathFactory,
    groups: list[list[tuple[str, Verdict, int, str]]],
    fan_in: int,
    data: st.DataObject,
) -> None:
    store = FolderStore(tmp_path_factory.mktemp("journal"))
    expected: dict[str, Outcome] = {}
    journal = Journal(store, "squares")
    before, journal_module.FAN_IN = journal_module.FAN_IN, fan_in
    try:
        for group in groups:
            outcomes = [Outcome(key, verdict, {"t": text}, (), "", attempt) for key, verdict, attempt, text in group]
            journal.append(outcomes)
            for new in outcomes:
                held = expected.get(new.key)
                if held is None or (
                    held.verdict is Verdict.FAILED
                    and (new.verdict is not Verdict.FAILED or new.attempt >= held.attempt)
                ):
                    expected[new.key] = new
            if data.draw(st.booleans()):
                Journal(store, "squares").merge()
        for reader in (journal, Journal(store, "squares")):
            assert reader.outcomes() == expected
            some = data.draw(st.lists(st.sampled_from(sorted(expected)))) if expected else []
            assert reader.outcomes(some) == {key: expected[key] for key in some}
    finally:
        journal_module.FAN_IN = before


def test_usage_is_kept_through_merges_and_absent_where_nobody_counted(store: FolderStore) -> None:
    used = [replace(Outcome.accepted(c, {}), usage=Usage(n, 2 * n, 3 * n, 0.5, 0.25)) for n, c in enumerate(CELLS[:5])]
    plain = Outcome.accepted(CELLS[5], {})
    journal = Journal(store, "squares")
    journal.append([*used[:3], plain])
    journal.append(used[3:])
    for _ in range(FAN_IN):
        journal.append([Outcome.accepted(CELLS[6], {})])
    assert journal.merge() > 0
    found = Journal(store, "squares").outcomes()
    assert [found[o.key].usage for o in used] == [o.usage for o in used]
    assert {o.usage and o.usage.seconds for o in found.values()} == {0.5, None}
    assert found[plain.key].usage is None


def test_segments_of_the_release_before_usage_are_read_and_merged(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pa.schema(list(journal_segment.SCHEMA)[:7])
    with monkeypatch.context() as then:
        then.setattr(journal_segment, "SCHEMA", before)
        then.setattr(journal_segment, "_usage_columns", lambda _: [])
        for n in range(FAN_IN - 1):
            Journal(store, "squares").append([Outcome.accepted(CELLS[n % 9], {"n": n % 9})])
    journal = Journal(store, "squares")
    assert {o.usage for o in journal.outcomes().values()} == {None}
    assert journal.spent([c.key for c in CELLS], 0).total == Usage()
    since = time.time_ns()
    journal.append([replace(Outcome.accepted(CELLS[9], {"n": 9}), usage=Usage(calls=2))])
    assert journal.merge() == FAN_IN
    merged = Journal(store, "squares")
    assert [merged.outcomes()[c.key].value for c in CELLS[:10]] == [{"n": n} for n in range(10)]
    assert merged.spent([c.key for c in CELLS], 0).total.calls == 2
    assert merged.spent([c.key for c in CELLS], since).total.calls == 2


def test_what_a_cell_cost_is_the_sum_of_its_tries_each_counted_once(store: FolderStore) -> None:
    journal, key = Journal(store, "squares"), CELLS[0].key
    tries = [Outcome(key, Verdict.FAILED, None, ("x",), "", n, Usage(calls=n)) for n in (1, 2)]
    journal.append([tries[0], Outcome(CELLS[1].key, Verdict.FAILED, None, ("x",), "", 1, Usage(calls=50))])
    middle = time.time_ns()
    journal.append([tries[1]])
    journal.append([replace(Outcome.accepted(CELLS[0], {}), usage=Usage(calls=4))])
    # A merge that was killed before its deletes: the same tries lie in two segments.
    (first, *_) = [info.key for info in store.list("journal/")]
    data = store.get(first)
    name, again = journal_segment.encode(journal_segment.decode(first.rpartition("/")[2], data), 1)
    store.create(f"journal/squares/{name}", again)
    fresh = Journal(store, "squares")
    spent = fresh.spent([key], 0)
    assert (spent.total.calls, spent.dearest.calls) == (7, 4)
    assert fresh.spent([key], middle).total.calls == 6
    assert fresh.spent([], 0).total.calls == 0


def test_reasons_are_counted_without_reading_values(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(store, "squares")
    journal.append([Outcome.rejected(c, "blurred", *(["twice"] if n else [])) for n, c in enumerate(CELLS[:3])])
    journal.append([Outcome.accepted(CELLS[3], {}), Outcome.rejected(CELLS[4], "blurred")])
    monkeypatch.setattr(journal_module, "decode_rows", None)
    assert journal.reasons([c.key for c in CELLS[1:]]) == {"blurred": 3, "twice": 2}
