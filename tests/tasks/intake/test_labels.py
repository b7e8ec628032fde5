"""Labels: any table with a mapping; text stays text; every bad row has a reason, every bad file a message."""

from __future__ import annotations

import contextlib
import csv
import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medgr2.schemas.errors import DataError, NotFoundError
from medgr2.tasks.intake import labels as module
from medgr2.tasks.intake.columns import Columns
from medgr2.tasks.intake.label_csv import CsvLabels
from medgr2.tasks.intake.labels import SCHEMA, Labels, read_labels

KIT = Path(__file__).resolve().parents[4] / "shared" / "data"


def hashed(source: str, person: str) -> str:
    return f"<{source}|{person}>"


def read(path: Path, data: str | bytes, *mapped: str, keep: tuple[str, ...] = ()) -> Labels:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return read_labels(path, Columns.of(mapped, keep), hashed)


def one(labels: Labels, file: str) -> dict[str, Any]:
    (row,) = labels.of([file]).to_pylist()
    return dict(row)


def jsonl(rows: list[Any]) -> str:
    return "\n".join(json.dumps(row) for row in rows)


def test_what_a_row_says(tmp_path: Path) -> None:
    labels = read(
        tmp_path / "labels.csv",
        "Image,Type,Dx,Stage,patient,group,dataset,split,attributes,report,site,Name\n"
        'a/b.png,magnetic resonance,Glioma,007,p1,g1,north,test,"{""plane"": ""axial""}","two\nlines",Ward 3,Jane\n',
        "modality=Type", "diagnosis=Dx", keep=("site",),
    )  # fmt: skip
    row = one(labels, "a/b.png")
    assert json.loads(row.pop("labels")) == {
        "attributes": {"plane": "axial"}, "diagnosis": "Glioma", "grade": "007", "site": "Ward 3",
    }  # fmt: skip
    assert row == {
        "file": "a/b.png", "known": True, "modality": "MRI", "anatomy": None, "diagnosis": "Glioma", "grade": "007",
        "report": "two\nlines", "source": "north", "licence": None, "patient_key": "<north|p1>",
        "group_key": "<north/group|g1>", "split": "heldout", "problem": None,
    }  # fmt: skip
    assert labels.left_out == ("Name",)


def test_the_answer_is_aligned_with_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{n}.png" for n in (5, 1, 9, 3, 7, 0)]
    labels = read(tmp_path / "l.csv", "file,dx\n" + "".join(f"{n},d{n}\n" for n in names))
    asked = ["3.png", "none.png", "0.png", "3.png", "9.png"]
    wanted = ["d3.png", None, "d0.png", "d3.png", "d9.png"]
    few = labels.of(asked)
    monkeypatch.setattr(module, "FEW", 1)
    many = labels.of(asked)
    assert few == many
    assert few.schema == SCHEMA
    assert few["diagnosis"].to_pylist() == wanted
    assert few["known"].to_pylist() == [True, False, True, True, True]
    assert labels.of([]).schema == SCHEMA
    assert labels.unused(["3.png", "none.png"]) == 5
    assert Labels.none().of(["a"])["known"].to_pylist() == [False]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"modality": "Crystal ball"}, "unknown_modality"), ({"split": "fold 2"}, "unknown_split"),
        ({"split": "quarantined"}, "unknown_split"), ({"diagnosis": "x" * 3000}, "bad_value:diagnosis"),
        ({"anatomy": "che\x1bst"}, "bad_value:anatomy"), ({"patient_id": "a\x1fb"}, "bad_value:patient_id"),
        ({"report": "ok\u202ereversed"}, "bad_value:report"), ({"file": "../a.png"}, "unsafe_path"),
        ({"file": "/etc/a.png"}, "unsafe_path"), ({"file": "C:\\a.png"}, "unsafe_path"),
        ({"file": "s3://bucket/a.png"}, "unsafe_path"), ({"file": "a\x01.png"}, "unsafe_path"),
        ({}, None), ({"modality": "", "split": ""}, None), ({"report": "line\n\tline"}, None),
        ({"diagnosis": "two\n lines"}, None),
    ],
)  # fmt: skip
def test_a_bad_row_has_a_reason_and_the_others_none(tmp_path: Path, row: dict[str, str], problem: str | None) -> None:
    rows = [{"file": "a.png", "modality": "CT", **row}, {"file": "good.png", "modality": "CT"}]
    labels = read(tmp_path / "l.jsonl", jsonl(rows))
    assert one(labels, "good.png")["problem"] is None
    assert dict(labels.problems()) == ({problem: 1} if problem else {})
    if "file" not in row:
        assert one(labels, "a.png")["problem"] == problem
    for name in {"diagnosis", "anatomy", "report"} & set(row):
        assert (one(labels, "a.png")[name] is None) == (problem is not None)


