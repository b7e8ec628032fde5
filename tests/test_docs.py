"""What the documents tell people to type exists; what only reads is typed for real in tests/e2e/test_loop.py."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from medgr2.flows.cli import cli

ROOT = Path(__file__).resolve().parent.parent
READING = {"audit", "query", "versions", "models", "doctor", "config", "compact"}


def documents() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every `medgr2 ...` line of a shell block; SQL given over several lines included."""
    for path in documents():
        for block in re.findall(r"```(?:sh|bash)\n(.*?)```", path.read_text(), re.S):
            begun = ""
            for line in block.splitlines():
                begun += line + "\n"
                try:
                    words = shlex.split(begun, comments=True)
                except ValueError:
                    continue  # a quoted text goes on in the next line
                begun = ""
                if words[:1] == ["medgr2"]:
                    yield path.name, words


def reading_commands() -> list[list[str]]:
    return [words for _, words in commands() if words[1] in READING and not any("ds@" in word for word in words)]


def test_documents_hold_commands() -> None:
    assert {"README.md", "operating.md"} <= {name for name, _ in commands()}


@pytest.mark.parametrize(
    ("where", "words"), list(commands()), ids=lambda v: "" if isinstance(v, str) else " ".join(v)[:60]
)
def test_a_documented_command_parses(where: str, words: list[str]) -> None:
    command: click.Command = cli
    arguments = words[1:]
    context = click.Context(cli)
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        found = command.get_command(context, arguments[0])
        assert found is not None, f"{where}: {' '.join(words)}"
        command, arguments = found, arguments[1:]
    command.make_context("medgr2", list(arguments), resilient_parsing=False)


def test_links_between_documents_lead_somewhere() -> None:
    for path in documents():
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} -> {target}"


def test_files_named_in_the_readme_exist() -> None:
    folders = "tests|docs|infra|models|flows|tasks|schemas|phantoms"
    for name in re.findall(rf"`((?:{folders})/[\w/.]*)`", (ROOT / "README.md").read_text()):
        assert (ROOT / name).exists(), name


def python_blocks() -> list[tuple[str, str]]:
    found = [
        (path.name, block)
        for path in documents()
        for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.S)
    ]
    assert found
    return found


@pytest.mark.parametrize(("where", "code"), python_blocks(), ids=lambda v: v if v.endswith(".md") else "")
def test_python_in_the_documents_runs(where: str, code: str) -> None:
    exec(compile(code, where, "exec"), {"__name__": "example"})
