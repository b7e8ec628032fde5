from __future__ import annotations

import json
import multiprocessing
import runpy
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from medgr2.infra.lake import Lake
from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.settings import StorageSettings
from medgr2.models.registry import Registration, Registry, Source
from medgr2.schemas.errors import ConflictError, DataError, NotFoundError, UsageError
from medgr2.schemas.vocabulary import Role

DATA = Source(dataset="nightly", version=3, digest="d" * 64)
SEED = Source(dataset="seed", version=1, digest="e" * 64)


def open_registry(root: Path) -> Registry:
    return Registry(FolderStore(str(root)), Lake(StorageSettings(root=str(root))))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(tmp_path)


def entry(artifact: str, role: Role = Role.POLICY, **other: object) -> Registration:
    return Registration.model_validate({"role": role, "artifact": artifact, "method": "sft", "run": "r1"} | other)


def test_registering_twice_adds_one_row_and_one_use_a_source(registry: Registry, tmp_path: Path) -> None:
    made = entry("a" * 64, sources=(DATA, SEED), recipe="rec", metrics={"training": {"last_loss": 0.1}}, parent="p")
    assert registry.register(made) == registry.register(made) == made.model_id
    lake = Lake(StorageSettings(root=str(tmp_path)))
    assert lake.read("models").num_rows == 1
    uses = lake.read("uses").to_pylist()
    assert {(u["model_id"], u["dataset"], u["version"], u["digest"], u["purpose"]) for u in uses} == {
        (made.model_id, "nightly", 3, "d" * 64, "train"),
        (made.model_id, "seed", 1, "e" * 64, "train"),
    }
    assert len(uses) == 2
    row = registry.model(made.model_id)
    assert (row["dataset"], row["dataset_version"], row["parent"]) == ("nightly", 3, "p")
    assert row["metrics"] == {"training": {"last_loss": 0.1}}


def test_the_id_is_what_it_is_and_not_when_or_how_well(registry: Registry) -> None:
    one = entry("a" * 64, recipe="rec", metrics={"x": 1}, run="monday")
    assert one.model_id == entry("a" * 64, recipe="rec", metrics={"x": 2}, run="tuesday").model_id
    assert len({one.model_id, entry("b" * 64, recipe="rec").model_id, entry("a" * 64, recipe="other").model_id}) == 3
    assert one.model_id != entry("a" * 64, Role.GENERATOR, recipe="rec").model_id


def test_champions_move_by_compare_and_set_and_go_back(registry: Registry) -> None:
    a, b, c = (registry.register(entry(x * 64)) for x in "abc")
    assert registry.champion(Role.POLICY) is None
    registry.promote(Role.POLICY, a, reason="first", expected_current=None)
    registry.promote(Role.POLICY, b, reason="better", expected_current=a)
    with pytest.raises(ConflictError, match="not aaaa" if a.startswith("aaaa") else "as expected"):
        registry.promote(Role.POLICY, c, reason="late", expected_current=a)
    assert registry.champion(Role.POLICY) == b
    registry.promote(Role.POLICY, c, reason="better still", expected_current=b)
    assert registry.rollback(Role.POLICY, reason="complaints").model_id == b
    assert registry.rollback(Role.POLICY, reason="more complaints").model_id == a
    registry.promote(Role.POLICY, c, reason="repaired", expected_current=a)
    assert [(m.action, m.model_id) for m in registry.history(Role.POLICY)] == [
        ("promote", a), ("promote", b), ("promote", c), ("rollback", b), ("rollback", a), ("promote", c),
    ]  # fmt: skip
    assert registry.champion(Role.GENERATOR) is None


