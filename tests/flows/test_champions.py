"""Promote and roll back by hand: what was and what is, and nothing moved where nothing is to be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medgr2.flows.cli import run
from medgr2.infra.settings import load_settings
from medgr2.infra.workspace import open_workspace
from medgr2.models.registry import Registration, Registry
from medgr2.schemas.errors import ExitCode
from medgr2.schemas.vocabulary import Role


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("MEDGR2_STORAGE__ROOT", str(tmp_path / "root"))
    workspace = open_workspace(load_settings())
    return Registry(workspace.store, workspace.lake)


def register(registry: Registry, letter: str, role: Role = Role.POLICY) -> str:
    return registry.register(Registration(role=role, artifact=letter * 64, method="sft", run=f"loop/{letter}"))


def starred(capsys: pytest.CaptureFixture[str]) -> set[str]:
    capsys.readouterr()
    assert run(["models", "--json"]) == 0
    return {row["model_id"] for row in json.loads(capsys.readouterr().out) if row["champion"]}


def test_there_and_back_again(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = register(registry, "a"), register(registry, "b")
    assert run(["promote", a, "--reason", "read by two"]) == 0
    said = capsys.readouterr().out
    assert "policy: champion was none\n" in said
    assert f"policy: champion is  policy@1, {a[:12]} (sft, run loop/a)\n" in said
    assert starred(capsys) == {a}
    assert run(["promote", b[:16]]) == 0
    assert f"champion was policy@1, {a[:12]}" in capsys.readouterr().out
    assert run(["promote", "policy@2"]) == 0
    assert "the champion already" in capsys.readouterr().out
    assert starred(capsys) == {b}
    assert run(["rollback", "policy", "--reason", "worse on the ward"]) == 0
    assert starred(capsys) == {a}
    assert run(["rollback", "policy"]) == 0
    said = capsys.readouterr().out
    assert "policy: champion is  none\n" in said
    assert "what policies start from" in said
    assert starred(capsys) == set()
    assert [(m.action, m.model_id, m.reason) for m in registry.history(Role.POLICY)] == [
        ("promote", a, "read by two"), ("promote", b, "promoted by hand"),
        ("rollback", a, "worse on the ward"), ("rollback", None, "rolled back by hand"),
    ]  # fmt: skip


def test_a_model_goes_where_its_role_is(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    judge = register(registry, "c", Role.REWARD)
    assert run(["promote", judge]) == 0
    assert registry.champion(Role.REWARD) == judge
    assert registry.champion(Role.POLICY) is None
    capsys.readouterr()
    assert run(["rollback", "reward"]) == 0
    assert "judged without a trained reward" in capsys.readouterr().out
    assert run(["rollback", "generator"]) == ExitCode.NOT_FOUND
    assert "the generator has no champion" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["promote", "f" * 64], ExitCode.NOT_FOUND, "no model"),
        (["promote", ""], ExitCode.NOT_FOUND, "no model"),
        (["rollback", "policy"], ExitCode.NOT_FOUND, "no earlier champion"),
        (["rollback", "base"], ExitCode.USAGE, "'base' is not one of"),
        (["rollback"], ExitCode.USAGE, "Missing argument"),
    ],
)
def test_slips_move_nothing(
    registry: Registry, arguments: list[str], code: ExitCode, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    register(registry, "a")
    assert run(arguments) == code
    said = capsys.readouterr().err
    assert says in said
    assert "next:" in said
    assert not any(registry.history(role) for role in Role)


def test_a_base_is_no_champion(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["promote", register(registry, "a", Role.BASE)]) == ExitCode.USAGE
    assert "is a base" in capsys.readouterr().err
    assert registry.history(Role.BASE) == []


def test_a_shortened_id_is_one_models(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [register(registry, letter) for letter in "0123456789abcdefg"]
    begins = next(digit for digit in "0123456789abcdef" if sum(i.startswith(digit) for i in ids) > 1)
    assert run(["promote", begins]) == ExitCode.USAGE
    assert "give more of the id" in capsys.readouterr().err
    assert registry.champion(Role.POLICY) is None


def test_models_are_shown_by_role_and_one_by_its_name(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    a, g = register(registry, "a"), register(registry, "b", Role.GENERATOR)
    registry.promote(Role.POLICY, a, reason="better", expected_current=None)
    capsys.readouterr()
    assert run(["models", "--role", "generator", "--json"]) == 0
    assert [(one["name"], one["model_id"]) for one in json.loads(capsys.readouterr().out)] == [("generator@1", g)]
    assert run(["models", "show", "policy@1", "--json"]) == 0
    story = json.loads(capsys.readouterr().out)
    assert (story["name"], story["model_id"], story["ancestors"]) == ("policy@1", a, [])
    assert [(move["action"], move["champion"], move["reason"]) for move in story["moves"]] == [
        ("promote", "policy@1", "better")
    ]
    assert run(["models"]) == 0
    assert "policy@1" in capsys.readouterr().out
    assert run(["models", "show", "policy@9"]) == ExitCode.NOT_FOUND