def test_two_rows_of_one_file(tmp_path: Path) -> None:
    labels = read(
        tmp_path / "l.csv",
        "file,modality,dx,patient\n"
        "torn.png,CT,mass,p\nsame.png,CT,mass,p\n./same.png,ct,mass,p\ntorn.png,CT,normal,p\n"
        "patient.png,CT,mass,p\npatient.png,CT,mass,q\nhalf.png,CT,mass,p\nhalf.png,CT,,p\n"
        "thrice.png,CT,a,p\nthrice.png,CT,b,p\nthrice.png,CT,a,p\n",
    )  # fmt: skip
    assert len(labels) == 5
    problems = {name: one(labels, f"{name}.png")["problem"] for name in ("torn", "same", "patient", "half", "thrice")}
    assert problems == {"same": None} | dict.fromkeys(("torn", "patient", "half", "thrice"), "two_labels")


def test_paths_are_understood_as_people_write_them(tmp_path: Path) -> None:
    rows = ["a\\b.png", "./c.png", "d//e/./f.png", f"{tmp_path}/g.png", "Bäckle.png", " h i.png "]
    labels = read(tmp_path / "l.jsonl", jsonl([{"file": name} for name in rows]))
    wanted = ["a/b.png", "c.png", "d/e/f.png", "g.png", "Ba\u0308ckle.png", "h i.png"]
    assert labels.of(wanted)["known"].to_pylist() == [True] * 6
    assert labels.of(wanted)["file"].to_pylist() == wanted
    assert labels.unused(wanted) == 0


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbffile;modality;grade\r\na.png;CT;007\r\n\r\n\r\n", b"file\tmodality\tgrade\na.png\tCT\t007",
        b"sep=;\r\nfile;modality;grade\r\na.png;CT;007\r\n;;\r\n;;\r\n",
        b'"file","modality","grade"\n"a.png","CT","007"\n',
        b"\n\nfile,modality,grade\na.png,CT,007\n,,,,\n", b"file,modality,grade\ra.png,CT,007\r",
        b'file,modality,grade,"free\ntext, here"\na.png,CT,007,"5, 6"\n', b"file|modality|grade\na.png|CT|007\n",
        b' file , modality , grade \n a.png , CT , 007 \n,,\n',
    ],
)  # fmt: skip
def test_sheets_as_they_are_saved(tmp_path: Path, data: bytes) -> None:
    labels = read(tmp_path / "l.csv", data)
    row = one(labels, "a.png")
    assert (len(labels), row["modality"], row["grade"], row["problem"]) == (1, "CT", "007", None)


@pytest.mark.parametrize(
    ("name", "data", "message", "where"),
    [
        ("l.csv", b"", "are empty", ""), ("l.csv", b"\n \n", "are empty", ""), ("l.csv", b"file\n", "name no file", ""),
        ("l.csv", b"file,dx", "name no file", ""),
        ("l.csv", b"file,modality\na,\xff\n", "not UTF-8", "byte 16"), ("l.csv", b"\xff\xfef\0i\0", "UTF-16", "byte 0"),
        ("l.csv", b"file,a\nx,\0\n", "zero byte", "byte 9"),
        ("l.csv", b"modality\nCT\n", "no column file", "'modality'"),
        ("l.csv", b"file,dx,dx\na,b,c\n", "more than one column 'dx'", "line 1"),
        ("l.csv", b"Jane,b,Jane\n", "more than one column of one name", "line 1"),
        ("l.csv", b"file,dx\n,mass\n", "without a file name", "line 2"),
        ("l.csv", b'file,dx\n\n"a",b\n"c","d\ne"\n\n,mass\n', "without a file name", "line 7"),
        ("l.csv", b"file,dx\na,Jane Doe,c\n", "does not have 2 values", "line 2"),
        ("l.csv", b'\nfile,dx\n\na,"b\nc"\nd,Jane Doe,e\nf\n', "does not have 2 values (and 1 more)", "line 6"),
        ("l.csv", b'file,dx\na,"Jane\nb,c\nd,e\n', "never closed, in the record that begins on line 2", ""),
        ("l.csv", b'file,dx,note\na,b,c\nd,e,"Jane\nf,g,h\n', "begins on line 3", ""),
        ("l.csv", b'file,dx\na,"Jane\nb,"c"\nd,e\n', "no readable CSV", ""),
        ("l.csv", b'file,dx\na,"Jane ' + b"x" * (9 << 20) + b'"\n', "no readable CSV", ""),
        ("l.jsonl", b'{"file": "a"}\n[1]\n', "no JSON object", "line 2"),
        ("l.jsonl", b'{"file": "a"}\n\n{"fi', "no JSON object", "line 3"), ("l.jsonl", b"\n", "are empty", ""),
        ("l.jsonl", b'{"file": "a"}\n{"dx": "Jane"}\n', "without a file name", "line 2"),
        ("l.parquet", b"PAR1 and nothing more", "no readable Parquet", ""), ("l.xlsx", b"PK", "not as .xlsx", ""),
    ],
)  # fmt: skip
def test_a_bad_file_has_a_message_that_shows_nobody(
    tmp_path: Path, name: str, data: bytes, message: str, where: str
) -> None:
    with pytest.raises(DataError) as raised:
        read(tmp_path / name, data)
    assert message in raised.value.what
    assert where in raised.value.where
    assert raised.value.kept
    assert "Jane" not in str(raised.value)