def test_the_first_champion_is_taken_back_too(registry: Registry) -> None:
    a, b = (registry.register(entry(x * 64)) for x in "ab")
    registry.promote(Role.POLICY, a, reason="first", expected_current=None)
    gone = registry.rollback(Role.POLICY, reason="a mistake")
    assert (gone.model_id, gone.replaced, registry.champion(Role.POLICY)) == (None, a, None)
    with pytest.raises(NotFoundError, match="no earlier champion") as none:
        registry.rollback(Role.POLICY, reason="too far")
    assert none.value.next_command
    with pytest.raises(ConflictError, match="is unset, not"):
        registry.promote(Role.POLICY, b, reason="compared with what was taken back", expected_current=a)
    registry.promote(Role.POLICY, b, reason="better", expected_current=None)
    assert registry.rollback(Role.POLICY, reason="no").model_id is None
    registry.promote(Role.POLICY, a, reason="after all", expected_current=None)
    assert [m.model_id for m in registry.history(Role.POLICY)] == [a, None, b, None, a]
    assert [m.replaced for m in registry.history(Role.POLICY)] == [None, a, None, b, None]


def test_only_the_champion_that_was_looked_at_is_taken_back(registry: Registry) -> None:
    a, b = (registry.register(entry(x * 64)) for x in "ab")
    registry.promote(Role.POLICY, a, reason="first", expected_current=None)
    registry.promote(Role.POLICY, b, reason="by hand, meanwhile", expected_current=a)
    with pytest.raises(ConflictError, match=f"is {b[:12]}, not {a[:12]}"):
        registry.rollback(Role.POLICY, reason="a does harm", expected_current=a)
    assert registry.champion(Role.POLICY) == b
    assert registry.rollback(Role.POLICY, reason="b does harm", expected_current=b).model_id == a


def test_moves_of_an_older_release_are_read(registry: Registry, tmp_path: Path) -> None:
    a, b = (registry.register(entry(x * 64)) for x in "ab")
    for number, (action, model_id, replaced) in enumerate(
        (("promote", a, None), ("promote", b, a), ("rollback", a, b))
    ):
        said = {"role": "policy", "number": number, "action": action, "model_id": model_id, "replaced": replaced,
                "reason": "r", "moved_at": "2026-01-01T00:00:00Z"}  # fmt: skip
        FolderStore(str(tmp_path)).put(f"aliases/policy/{number:08d}.json", json.dumps(said).encode())
    assert registry.champion(Role.POLICY) == a
    assert registry.rollback(Role.POLICY, reason="further").model_id is None


def test_a_model_is_found_by_the_beginning_of_its_id(registry: Registry) -> None:
    ids = [registry.register(entry(f"{n:064x}")) for n in range(17)]
    begins = next(digit for digit in "0123456789abcdef" if sum(i.startswith(digit) for i in ids) > 1)
    assert registry.find(ids[0])["model_id"] == ids[0]
    assert registry.find(ids[0][:20])["model_id"] == ids[0]
    with pytest.raises(UsageError, match=f"models begin with {begins}"):
        registry.find(begins)
    for unknown in ("", "xyz", "f" * 64):
        with pytest.raises(NotFoundError, match="no model"):
            registry.find(unknown)


def test_promoting_the_champion_again_is_no_move(registry: Registry) -> None:
    a = registry.register(entry("a" * 64))
    first = registry.promote(Role.POLICY, a, reason="first", expected_current=None)
    # The same night run again: it expected no champion, and finds its own.
    assert registry.promote(Role.POLICY, a, reason="first", expected_current=None) == first
    assert len(registry.history(Role.POLICY)) == 1


def test_what_is_unknown_or_of_another_role_is_refused(registry: Registry) -> None:
    g = registry.register(entry("a" * 64, Role.GENERATOR))
    with pytest.raises(UsageError, match="is a generator"):
        registry.promote(Role.POLICY, g, reason="", expected_current=None)
    with pytest.raises(NotFoundError, match="no model"):
        registry.promote(Role.POLICY, "f" * 64, reason="", expected_current=None)
    with pytest.raises(NotFoundError):
        registry.rollback(Role.POLICY, reason="")
    base = registry.register(entry("b" * 64, Role.BASE))
    with pytest.raises(UsageError, match="is a base"):
        registry.promote(Role.BASE, base, reason="", expected_current=None)
    assert registry.champion(Role.BASE) is None


def test_a_model_remembers_what_its_parents_read(registry: Registry) -> None:
    base = registry.register(entry("a" * 64, Role.BASE))
    taught = registry.register(entry("b" * 64, sources=(SEED,), parent=base))
    practised = registry.register(entry("c" * 64, sources=(DATA,), parent=taught))
    assert registry.taught(practised) == (DATA, SEED)
    assert registry.taught(taught) == (SEED,)
    assert registry.taught(base) == ()


