"""Hidden packages: gone for one thread and one import, there for all others."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from medgr2.infra import free_text
from medgr2.infra.hidden import hidden


def test_a_hidden_package_is_missing_here_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("veiled", "open"):
        (tmp_path / f"{name}_package").mkdir()
        (tmp_path / f"{name}_package" / "__init__.py").touch()
        (tmp_path / f"{name}_package" / "inner.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    found: list[bool] = []
    with hidden("veiled_package"):
        for name in ("veiled_package", "veiled_package.inner"):
            with pytest.raises(ImportError, match="veiled_package"):
                importlib.import_module(name)
        importlib.import_module("open_package.inner")
        other = threading.Thread(target=lambda: found.append(bool(importlib.import_module("veiled_package.inner"))))
        other.start()
        other.join(400)
        assert found == [True]
        importlib.import_module("veiled_package")  # loaded by now: nobody is told that it is gone
    importlib.import_module("veiled_package.inner")
    before = list(sys.meta_path)
    with pytest.raises(ZeroDivisionError), hidden("veiled_package"):
        raise ZeroDivisionError
    assert sys.meta_path == before


@pytest.mark.skipif(not free_text.available(), reason="presidio-analyzer is not installed")
def test_scrubbing_loads_no_deep_learning_and_breaks_none() -> None:
    pytest.importorskip("torch", reason="without torch there is nothing to keep out")
    code = (
        "import sys\n"
        "from medgr2.infra.free_text import Scrubber\n"
        "print(Scrubber().scrub('Seen by Dr. Jane Roe, tel +44 20 7946 0958.').text)\n"
        "print({'torch', 'transformers'} & sys.modules.keys())\n"
        "import torch\n"
        "print(torch.zeros(1).tolist())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=400)
    assert done.stdout.splitlines() == ["Seen by Dr. [NAME], tel [PHONE].", "set()", "[0.0]"], done.stderr
