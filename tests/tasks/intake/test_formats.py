"""One folder with everything in it, through the command line: every file accounted for, each by the right word."""

from __future__ import annotations

import csv
import gzip
import io
import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ingest_helpers import KEY, hospital, label, picture
from made_dicom import as_bytes, data_set
from made_pictures import nifti
from PIL import Image, ImageDraw, ImageFont

from medgr2.flows.cli import run
from medgr2.infra.images import ImageStore
from medgr2.infra.lake import Lake
from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.settings import load_settings
from medgr2.schemas.digest import sha256_hex

PATIENT, SECRETS = "Beispiel^Erika", (b"beispiel", b"mrn-4711", b"mustermann", b"19500112", b"erika")
SIZE = (96, 96)
ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.1"


def shown(number: int, mode: str = "RGB", size: tuple[int, int] = SIZE) -> Image.Image:
    return Image.open(io.BytesIO(picture(number, size))).convert(mode)


def coded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def dicom(*numbers: int, **values: Any) -> bytes:
    grey = [np.asarray(shown(n, "L"), np.uint16) * 16 for n in numbers]
    more = {"NumberOfFrames": len(grey)} if len(grey) > 1 else {}
    return as_bytes(data_set(np.stack(grey) if len(grey) > 1 else grey[0], **more, **values))


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "Mustermann 19500112"
    return coded(shown(5, size=(120, 80)), "JPEG", exif=exif, quality=95)


def deep() -> Image.Image:
    return Image.fromarray(np.asarray(shown(2, "L"), np.uint16) * 200)


