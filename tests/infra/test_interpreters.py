"""Another environment's Python: looked at before a worker is sent there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from medgr2.infra import interpreters
from medgr2.infra.compute import Resources, Work
from medgr2.infra.interpreters import check_worker_python, look_at
from medgr2.infra.purse import Purse
from medgr2.infra.settings import ComputeSettings, Settings, StorageSettings
from medgr2.schemas.cells import Recipe
from medgr2.schemas.errors import SettingsError

HERE = Path(sys.executable)


def test_it_says_what_it_has_and_what_not() -> None:
    found = look_at(HERE, ("click", "no_such_module", "another_one"))
    assert found.python == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert set(found.versions) == {"click"}
    assert found.why == "no_such_module: ModuleNotFoundError"


def test_one_that_fits_and_one_that_lacks_something() -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    assert "ray" in check_worker_python(HERE).versions
    with pytest.raises(SettingsError, match="cannot import no_such_module"):
        check_worker_python(HERE, ("no_such_module",))


def test_one_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreters, "IMPORT_SECONDS", 0.3)
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nexec sleep 20\n")
    slow.chmod(0o755)
    with pytest.raises(SettingsError, match=r"within 0.3 s"):
        look_at(slow, ("ray",))


def test_a_stage_is_not_begun_on_one_that_is_not_there(tmp_path: Path) -> None:
    """Ray itself would say nothing until the deadline."""
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    from medgr2.infra.compute_ray import RayPool

    recipe = Recipe(stage="squares", code="1")
    work = Work(recipe=recipe, worker="x:Y", resources=Resources(python=str(tmp_path / "nowhere")))
    settings = Settings(storage=StorageSettings(root=str(tmp_path)), compute=ComputeSettings(mode="ray-local"))
    with pytest.raises(SettingsError, match="no interpreter at"):
        next(RayPool(settings, 1, reserve=False).run(work, [recipe.cell(inputs={"n": 1})], {}, Purse()))
