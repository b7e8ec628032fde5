"""Two sources that tell one picture otherwise: it is used by nobody until one of them is corrected."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from ingest_helpers import hospital, label, picture, settings
from PIL import Image, PngImagePlugin

from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.schemas.intake import IntakeParameters
from medgr2.schemas.intake_reports import IngestReport
from medgr2.tasks.intake import case, likeness
from medgr2.tasks.intake.audit import audit_splits
from medgr2.tasks.intake.ingest import ingest


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return open_workspace(settings(tmp_path))


def take(workspace: Workspace, folder: Path) -> IngestReport:
    quiet = lambda plan: None  # noqa: E731
    return ingest(workspace, str(folder), "", IntakeParameters(reports="keep"), run="test", announce=quiet)


def split(workspace: Workspace) -> set[str]:
    return set(workspace.lake.read("images", ["split"])["split"].to_pylist())


def named(data: bytes, comment: str = "exported") -> bytes:
    """The same pixels in a file of other bytes."""
    about, out = PngImagePlugin.PngInfo(), io.BytesIO()
    about.add_text("Comment", comment)
    Image.open(io.BytesIO(data)).save(out, "PNG", pnginfo=about)
    return out.getvalue()


@pytest.mark.parametrize("again", [named, lambda data: named(data, "once more")], ids=["same bytes", "exported again"])
def test_a_contradiction_outlasts_the_nights_until_it_is_corrected(
    workspace: Workspace, tmp_path: Path, again: object
) -> None:
    assert callable(again)
    data = again(picture(1))
    one = hospital(tmp_path / "one", [label("a.png", diagnosis="mass")], {"a.png": named(picture(1))})
    other = hospital(tmp_path / "other", [label("b.png", patient_id="p-a.png", diagnosis="none")], {"b.png": data})
    assert take(workspace, one).accepted == 1
    for source in (other, one, other, one):
        take(workspace, source)
        assert split(workspace) == {"quarantined"}
    hospital(other, [label("b.png", patient_id="p-a.png", diagnosis="mass")], {})
    take(workspace, other)
    take(workspace, one)
    assert split(workspace) == {"train"}
    take(workspace, other)
    assert split(workspace) == {"train"}


def test_a_likeness_that_an_older_release_did_not_see_is_mended(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.BytesIO()
    Image.open(io.BytesIO(picture(1, (96, 96)))).save(out, "JPEG", quality=85)
    files = {"a.png": picture(1, (96, 96)), "b.jpg": out.getvalue()}
    told = [label("a.png", split="train"), label("b.jpg", split="heldout")]
    folder = hospital(tmp_path / "in", told, files)
    with monkeypatch.context() as blind:
        blind.setattr(likeness.Neighbours, "pairs", lambda *_, **__: iter(()))
        assert take(workspace, folder).accepted == 2
    assert audit_splits(workspace).violations == 1
    monkeypatch.setattr(case, "DECIDED", "newer")
    monkeypatch.setattr("medgr2.tasks.intake.ledger.DECIDED", "newer")
    assert take(workspace, folder).reasons == {"near_duplicate_in_other_split": 1}
    assert split(workspace) == {"quarantined", "heldout"}
    assert audit_splits(workspace).violations == 0


def test_nobody_is_no_patient(workspace: Workspace, tmp_path: Path) -> None:
    ids = ["unknown", "0", "N/A", "anonymous", "-"]
    told = [label(f"{n}.png", patient_id=one) for n, one in enumerate(ids)]
    take(workspace, hospital(tmp_path / "in", told, {f"{n}.png": picture(n) for n in range(len(ids))}))
    assert set(workspace.lake.read("images", ["patient_key"])["patient_key"].to_pylist()) == {None}