def test_whatever_is_written_is_read_as_the_standard_library_reads_it_or_refused(tmp_path: Path) -> None:
    rng = random.Random(7)
    pieces = ['"', '""', ",", "\n", "\r\n", "\r", "a", "b c", " ", '5" x', '"q,r"', '"m\nn"', "", "\t"]
    pieces += ["x,y,z\n", '"b","c, d","e ""f"""\r\n', ",,\n", "x,y,z\n", "u,v,w\n"]
    path, agreed = tmp_path / "l.csv", 0
    for _ in range(400):
        text = "one,two,three\n" + "".join(rng.choices(pieces, k=rng.randint(1, 8)))
        path.write_bytes(text.encode())
        with contextlib.suppress(DataError):
            file = CsvLabels(path)
            names = ("one", "two", "three")
            got = [list(row.values()) for batch in file.batches(names) for row in batch.to_pylist()]
            with path.open(newline="") as f:
                assert got == [row for row in csv.reader(f, strict=True) if len(row) == 3][1:], text
            agreed += bool(got)
    assert agreed > 50


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no labels file"):
        read_labels(tmp_path / "none.csv", Columns(), hashed)


def test_parquet_and_jsonl_say_the_same_as_csv(tmp_path: Path) -> None:
    table = pa.table(
        {"file": ["a.png", "b.png"], "modality": pa.array(["CT", "MR"]).dictionary_encode(), "grade": [1, None],
         "patient_id": ["007", "8"], "left": [[1], [2]]}
    )  # fmt: skip
    pq.write_table(table, tmp_path / "l.parquet")
    parquet = read_labels(tmp_path / "l.parquet", Columns(), hashed)
    rows = table.drop_columns("left").to_pylist()
    lines = read(tmp_path / "l.jsonl", jsonl(rows))
    comma = read(tmp_path / "l.csv", "file,modality,grade,patient_id\na.png,CT,1,007\nb.png,MR,,8\n")
    files = ["b.png", "a.png"]
    assert parquet.of(files) == lines.of(files) == comma.of(files)
    assert parquet.left_out == ("left",)
    with pytest.raises(DataError, match="type list<"):
        read_labels(tmp_path / "l.parquet", Columns.of(["diagnosis=left"]), hashed)


def test_parquet_that_is_no_text_inside(tmp_path: Path) -> None:
    raw = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe"))
    pq.write_table(pa.table({"file": ["a"], "dx": raw}), tmp_path / "l.parquet")
    with pytest.raises(DataError, match="no readable Parquet"):
        read_labels(tmp_path / "l.parquet", Columns(), hashed)


def test_half_a_character_is_no_crash(tmp_path: Path) -> None:
    labels = read(tmp_path / "l.jsonl", r'{"file": "a\ud800.png", "dx": "\udfff", "\ud800": 1}')
    assert json.dumps(labels.left_out)
    assert one(labels, "a?.png")["diagnosis"] == "?"


def test_a_file_name_that_is_no_text_has_no_label(tmp_path: Path) -> None:
    labels = read(tmp_path / "l.csv", "file,dx\na.png,mass\n")
    odd = b"M\xfcller.png".decode("utf-8", "surrogateescape")
    assert labels.of([odd, "a.png"])["known"].to_pylist() == [False, True]
    assert labels.unused([odd]) == 1


def test_the_digest_tells_contents_and_mapping_apart(tmp_path: Path) -> None:
    data = "file,dx,other\na,b,c\n"
    first = read(tmp_path / "l.csv", data).digest
    assert read(tmp_path / "again.csv", data).digest == first
    assert read(tmp_path / "l.csv", data, keep=("other",)).digest != first
    assert read(tmp_path / "l.csv", data, "diagnosis=other").digest != first
    assert read(tmp_path / "l.csv", data + "d,e,f\n").digest != first


