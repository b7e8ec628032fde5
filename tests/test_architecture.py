"""The tree keeps its shape: arrows point one way, heavy libraries wait behind doors, the oracle is out of reach."""

from __future__ import annotations

import ast
import os
import resource
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("schemas", "infra", "models", "tasks", "flows")
HEAVY = {
    "ray", "torch", "transformers", "trl", "peft", "vllm", "boto3", "botocore", "deltalake", "duckdb", "sklearn",
    "prefect", "datasets",
}  # fmt: skip
HELP_STARTS = 10
"""As much CPU as so many starts of an interpreter that does nothing: half a second of a quick core."""


def modules(folder: str) -> Iterator[Path]:
    yield from sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(module, at module level) of every import; those under TYPE_CHECKING do not run and do not count as level."""
    tree = ast.parse(path.read_text())
    deferred: set[ast.AST] = set()
    for node in ast.walk(tree):
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if typing_only or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            deferred.update(ast.walk(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((a.name, node not in deferred) for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module), node not in deferred
            yield from ((f"{node.module}.{a.name}", node not in deferred) for a in node.names)


def layer_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "medgr2" else None


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_point_one_way(layer: str) -> None:
    allowed = LAYERS[: LAYERS.index(layer) + 1]
    files = list(modules(layer))
    assert files
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name, _ in imports(path)
        if (target := layer_of(name)) is not None and target not in allowed
    ]
    assert wrong == []


def test_a_wrong_arrow_would_be_seen(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from medgr2.flows import loop\n")
    assert [layer_of(name) for name, _ in imports(bad)] == ["flows", "flows"]


def test_prefect_lives_in_flows_only() -> None:
    found = {
        str(path.relative_to(ROOT))
        for layer in LAYERS[:-1]
        for path in modules(layer)
        for name, _ in imports(path)
        if name.split(".")[0] == "prefect"
    }
    assert found == set()


def test_the_oracle_is_out_of_reach_of_training_code() -> None:
    found = {
        str(path.relative_to(ROOT))
        for layer in LAYERS
        for path in modules(layer)
        for name, _ in imports(path)
        if name.split(".")[0] == "medgr2_phantoms"
    }
    assert found == set(), "only another process may know the truth"
    mentions = {
        str(p.relative_to(ROOT)) for layer in LAYERS for p in modules(layer) if "medgr2_phantoms" in p.read_text()
    }
    assert mentions == {"flows/embedded.py"}


def test_the_phantoms_know_nothing_of_the_pipeline() -> None:
    found = [name for path in modules("phantoms") for name, _ in imports(path) if name.split(".")[0] == "medgr2"]
    assert found == []


def test_every_sub_package_is_listed_for_the_wheel() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {"medgr2_phantoms"}
    for layer in LAYERS:
        found |= {
            ".".join(("medgr2", *init.parent.relative_to(ROOT).parts)) for init in (ROOT / layer).rglob("__init__.py")
        }
        with_code = {p.parent for p in modules(layer)}
        assert all((folder / "__init__.py").exists() for folder in with_code), "a folder of code without __init__.py"
    assert listed == found


def cpu_seconds(*program: str) -> float:
    """Of the whole process as the kernel counts it; the best of three, since the first may still compile."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        help_run(*program)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(spent)


def help_run(*program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *program],
        capture_output=True,
        text=True,
        timeout=400,
        env={"PATH": os.environ["PATH"]},
        check=True,
    )


def test_help_costs_little_cpu() -> None:
    assert "refresh" in help_run("-m", "medgr2.flows.cli", "--help").stdout
    assert cpu_seconds("-m", "medgr2.flows.cli", "--help") < HELP_STARTS * cpu_seconds("-c", "pass")


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys\nfrom medgr2.flows.cli import run\nassert run(['--help']) == 0\n"
        f"print('loaded:', sorted(set(sys.modules) & {HEAVY!r}))"
    )
    assert help_run("-c", code).stdout.strip().endswith("loaded: []")


DATA_PATH = (
    "schemas.tables",
    "infra.settings",
    "infra.workspace",
    "infra.query",
    "tasks.intake.ingest",
    "tasks.lineage",
)


@pytest.mark.parametrize("module", DATA_PATH)
def test_modules_of_the_data_path_need_no_torch(module: str) -> None:
    names = {"torch", "ray", "transformers", "prefect", "trl", "boto3", "sklearn"}
    code = f"import sys, medgr2.{module}; print(sorted(set(sys.modules) & {names!r}))"
    assert help_run("-c", code).stdout.strip() == "[]"


def test_no_model_may_bring_code_or_pickles() -> None:
    for layer in LAYERS:
        for path in modules(layer):
            text = path.read_text()
            assert "trust_remote_code=True" not in text, path
            assert "pickle.load" not in text, path
