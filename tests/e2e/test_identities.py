"""Real headers with names, ids and birth dates go through a whole night: nothing of them is anywhere afterwards."""

from __future__ import annotations

import csv
import gzip
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from servers import BIN, PrefectServer
from small_world import environment

from medgr2.infra.journal import Journal
from medgr2.infra.objects_folder import FolderStore

DICOM = Path(__file__).resolve().parents[3] / "shared" / "data" / "dicom"
UUID = re.compile(r"(?<![0-9a-f])[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}(?![0-9a-f])")
NIGHT = """
import sys
from medgr2.flows.refresh import data_refresh
from medgr2.schemas.parameters import RefreshParameters
report = data_refresh(RefreshParameters.model_validate(
    {"source": sys.argv[1], "night": "one", "generate": {"images": 3, "question_types": ["Modality Recognition"]}}
))
print(report.model_dump_json())
"""


def identities() -> set[str]:
    """Names, ids and birth dates as they stand in the headers, and in the other ways of writing them."""
    found: set[str] = set()
    with (DICOM / "index.csv").open(newline="") as f:
        for row in csv.DictReader(f):
            born = row["birth_date"]
            found |= {row["patient_name"], row["patient_id"], born, f"{born[:4]}-{born[4:6]}-{born[6:]}"}
            found |= {part for part in re.split(r"[\^ ]+", row["patient_name"]) if len(part) > 5}
    return {one for one in found if one.strip("-")} - {"Anonymized", "PATIENT", "Modality"}  # words of ours


def test_there_is_something_to_look_for() -> None:
    if not DICOM.is_dir():
        pytest.skip(f"the real DICOM files are not at {DICOM}")
    assert {"CompressedSamples^MR2", "98279", "19500112", "1950-01-12", "Perfusion"} <= identities()
    assert len(identities()) > 35


@pytest.mark.e2e
@pytest.mark.timeout(2400)
def test_no_identity_survives_a_night(prefect_server: PrefectServer, tmp_path: Path) -> None:
    if not DICOM.is_dir():
        pytest.skip(f"the real DICOM files are not at {DICOM}")
    env = environment(prefect_server, tmp_path, "inline")
    logged = [
        subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=600)
        for command in (
            [sys.executable, "-c", NIGHT, str(DICOM)],
            [str(BIN / "medgr2"), "ingest", str(DICOM), "--phi-report", "--json"],
            [str(BIN / "medgr2"), "audit", "splits", "--json"],
        )
    ]
    assert [done.returncode for done in logged] == [0, 0, 0], [done.stderr[-3000:] for done in logged]
    intake = json.loads(logged[0].stdout.splitlines()[-1])["intake"]["images"]
    assert intake["plan"]["found"] == intake["accepted"] + intake["rejected"] + intake["failed"] == 32
    assert intake["failed"] == 1
    assert intake["identifiers"]["dicom:PatientName"] > 10
    assert len(json.loads(logged[1].stdout)) > 100
    root = tmp_path / "root"
    said = [*_texts(root), *(done.stdout + done.stderr for done in logged), *_prefect(prefect_server)]
    whole = _drawn_out("\n".join(said))
    assert "Ultrasound" in whole  # what may be told is there, so that the search looks in the right place
    assert sorted(one for one in identities() if _occurs(one, whole)) == []
    raw = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
    assert [one for one in identities() if len(one) > 7 and one.encode() in raw] == []
    names = {path.name for path in DICOM.iterdir()}
    assert [name for name in names if name in whole] == []


def test_an_id_of_four_digits_is_no_part_of_what_was_drawn_at_random() -> None:
    drawn = "6f1c2a90-0010-4b7e-8a55-0d9e3c1f7b20"
    assert not _occurs("0010", _drawn_out(f"flow run '{drawn}'"))
    assert not _occurs("0010", _drawn_out(f"_commit_{drawn}_"))
    assert _occurs("0010", _drawn_out(f"flow run '{drawn}' of patient 0010"))
    assert _occurs("0010", _drawn_out("0010-2e2884fea560"))


def _drawn_out(text: str) -> str:
    """Prefect draws hundreds of UUIDs a night, and one in some thousand of them holds any four digits as a group."""
    return UUID.sub("a-uuid", text)


def _occurs(word: str, text: str) -> bool:
    return re.search(rf"(?<![0-9A-Za-z.]){re.escape(word)}(?![0-9A-Za-z])", text) is not None


def _texts(root: Path) -> Iterator[str]:
    """Everything stored, unpacked."""
    store = FolderStore(root)
    for stage in sorted(path.name for path in (root / "journal").iterdir()):
        for outcome in Journal(store, stage).outcomes().values():
            yield json.dumps([outcome.value, outcome.reasons, outcome.detail])
    for path in root.rglob("*"):
        if path.suffix == ".parquet":
            yield from (json.dumps(row, default=_plain) for row in pq.read_table(path).to_pylist())
        elif path.suffix == ".gz":
            yield gzip.decompress(path.read_bytes()).decode()
        elif path.suffix in (".json", ".jsonl", ".images"):
            yield path.read_text()
        yield str(path.relative_to(root))


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _prefect(server: PrefectServer) -> Iterator[str]:
    database = sqlite3.connect(f"file:{server.home / 'prefect.db'}?mode=ro", uri=True, timeout=60)
    yield from database.iterdump()
    database.close()