RACER = """
import sys
from pathlib import Path
from medgr2.infra.lake import Lake
from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.settings import StorageSettings
from medgr2.models.registry import Registry
from medgr2.schemas.errors import ConflictError
from medgr2.schemas.vocabulary import Role

registry = Registry(FolderStore(ROOT), Lake(StorageSettings(root=ROOT)))
won = 0
for _ in range(25):
    while True:
        try:
            registry.promote(Role.POLICY, MINE, reason=NAME, expected_current=registry.champion(Role.POLICY))
            break
        except ConflictError:
            pass
Path(ROOT, NAME).touch()
"""


def test_four_processes_race_and_every_move_follows_the_one_before(registry: Registry, tmp_path: Path) -> None:
    ids = [registry.register(entry(x * 64)) for x in "abcd"]
    program = tmp_path / "racer.py"
    program.write_text(RACER)
    context = multiprocessing.get_context("forkserver")
    racers = [
        context.Process(
            target=runpy.run_path, args=(str(program), {"ROOT": str(tmp_path), "MINE": mine, "NAME": f"racer{i}"})
        )
        for i, mine in enumerate(ids)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(400)
    assert [racer.exitcode for racer in racers] == [0] * 4
    moves = registry.history(Role.POLICY)
    assert [m.number for m in moves] == list(range(len(moves)))
    # Nobody replaced a champion that was not there: no move was lost, none was made on a stale look.
    assert [m.replaced for m in moves] == [None, *(m.model_id for m in moves[:-1])]
    assert {m.model_id for m in moves} == set(ids)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]"])
def test_a_damaged_move_says_which_and_what_to_do(registry: Registry, tmp_path: Path, damage: bytes) -> None:
    model = registry.register(entry("a" * 64))
    registry.promote(Role.POLICY, model, reason="first", expected_current=None)
    key = "aliases/policy/00000001.json"
    FolderStore(str(tmp_path)).put(key, damage)
    for ask in (lambda: registry.champion(Role.POLICY), lambda: registry.rollback(Role.POLICY, reason="x")):
        with pytest.raises(DataError, match="damaged") as raised:
            ask()
        assert raised.value.where == key
        assert "registered" in raised.value.kept
        assert "backup" in raised.value.next_command
    FolderStore(str(tmp_path)).delete(key)
    assert registry.champion(Role.POLICY) == model


def test_a_model_has_a_number_of_its_role_and_is_found_by_it(registry: Registry) -> None:
    a, b = (registry.register(entry(x * 64)) for x in "ab")
    g = registry.register(entry("a" * 64, Role.GENERATOR))
    assert registry.register(entry("a" * 64)) == a, "registered again, it keeps its number"
    assert registry.names() == {a: "policy@1", b: "policy@2", g: "generator@1"}
    assert registry.find("policy@2")["model_id"] == b
    with pytest.raises(NotFoundError):
        registry.find("policy@3")


def test_models_of_an_older_release_are_numbered_in_their_order(registry: Registry, tmp_path: Path) -> None:
    lake = Lake(StorageSettings(root=str(tmp_path)))
    for day, name in ((2, "b"), (1, "a")):
        row = {"model_id": name * 64, "role": "policy", "registered_at": datetime(2026, 1, day, tzinfo=UTC)}
        lake.append("models", [row], once=f"old:{name}")
    new = registry.register(entry("c" * 64))
    assert registry.names() == {"a" * 64: "policy@1", "b" * 64: "policy@2", new: "policy@3"}


def test_models_registered_at_once_share_no_number(tmp_path: Path) -> None:
    def one(n: int) -> str:
        return open_registry(tmp_path).register(entry(f"{n:064x}"))

    with ThreadPoolExecutor(4) as pool:
        made = set(pool.map(one, range(8)))
    assert sorted(open_registry(tmp_path).names().values()) == sorted(f"policy@{n}" for n in range(1, 9))
    assert set(open_registry(tmp_path).names()) == made
