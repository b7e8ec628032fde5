"""The listing: any name a disk allows, and none that a sheet would run."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from ingest_helpers import hospital, label, picture, settings

from medgr2.infra.workspace import open_workspace
from medgr2.schemas.errors import UsageError
from medgr2.schemas.intake import IntakeParameters
from medgr2.tasks.intake.ingest import ingest
from medgr2.tasks.intake.listing import write_listing

ODD = (b"a.png", b"b\xff\xfe.png", b"new\nline.png", b"=cmd|' C calc'!A0.png", b"@SUM(1).png", b"x" * 251 + b".png")


def test_every_name_is_listed_and_none_is_a_formula(tmp_path: Path) -> None:
    folder = hospital(tmp_path / "a", [label("a.png")], {})
    for number, name in enumerate(ODD):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(picture(number))
    workspace = open_workspace(settings(tmp_path))
    report = ingest(workspace, str(folder), "", IntakeParameters(), run="r", announce=lambda _plan: None)
    assert (report.accepted, report.reasons) == (1, {"no_label": 5})
    write_listing(workspace, str(folder), tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as f:
        rows = list(csv.DictReader(f))
    listed = {os.fsencode(os.path.normpath(row["file"])) for row in rows}
    assert listed == set(ODD)
    assert not [row["file"] for row in rows if row["file"][0] in "=+-@"]
    assert (tmp_path / "out.csv").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("source", ["", " "])
def test_an_unset_variable_is_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.chdir(hospital(tmp_path / "a", [label("a.png")], {"a.png": picture(1)}))
    with pytest.raises(UsageError, match="empty"):
        ingest(open_workspace(settings(tmp_path)), source, "", IntakeParameters(), run="r", announce=lambda _plan: None)
