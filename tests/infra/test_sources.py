"""A folder as a source: what is listed of links and of what is no file."""

from __future__ import annotations

import os
from pathlib import Path

from medgr2.infra.settings import StorageSettings
from medgr2.infra.sources import open_source


def listed(folder: Path) -> dict[str, int]:
    source = open_source(str(folder), StorageSettings(root=str(folder.parent / "root")))
    return {file.name: file.size for file in source.files()}


def test_links_to_files_are_read_broken_ones_are_told_and_loops_are_left_alone(tmp_path: Path) -> None:
    folder, outside = tmp_path / "a", tmp_path / "b"
    for made in (folder, outside):
        made.mkdir()
    (outside / "x.png").write_bytes(b"123")
    (folder / "linked.png").symlink_to(outside / "x.png")
    (folder / "broken.png").symlink_to(outside / "nothing.png")
    (folder / "self.png").symlink_to(folder / "self.png")
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "waits.png")
    assert listed(folder) == {"broken.png": -1, "linked.png": 3, "self.png": -1}
