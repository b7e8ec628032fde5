"""A hospital's bucket as the source: the same rows as from a folder, nothing read twice, and when it goes away."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.client
import pytest
from ingest_helpers import COLUMNS, KEY, label, picture
from s3.ceph import ACCESS_KEY, SECRET_KEY
from storage_fixtures import client

from medgr2.flows.cli import run
from medgr2.infra.settings import Settings, load_settings
from medgr2.infra.sources import SourceReader
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.schemas.errors import ExitCode, NotFoundError, StorageError
from medgr2.schemas.intake import IntakeParameters, ReadingRules
from medgr2.schemas.intake_reports import IngestReport
from medgr2.tasks.intake.audit import audit_splits
from medgr2.tasks.intake.ingest import ingest

pytestmark = pytest.mark.s3
MEANWHILE = {"added_at", "run", "seen_at"}
FILES = {
    "a.png": picture(1), "deep/er/b.jpg": picture(2, kind="JPEG"), "cut.png": picture(3)[:60], "empty.png": b"",
    "twin.png": picture(1), "text.png": b"not a picture", "stray.png": picture(5),
    **{f"more/{n}.png": picture(10 + n) for n in range(12)},
}  # fmt: skip
TOLD = [label(name, split="", diagnosis="mass" if len(name) % 2 else "") for name in FILES if name != "stray.png"]


class Bucket:
    """A bucket of the test's own, which may be taken away and put back."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint, self.s3, self.name = endpoint, client(endpoint), f"source-{uuid.uuid4().hex[:12]}"
        self.s3.create_bucket(Bucket=self.name)

    def put(self, files: dict[str, bytes], prefix: str = "in/") -> str:
        for name, data in files.items():
            self.s3.put_object(Bucket=self.name, Key=prefix + name, Body=data)
        return f"s3://{self.name}/{prefix}"

    def remove(self) -> dict[str, bytes]:
        """All that it held. No error when it is gone."""
        held: dict[str, bytes] = {}
        if self.name not in {found["Name"] for found in self.s3.list_buckets()["Buckets"]}:
            return held
        for found in self.s3.list_objects_v2(Bucket=self.name).get("Contents", ()):
            held[found["Key"]] = self.s3.get_object(Bucket=self.name, Key=found["Key"])["Body"].read()
            self.s3.delete_object(Bucket=self.name, Key=found["Key"])
        self.s3.delete_bucket(Bucket=self.name)
        return held


