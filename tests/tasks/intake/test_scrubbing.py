"""Reports whose patient the labels name: found without a cue, and nowhere afterwards."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from ingest_helpers import hospital, picture, settings

from medgr2.infra import free_text
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.schemas.intake import IntakeParameters, Reports
from medgr2.schemas.intake_reports import IngestReport
from medgr2.tasks.intake.ingest import ingest
from medgr2.tasks.intake.scrubbing import ReportScrub

pytestmark = pytest.mark.skipif(not free_text.available(), reason="presidio-analyzer is not installed")
COLUMNS = ["file", "modality", "patient_id", "study_id", "Patient Name", "report"]
REPORT = (
    "Wrist pain after a fall. Zwolanska was told to rest; zwolanska ilka will come back. Chart of qx7-81 compared, "
    "series 55-0X12 as well. Undisplaced fracture of the distal radius."
)
SECRETS = ("zwolanska", "ilka", "qx7-81", "55-0x12")


def row(number: int, **more: str) -> dict[str, str]:
    return {
        "file": f"{number}.png", "modality": "X-Ray", "patient_id": "QX7-81", "study_id": "55-0X12",
        "Patient Name": "ZWOLANSKA^ILKA", "report": REPORT, **more,
    }  # fmt: skip


def take(workspace: Workspace, folder: Path, reports: Reports = "scrub", *columns: str) -> IngestReport:
    parameters = IntakeParameters(reports=reports, columns=columns)
    return ingest(workspace, str(folder), "", parameters, run="test", announce=lambda plan: None)


def reports(workspace: Workspace) -> list[str]:
    return [str(text) for text in workspace.lake.read("images", ["report"])["report"].to_pylist()]


def stored(root: Path) -> Iterator[str]:
    for path in root.rglob("*"):
        yield str(path.relative_to(root))
        if path.suffix == ".parquet":
            yield json.dumps(pq.read_table(path).to_pylist(), default=str, ensure_ascii=False)
        elif path.suffix == ".gz":
            yield gzip.decompress(path.read_bytes()).decode()
        elif path.is_file():
            yield path.read_bytes().decode("latin-1")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return open_workspace(settings(tmp_path))


def test_a_patient_named_without_a_cue_is_found_and_nowhere_afterwards(
    workspace: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    folder = hospital(tmp_path / "in", [row(1)], {"1.png": picture(1)}, COLUMNS)
    report = take(workspace, folder)
    assert report.accepted == 1
    (text,) = reports(workspace)
    assert "Undisplaced fracture of the distal radius." in text
    assert "[NAME] was told to rest" in text
    assert report.identifiers["report:NAME"] >= 3
    captured = capfd.readouterr()
    said = "\n".join([*stored(tmp_path / "root"), caplog.text, captured.out, captured.err, report.model_dump_json()])
    assert "distal radius" in said  # what may be told is there, so that the search looks in the right place
    assert [secret for secret in SECRETS if secret in said.lower()] == []


def test_each_report_is_searched_for_its_own_patient(workspace: Workspace, tmp_path: Path) -> None:
    rows = [
        row(1, report="Ilka in comfort. Abascal too."),
        row(2, patient_id="b2", report="Ilka and abascal in comfort.", **{"Patient Name": "Abascal, Sol"}),
        row(3, patient_id="c3", report="The ilka wave is normal.", **{"Patient Name": ""}),
    ]
    take(workspace, hospital(tmp_path / "in", rows, {f"{n}.png": picture(n * 40) for n in (1, 2, 3)}, COLUMNS))
    assert sorted(reports(workspace)) == [
        "Ilka and [NAME] in comfort.", "The ilka wave is normal.", "[NAME] in comfort. Abascal too.",
    ]  # fmt: skip


def test_a_name_that_is_corrected_is_looked_for_again(workspace: Workspace, tmp_path: Path) -> None:
    files = {"1.png": picture(1)}
    folder = hospital(tmp_path / "in", [row(1, **{"Patient Name": "Zwolinska"})], files, COLUMNS)
    take(workspace, folder)
    assert "zwolanska" in reports(workspace)[0]
    hospital(folder, [row(1)], files, COLUMNS)
    again = take(workspace, folder)
    assert (again.plan.new, again.added, again.changed) == (0, 0, 1)
    assert "zwolanska" not in reports(workspace)[0].lower()
    assert take(workspace, folder).changed == 0


def test_without_a_report_a_name_changes_nothing(workspace: Workspace, tmp_path: Path) -> None:
    files = {"1.png": picture(1)}
    folder = hospital(tmp_path / "in", [row(1, report="")], files, COLUMNS)
    take(workspace, folder)
    hospital(folder, [row(1, report="", **{"Patient Name": "Somebody\x1b Else"})], files, COLUMNS)
    again = take(workspace, folder)
    assert (again.accepted, again.changed) == (1, 0)


def test_nobody_is_looked_for_where_that_is_not_wanted(workspace: Workspace, tmp_path: Path) -> None:
    folder = hospital(tmp_path / "in", [row(1)], {"1.png": picture(1)}, COLUMNS)
    take(workspace, folder, "scrub", "patient_name=")
    assert "zwolanska ilka" in reports(workspace)[0]
    assert ReportScrub("keep")(REPORT, ("Ilka",)) == REPORT
    assert ReportScrub("drop")(REPORT, ("Ilka",)) is None