GOOD: dict[str, bytes] = {
    "erika/film.dcm": dicom(10, 11, 12, 13, 14),
    "erika/later.dcm": dicom(15, StudyInstanceUID="1.2.9", SOPInstanceUID="1.2.9.1"),
    "other": dicom(16, PatientID="MRN-4712", PatientName="Mustermann^Max", StudyInstanceUID="1.2.10"),
    "volume.nii.gz": gzip.compress(nifti(), mtime=0),
    "deep.png": coded(deep(), "PNG"),
    "scan.tif": coded(shown(3), "TIFF"),
    "small.webp": coded(shown(4), "WEBP", lossless=True),
    "turned.jpg": turned(),
    "really-a-png.jpg": coded(shown(6), "PNG"),
    "x.png/inner.png": coded(shown(7), "PNG"),
}
BAD: dict[str, tuple[str, str, bytes]] = {
    "cmyk.jpg": ("rejected", "wrong_colour", coded(shown(20).convert("CMYK"), "JPEG")),
    "moving.gif": ("rejected", "animated", coded(shown(21), "GIF", save_all=True, append_images=[shown(22)])),
    "text.jpg": ("failed", "not_an_image", b"Patient: Erika Mustermann, born 19500112. Report follows.\n"),
    "nothing.png": ("failed", "empty", b""),
    "blank.png": ("rejected", "blank", coded(Image.new("RGB", SIZE, (9, 9, 9)), "PNG")),
    "cut.png": ("failed", "truncated", picture(23, SIZE)[:900]),
    "unlabelled.bmp": ("rejected", "no_label", coded(shown(24), "BMP")),
    "z/again.png": ("rejected", "duplicate", coded(shown(7), "PNG")),
}
TOLD = [
    label(name, modality="MRI", patient_id="", split="")
    for name in (*GOOD, *BAD)
    if name not in ("unlabelled.bmp", "erika/film.dcm", "erika/later.dcm", "other")
]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in (
        ("STORAGE__ROOT", str(tmp_path / "root")), ("COMPUTE__MODE", "inline"), ("COMPUTE__FAILURE_LIMIT", "0.9"),
        ("PRIVACY__PATIENT_KEY", KEY),
    ):  # fmt: skip
        monkeypatch.setenv(f"MEDGR2_{name}", value)
    return tmp_path / "root"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = hospital(tmp_path / "in", TOLD, {**GOOD, **{name: data for name, (_, _, data) in BAD.items()}})
    (folder / "y.png").mkdir()  # empty, and called like a picture
    (folder / "readme.txt").write_text("not a picture, and not called one")
    return folder


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code = run(["ingest", *arguments, "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    assert not any(secret.decode() in (said.out + said.err).lower() for secret in SECRETS)
    return json.loads(said.out)


def images(root: Path) -> dict[str, list[dict[str, Any]]]:
    """By the hash of the file they came in."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in Lake(load_settings().storage).read("images").to_pylist():
        found.setdefault(row["origin"], []).append(row)
    return found


def listed(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as f:
        return {row["file"]: row for row in csv.DictReader(f)}


def test_every_file_is_accounted_for_by_the_right_word(
    root: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = asked(capsys, str(source), "--listing", str(tmp_path / "listing.csv"))["images"]
    assert report["plan"]["found"] == len(GOOD) + len(BAD)
    assert (report["accepted"], report["sidecars"]) == (len(GOOD), 2)
    verdicts = [verdict for verdict, _, _ in BAD.values()]
    assert (report["rejected"], report["failed"]) == (verdicts.count("rejected"), verdicts.count("failed"))
    assert report["reasons"] == {reason: 1 for _, reason, _ in BAD.values()}
    found = listed(tmp_path / "listing.csv")
    assert found.keys() == GOOD.keys() | BAD.keys()
    for name, (verdict, reason, _) in BAD.items():
        assert (found[name]["verdict"], found[name]["reason"]) == (verdict, reason), name
        # A duplicate names the picture that it is one of; all others brought none.
        assert bool(found[name]["images"]) == (reason == "duplicate"), name
    frames = {"erika/film.dcm": 3, "volume.nii.gz": 3}
    for name in GOOD:
        assert found[name]["verdict"] == "accepted", name
        assert len(found[name]["images"].split()) == frames.get(name, 1), name
    assert report["pictures"] == len(GOOD) + 4


def test_parts_patients_headers_and_pixels(root: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked(capsys, str(source))
    held = images(root)
    of = {name: held[sha256_hex(data)] for name, data in GOOD.items()}
    film, later, other, volume = (of[name] for name in ("erika/film.dcm", "erika/later.dcm", "other", "volume.nii.gz"))
    assert sorted(row["part"] for row in film) == ["frame 1 of 5", "frame 3 of 5", "frame 5 of 5"]
    assert all(row["part"].startswith("slice ") and row["part"].endswith(" of 4") for row in volume)
    assert {row["part"] for name in GOOD if name not in ("erika/film.dcm", "volume.nii.gz") for row in of[name]} == {""}
    # One patient in two studies; another; and of the plain pictures nobody knows.
    assert len({row["patient_key"] for row in [*film, *later]}) == 1
    assert len({row["split"] for row in [*film, *later]}) == 1
    assert other[0]["patient_key"] not in (None, film[0]["patient_key"])
    assert {of[name][0]["patient_key"] for name in ("scan.tif", "volume.nii.gz", "turned.jpg")} == {None}
    assert not {*film[0]["keys"]} & {*other[0]["keys"]}
    assert {row["modality"] for rows in of.values() for row in rows} == {"MRI"}
    headers = {name: json.loads(rows[0]["header"] or "{}") for name, rows in of.items()}
    assert headers["erika/film.dcm"]["Modality"] == "MR"
    assert headers["deep.png"] == {"format": "png", "scaled_from": "16"}
    assert headers["really-a-png.jpg"] == {"format": "png", "mislabelled": True}
    assert headers["scan.tif"] == {"format": "tiff"}
    assert headers["volume.nii.gz"]["shape"] == [32, 24, 4]
    assert {row["burned_in"] for name in ("scan.tif", "deep.png") for row in of[name]} == {"unchecked"}
    settings = load_settings()
    store = ImageStore(FolderStore(str(root)), settings.storage.cache_folder)
    stored = {name: Image.open(store.path(rows[0]["image_id"])) for name, rows in of.items()}
    assert {image.format for name, image in stored.items() if name != "turned.jpg"} == {"PNG"}
    assert {image.mode for image in stored.values()} <= {"L", "RGB"}
    for name, number in (("scan.tif", 3), ("small.webp", 4), ("x.png/inner.png", 7)):
        assert np.array_equal(np.asarray(stored[name].convert("RGB")), np.asarray(shown(number))), name
    upright = shown(5, size=(120, 80)).transpose(Image.Transpose.ROTATE_270)
    assert stored["turned.jpg"].size == upright.size == (80, 120)
    difference = np.asarray(stored["turned.jpg"].convert("RGB"), int) - np.asarray(upright, int)
    assert np.abs(difference).mean() < 12
    correlation = np.corrcoef(np.asarray(stored["deep.png"]).ravel(), np.asarray(deep()).ravel())[0, 1]
    assert correlation > 0.999


def test_nobodys_name_is_anywhere_but_in_the_listing(
    root: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = tmp_path / "listing.csv"
    listing.write_text("from before")
    listing.chmod(0o644)
    asked(capsys, str(source), "--listing", str(listing))
    assert stat.S_IMODE(listing.stat().st_mode) == 0o600
    assert "erika/film.dcm" in listed(listing)
    assert "from before" not in listing.read_text()
    for path in root.rglob("*"):
        where = str(path.relative_to(root)).lower().encode()
        held = (path.read_bytes().lower() if path.is_file() else b"") + where
        assert not [secret for secret in (*SECRETS, b"film.dcm", b"really-a-png", b"later") if secret in held], path


def test_the_report_of_identifiers_counts_and_quotes_nothing(
    root: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = asked(capsys, str(source), "--phi-report")
    assert {row["verdict"] for row in found} == {"accepted"}
    kinds = {row["found"] for row in found}
    assert {"dicom:PatientName", "dicom:PatientID"} <= kinds
    assert any(kind.startswith("exif") for kind in kinds)
    assert all(len(row["file"]) == 12 and int(row["file"], 16) >= 0 and row["times"] > 0 for row in found)
    assert len({row["file"] for row in found if row["found"] == "dicom:PatientName"}) == 3
    assert run(["ingest", str(source), "--phi-report"]) == 0
    table = capsys.readouterr().out
    assert "dicom:PatientName" in table
    assert not any(secret.decode() in table.lower() for secret in SECRETS)


@pytest.mark.parametrize(("frames", "parts"), [(1, 1), (2, 2), (9, 5)])
def test_as_many_frames_as_were_asked_for(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], frames: int, parts: int
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "film.dcm").write_bytes(GOOD["erika/film.dcm"])
    report = asked(capsys, str(folder), "--frames", str(frames))["images"]
    assert (report["pictures"], report["accepted"]) == (parts, 1)
    assert asked(capsys, str(folder), "--frames", str(frames))["images"]["plan"]["new"] == 0
    more = asked(capsys, str(folder), "--frames", "5")["images"]
    assert (more["plan"]["new"], more["pictures"]) == ((0 if frames == 5 else 1), 5)
    assert len(images(root)[sha256_hex(GOOD["erika/film.dcm"])]) == 5


def annotated() -> bytes:
    screen = Image.new("L", (480, 360), 0)
    screen.paste(shown(30, "L", (300, 220)), (90, 100))
    ImageDraw.Draw(screen).text((12, 12), "MUSTERMANN ERIKA 12.01.1950", fill=255, font=ImageFont.load_default(26))
    pixels = np.asarray(screen)
    return as_bytes(data_set(pixels, SOPClassUID=ULTRASOUND, Modality="US", StudyInstanceUID="1.2.77"))


@pytest.mark.parametrize(("policy", "burned_in"), [("mask", "masked"), ("off", "unchecked")])
def test_burned_in_text_is_masked_or_left_as_asked(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], policy: str, burned_in: str
) -> None:
    if policy == "mask":
        pytest.importorskip("rapidocr", reason="the extra ocr is not installed")
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "us.dcm").write_bytes(annotated())
    report = asked(capsys, str(folder), "--burned-in", policy)["images"]
    assert (report["accepted"], report["burned_in"]) == (1, {burned_in: 1})
    ((row,),) = images(root).values()
    assert row["burned_in"] == burned_in
    store = ImageStore(FolderStore(str(root)), load_settings().storage.cache_folder)
    pixels = np.asarray(Image.open(store.path(row["image_id"])).convert("L"))
    assert bool(pixels[5:45, 10:300].max() > 200) == (policy == "off")
    assert pixels[100:320, 90:390].std() > 20