@pytest.fixture(params=["moto", "ceph"])
def bucket(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    made = Bucket(request.getfixturevalue(request.param))
    yield made
    made.remove()


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Every request that boto3 sends: what was asked, of which key."""
    sent: list[tuple[str, str]] = []
    asking = botocore.client.BaseClient._make_api_call

    def ask(self: Any, operation: str, arguments: dict[str, Any]) -> Any:
        sent.append((operation, arguments.get("Key", "")))
        return asking(self, operation, arguments)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", ask)
    return sent


@contextlib.contextmanager
def authenticating(bucket: Bucket) -> Iterator[None]:
    """moto_server lets everybody in until it is told otherwise; Ceph never does."""
    moto = urllib.request.urlopen(bucket.endpoint, timeout=300).headers.get("Server", "").startswith("Werkzeug")

    def after(actions: bytes) -> None:
        if moto:
            asked = urllib.request.Request(
                f"{bucket.endpoint}/moto-api/reset-auth", data=actions, headers={"Content-Type": "text/plain"}
            )
            urllib.request.urlopen(asked, timeout=300).read()

    after(b"0")
    try:
        yield
    finally:
        after(b"inf")


def environment(bucket: Bucket, root: str, **more: str) -> dict[str, str]:
    return {
        "MEDGR2_STORAGE__ROOT": root, "MEDGR2_COMPUTE__MODE": "inline", "MEDGR2_COMPUTE__FAILURE_LIMIT": "0.9",
        "MEDGR2_PRIVACY__PATIENT_KEY": KEY, "MEDGR2_STORAGE__S3__ENDPOINT_URL": bucket.endpoint,
        "MEDGR2_STORAGE__S3__ACCESS_KEY_ID": ACCESS_KEY, "MEDGR2_STORAGE__S3__SECRET_ACCESS_KEY": SECRET_KEY, **more,
    }  # fmt: skip


def workspace(bucket: Bucket, root: Path | str, **more: str) -> Workspace:
    settings: Settings = load_settings(environment(bucket, str(root), **more))
    return open_workspace(settings)


def take(workspace: Workspace, source: str | Path, labels: str | Path = "") -> IngestReport:
    quiet = lambda plan: None  # noqa: E731
    patient = IntakeParameters(rules=ReadingRules(seconds=400))
    report = ingest(workspace, str(source), str(labels), patient, run="test", announce=quiet)
    assert report.conserved()
    return report


def table(rows: list[dict[str, str]]) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def rows(workspace: Workspace, name: str = "images", without: set[str] = MEANWHILE) -> list[str]:
    found = workspace.lake.read(name).to_pylist()
    return sorted(json.dumps({k: v for k, v in row.items() if k not in without}, default=repr) for row in found)


def got(requests: list[tuple[str, str]]) -> list[str]:
    return [key for operation, key in requests if operation == "GetObject"]


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def test_a_bucket_gives_the_same_rows_as_a_folder(bucket: Bucket, tmp_path: Path) -> None:
    files = {**FILES, "labels.csv": table(TOLD)}
    here, there, named = (workspace(bucket, tmp_path / name) for name in ("here", "there", "named"))
    of_folder = take(here, write(tmp_path / "in", files))
    of_bucket = take(there, bucket.put(files))
    assert len(of_folder.reasons) == of_folder.rejected + of_folder.failed == 5
    same = ("accepted", "rejected", "failed", "reasons", "pictures", "splits", "sidecars", "columns_left_out", "added")
    assert {name: getattr(of_bucket, name) for name in same} == {name: getattr(of_folder, name) for name in same}
    assert rows(here) == rows(there)
    # Of a file that cannot be read, a bucket's content is not known by a hash of ours.
    of_a_place = {*MEANWHILE, "file_id", "source_id", "stamp", "content"}
    assert rows(here, "files", of_a_place) == rows(there, "files", of_a_place)
    labels = bucket.put({"told/labels.csv": files["labels.csv"]}, "") + "told/labels.csv"
    bare = bucket.put(FILES, "bare/")
    take(named, bare, labels)
    assert rows(named) == rows(here)


def test_the_second_time_no_image_is_fetched(bucket: Bucket, tmp_path: Path, requests: list[tuple[str, str]]) -> None:
    source = bucket.put({**FILES, "labels.csv": table(TOLD)})
    there = workspace(bucket, tmp_path / "root")
    first = take(there, source)
    fetched = Counter(got(requests))
    assert max(fetched.values()) == 1
    assert len(fetched) == len(FILES)  # and the labels; twins are one
    requests.clear()
    again = take(there, source)
    assert (again.plan.new, again.plan.reused, again.accepted) == (0, len(FILES), first.accepted)
    assert not [key for key in got(requests) if key.endswith((".png", ".jpg"))]
    assert len(requests) < 12
    requests.clear()
    bucket.put({"labels.csv": table([{**row, "diagnosis": "scar"} for row in TOLD])})
    relabelled = take(there, source)
    assert (relabelled.plan.new, relabelled.changed) == (0, first.pictures)


def test_an_object_that_was_overwritten_is_fetched_alone(
    bucket: Bucket, tmp_path: Path, requests: list[tuple[str, str]]
) -> None:
    source = bucket.put({**FILES, "labels.csv": table(TOLD)})
    there = workspace(bucket, tmp_path / "root", MEDGR2_COMPUTE__ATTEMPTS="1")
    take(there, source)
    requests.clear()
    bucket.put({"more/3.png": picture(99), "more/4.png": FILES["more/4.png"], "more/new.png": picture(98)})
    report = take(there, source)
    assert sorted(key for key in got(requests) if key.endswith(".png")) == ["in/more/3.png", "in/more/new.png"]
    assert (report.plan.new, report.added) == (2, 1)
    assert report.reasons["no_label"] == 2


def test_odd_keys(bucket: Bucket, tmp_path: Path) -> None:
    """A bucket's keys are not ours to choose: every one is read. Labels find what a path in a table can say."""
    plain = ["with space.png", "zürich/мозг 脑.png", "a+b&c=d?e#f%20g.png", "~tilde'quote\".png", f"{'long' * 45}.png"]
    odd = ["a//b.png", "back\\slash.png", "./dot.png", "up/../down.png"]
    files = {name: picture(300 + n) for n, name in enumerate([*plain, *odd])}
    told = table([label(name, split="") for name in plain])
    hidden = {"folder/": b"", ".hidden.png": b"x", ".hidden/x.png": picture(5)}
    source = bucket.put({**files, **hidden, "labels.csv": told})
    report = take(workspace(bucket, tmp_path / "root"), source)
    assert (report.plan.found, report.accepted, report.failed) == (len(files), len(plain), 0)
    assert report.reasons == {"no_label": len(odd)}


def test_a_bucket_that_goes_away_half_way(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requests: list[tuple[str, str]]
) -> None:
    monkeypatch.setattr("medgr2.tasks.intake.survey.WINDOW", 6)
    source = bucket.put({**FILES, "labels.csv": table(TOLD)})
    there, whole = workspace(bucket, tmp_path / "root"), workspace(bucket, tmp_path / "whole")
    expected = take(whole, source)
    requests.clear()
    removed: dict[str, bytes] = {}
    reading = SourceReader.read

    def vanishing(self: SourceReader, locator: str) -> bytes:
        if locator.endswith("more/5.png") and not removed:
            removed.update(bucket.remove())
        return reading(self, locator)

    monkeypatch.setattr(SourceReader, "read", vanishing)
    with pytest.raises(StorageError) as gone:
        take(there, source)
    assert gone.value.kept
    assert "journal" in gone.value.kept
    assert gone.value.next_command
    assert "more/5" not in str(gone.value)
    assert there.lake.read("images").num_rows == 0
    with pytest.raises(StorageError):
        take(there, source)
    bucket.s3.create_bucket(Bucket=bucket.name)
    bucket.put(removed, "")
    requests.clear()
    report = take(there, source)
    fetched = [key for key in got(requests) if not key.endswith(".csv")]
    assert 0 < len(fetched) < len(FILES) - 4
    assert report.plan.reused > 3
    assert (report.accepted, report.reasons) == (expected.accepted, expected.reasons)
    assert rows(there) == rows(whole)


def test_objects_that_go_away_half_way_are_failures_and_come_back(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = bucket.put({**FILES, "labels.csv": table(TOLD)})
    there = workspace(bucket, tmp_path / "root")
    reading = SourceReader.read

    def vanishing(self: SourceReader, locator: str) -> bytes:
        if locator.endswith(("more/5.png", "more/6.png")):
            bucket.s3.delete_object(Bucket=bucket.name, Key="in/" + locator.partition("\0")[2])
        return reading(self, locator)

    monkeypatch.setattr(SourceReader, "read", vanishing)
    report = take(there, source)
    assert report.reasons["unreadable"] == 2
    monkeypatch.undo()
    bucket.put({name: FILES[name] for name in ("more/5.png", "more/6.png")})
    again = take(there, source)
    assert "unreadable" not in again.reasons
    assert again.accepted == report.accepted + 2


def test_the_source_and_the_root_in_one_bucket(bucket: Bucket, tmp_path: Path) -> None:
    source = bucket.put({**FILES, "labels.csv": table(TOLD)}, "in/")
    folder = workspace(bucket, tmp_path / "root")
    take(folder, source)
    cache = {"MEDGR2_STORAGE__CACHE": str(tmp_path / "cache")}
    there = workspace(bucket, f"s3://{bucket.name}/root", **cache)
    report = take(there, source)
    assert rows(there) == rows(folder)
    assert audit_splits(there).violations == 0
    again = take(there, source)
    assert (again.plan.new, again.accepted) == (0, report.accepted)
    for inside in (f"s3://{bucket.name}", f"s3://{bucket.name}/root", f"s3://{bucket.name}/root/images"):
        with pytest.raises(Exception, match="in one another"):
            take(there, inside)
    nested = workspace(bucket, f"s3://{bucket.name}/in/root", **cache)
    with pytest.raises(Exception, match="in one another"):
        take(nested, source)
    beside = workspace(bucket, f"s3://{bucket.name}/in-root", **cache)  # begins alike, lies elsewhere
    assert take(beside, source).accepted == report.accepted


def test_a_bucket_or_labels_that_are_not_there(bucket: Bucket, tmp_path: Path) -> None:
    source = bucket.put(FILES)
    there = workspace(bucket, tmp_path / "root")
    with pytest.raises(StorageError, match="NoSuchBucket"):
        take(there, f"s3://{bucket.name}-none/in")
    with pytest.raises(NotFoundError, match="no labels file") as none:
        take(there, source, f"{source}none.csv")
    assert none.value.next_command
    assert take(there, f"s3://{bucket.name}/nothing/here").plan.found == 0


def test_wrong_credentials(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = bucket.put(FILES)
    for wrong in ({"MEDGR2_STORAGE__S3__SECRET_ACCESS_KEY": "wrong"}, {"MEDGR2_STORAGE__S3__ACCESS_KEY_ID": "nobody"}):
        env = environment(bucket, str(tmp_path / "root"), **wrong)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        with authenticating(bucket):
            assert run(["ingest", source, "--json"]) == ExitCode.STORAGE
        said = capsys.readouterr()
        assert said.out == ""
        assert "kept:" in said.err
        assert "MEDGR2_STORAGE__S3__" in said.err
        assert SECRET_KEY not in said.err
        assert "wrong" not in said.err