def test_rows_cost_no_python_objects(tmp_path: Path) -> None:
    rows = 60_000
    with (tmp_path / "l.csv").open("w") as f:
        f.write("file,modality,dx,patient\n")
        f.writelines(f"{n:06d}.png,CT,disease {n % 9},p{n // 3}\n" for n in range(rows))
    tracemalloc.start()
    labels = read_labels(tmp_path / "l.csv", Columns(), hashed)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(labels) == rows
    assert held < rows * 16, "a Python object a row is at least 16 bytes, and its text 50 more"
    files = [f"{n:06d}.png" for n in range(rows)]
    table = labels.of(files)
    assert table["patient_key"].to_pylist() == [f"<|p{n // 3}>" for n in range(rows)]
    assert labels.unused(files) == 0


def test_the_real_kit_is_understood_row_by_row() -> None:
    path = KIT / "realkit" / "labels.csv"
    if not path.is_file():
        pytest.skip(f"the real test images are not at {KIT}")
    labels = read_labels(path, Columns(), hashed)
    with path.open(newline="") as f:
        rows = list(csv.DictReader(f))
    table = labels.of([row["file"] for row in rows]).to_pylist()
    assert len(labels) == len(rows)
    assert not labels.problems()
    for theirs, ours in zip(rows, table, strict=True):
        assert ours["modality"] == theirs["modality"]
        for name in ("anatomy", "diagnosis", "grade", "source", "licence"):
            assert (ours[name] or "") == theirs[name]
        assert ours["patient_key"] == (hashed(theirs["source"], theirs["patient_id"]) if theirs["patient_id"] else None)


def test_nobody_of_the_dicom_index_comes_in() -> None:
    path = KIT / "dicom" / "index.csv"
    if not path.is_file():
        pytest.skip(f"the DICOM test files are not at {KIT}")
    labels = read_labels(path, Columns(), lambda source, person: "key")
    assert {"patient_name", "birth_date", "study_date", "institution"} <= set(labels.left_out)
    with path.open(newline="") as f:
        rows = list(csv.DictReader(f))
    stored = json.dumps(labels.of([row["file"] for row in rows]).drop_columns("file").to_pylist())
    for row in rows:
        for name in ("patient_name", "patient_id", "birth_date"):
            assert len(row[name]) < 4 or row[name] not in stored


def test_persons_are_given_for_files_with_a_report_and_in_no_table(tmp_path: Path) -> None:
    labels = read(
        tmp_path / "l.csv",
        "file,patient,study_id,first_name,last_name,report\n"
        "a.png,p-1,knee,Ilka,Zwolanska,seen\nb.png,p-1,AB-100,Ilka,Zwolanska,\nc.png,,77,,,seen\n"
        "d.png,,AB-100,,,seen\ne.png,p-2,,Sol, ,seen\n",
    )  # fmt: skip
    files = ["e.png", "none.png", "d.png", "c.png", "b.png", "a.png"]
    wanted = [("Sol", "p-2"), (), ("AB-100",), (), (), ("Ilka", "Zwolanska", "p-1")]
    assert labels.persons(files) == wanted
    assert not labels.problems()
    assert "Zwolanska" not in str(labels.of(files).to_pylist()) + repr(labels)
    assert Labels.none().persons(["a.png"]) == [()]
    assert labels.digest != read_labels(tmp_path / "l.csv", Columns.of(["patient_name="]), hashed).digest


def test_two_spellings_of_a_name_are_both_looked_for_and_contradict_nothing(tmp_path: Path) -> None:
    labels = read(
        tmp_path / "l.csv",
        "file,patient,name,report\na.png,p-1,Doe^Jane,seen\nb.png,p-2,Roe,seen\na.png,p-1,Jane Dough,seen\n"
        "b.png,p-2,,seen\nc.png,p-3,,seen\n",
    )  # fmt: skip
    assert not labels.problems()
    assert labels.persons(["a.png", "b.png", "c.png"]) == [("Doe^Jane", "Jane Dough", "p-1"), ("Roe", "p-2"), ("p-3",)]


def test_a_name_that_cannot_be_looked_for_keeps_the_report_out(tmp_path: Path) -> None:
    rows = [
        {"file": "a.png", "patient_name": "Jane\x1bDoe", "report": "seen"},
        {"file": "b.png", "patient_name": "J" * 2000, "report": "seen"},
        {"file": "c.png", "patient_name": "Jane\x1bDoe"},
    ]
    labels = read(tmp_path / "l.jsonl", jsonl(rows))
    assert dict(labels.problems()) == {"bad_value:patient_name": 2}
    assert one(labels, "c.png")["problem"] is None
