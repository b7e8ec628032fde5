"""The command line as a person meets it: clear errors, distinct exit codes, JSON where a program reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medgr2.flows.cli import COMMANDS, run
from medgr2.infra.lake import Lake
from medgr2.infra.settings import load_settings
from medgr2.infra.versions import publish
from medgr2.schemas.errors import ExitCode
from medgr2.schemas.parameters import RefreshParameters, SelectParameters


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDGR2_STORAGE__ROOT", str(tmp_path / "root"))
    return tmp_path / "root"


def item_row(number: int) -> dict[str, object]:
    digit = format(number, "x")
    return {
        "item_id": digit * 64, "image_id": "f" * 64, "question_type": "Disease Diagnosis", "question": "Which?",
        "options": ["a", "b", "c", "d"], "answer": "A", "rationale": "It is a.", "origin": "human", "run": "test",
    }  # fmt: skip


@pytest.fixture
def published(root: Path) -> Lake:
    lake = Lake(load_settings().storage)
    lake.append_new("items", [item_row(n) for n in (1, 2, 3)], key="item_id")
    publish(lake, dataset="ds", add=["1" * 64, "2" * 64], card={}, run="one")
    publish(lake, dataset="ds", add=["3" * 64], remove=["1" * 64], card={}, run="two")
    return lake


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        assert run([name, "--help"]) == ExitCode.OK
        assert "Usage: medgr2 " + name in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "says"),
    [
        (["nonsense"], {}, ExitCode.USAGE, ["No such command", "medgr2 --help"]),
        (["versions", "--jsn"], {}, ExitCode.USAGE, ["--jsn", "medgr2 versions --help"]),
        (["config", "show"], {"MEDGR2_STORAGE__ROT": "x"}, ExitCode.SETTINGS, ["MEDGR2_STORAGE__ROT", "__ROOT"]),
        (["config", "show"], {"MEDGR2_COMPUTE__MODE": "fast"}, ExitCode.SETTINGS, ["MEDGR2_COMPUTE__MODE", "inline"]),
        (["versions"], {"MEDGR2_STORAGE__ROOT": "ftp://x"}, ExitCode.SETTINGS, ["ftp://x", "s3://"]),
        (["query", "selec 1"], {}, ExitCode.USAGE, ["selec", "SHOW TABLES"]),
        (["query", "select nothing from items"], {}, ExitCode.USAGE, ["nothing"]),
        (["query", "drop table items"], {}, ExitCode.USAGE, ["nothing else", "DROP"]),
        (["query", "select * from '/etc/passwd'"], {}, ExitCode.USAGE, ["passwd"]),
        (["explain", "abcd1234"], {}, ExitCode.NOT_FOUND, ["no item abcd1234", "medgr2 query"]),
        (["explain", "../../etc"], {}, ExitCode.USAGE, ["not an item id"]),
        (["versions", "diff", "ds@1", "ds@9"], {}, ExitCode.NOT_FOUND, ["ds"]),
        (["versions", "tag", "ds", "good"], {}, ExitCode.USAGE, ["which version"]),
        (["query", "select 1 as a, 2 as a"], {}, ExitCode.USAGE, ["called a", "AS"]),
        (["refresh", "--tau", "7"], {}, ExitCode.USAGE, ["--tau", "less than 1", "7.0"]),
        (["refresh", "--top-k", "0"], {}, ExitCode.USAGE, ["--top-k", "greater"]),
        (["refresh", "--dataset", "A B"], {}, ExitCode.USAGE, ["--dataset", "'A B'"]),
        (["refresh", "--reviewer", "phantoms"], {}, ExitCode.USAGE, ["embedded"]),
        (["loop", "--cycles", "0"], {}, ExitCode.USAGE, ["--cycles", "greater"]),
        (["loop", "--images", "3"], {}, ExitCode.USAGE, ["--images"]),
        (["ingest", "no/such/folder"], {}, ExitCode.NOT_FOUND, ["no such folder", "no/such/folder"]),
    ],
)
def test_a_slip_gives_one_clear_message(
    arguments: list[str],
    environment: dict[str, str],
    code: ExitCode,
    says: list[str],
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert run(arguments) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert "error: " in said.err
    assert "Traceback" not in said.err
    assert all(word in said.err for word in says), said.err


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ([], SelectParameters()),
        (["--tau", "0.9", "--top-k", "400"], SelectParameters(tau=0.9, top_k=400)),
        (["--no-balance-keys"], SelectParameters(balance_keys=False)),
        (["--balance-keys", "--top-k", "1"], SelectParameters(top_k=1)),
    ],
)
def test_what_is_selected_by_is_what_was_asked_for(
    arguments: list[str], asked: SelectParameters, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[RefreshParameters] = []

    class Told:
        def lines(self) -> list[str]:
            return []

    def forecast(_: object, parameters: RefreshParameters) -> Told:
        seen.append(parameters)
        return Told()

    monkeypatch.setattr("medgr2.tasks.forecast.forecast", forecast)
    assert run(["refresh", "--plan", *arguments]) == 0
    assert [parameters.select for parameters in seen] == [asked]


@pytest.mark.parametrize(
    "arguments", [["versions"], ["query", "select 1"], ["models"], ["compact"], ["explain", "abcd"]]
)
def test_an_unreadable_root_is_a_storage_error(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("MEDGR2_STORAGE__ROOT", str(root))
        assert run(arguments) == ExitCode.STORAGE
        said = capsys.readouterr().err
        assert f"{tmp_path / 'file'} is a file" in said
        assert "MEDGR2_STORAGE__ROOT" in said


def test_an_empty_root_is_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["versions", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == []
    assert str(root) in said.err


def test_json_has_no_nan(published: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query", "--json", "select 'NaN'::double a, ['inf'::double] b"]) == 0
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == [{"a": None, "b": [None]}]


def test_json_numbers_are_numbers(published: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query", "--json", "select sum(1) a, 1.5::decimal(4, 2) b"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"a": 1, "b": 1.5}]


def test_an_unexpected_error_is_one_line_unless_asked(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the disk has opinions")

    monkeypatch.setattr("medgr2.infra.query.query", broken)
    assert run(["query", "select 1"]) == ExitCode.INTERNAL
    assert "medgr2 --debug query" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="opinions"):
        run(["--debug", "query", "select 1"])


def test_versions_list_diff_and_tag(published: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["versions", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(v["version"], v["items"], v["added"], v["removed"]) for v in listed] == [
        ("ds@1", 2, 2, 0),
        ("ds@2", 2, 1, 1),
    ]
    assert run(["versions", "diff", "ds@1", "ds@2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["added"], found["removed"]) == (["3" * 64], ["1" * 64])
    assert run(["versions", "tag", "ds@1", "good"]) == 0
    capsys.readouterr()
    assert run(["versions", "diff", "ds@tag:good", "ds@latest"]) == 0
    assert "added: 1" in capsys.readouterr().out
    assert run(["versions"]) == 0
    assert "good" in capsys.readouterr().out


def test_query_prints_json_and_a_table(published: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "select verdict, count(*) n from items_scored group by 1"
    assert run(["query", "--json", sql]) == 0
    assert json.loads(capsys.readouterr().out) == [{"verdict": "unscored", "n": 3}]
    assert run(["query", sql]) == 0
    assert capsys.readouterr().out.split() == ["verdict", "n", "unscored", "3"]


def test_explain_takes_a_unique_prefix(published: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "2222", "--json"]) == 0
    story = json.loads(capsys.readouterr().out)
    assert story["item"]["item_id"] == "2" * 64
    assert [v["version"] for v in story["versions"]] == ["ds@1", "ds@2"]
    published.append_new("items", [{**item_row(2), "item_id": "2" * 63 + "a"}], key="item_id")
    assert run(["explain", "2222"]) == ExitCode.USAGE


def test_explain_never_prints_report_or_patient(published: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    image = {
        "image_id": "f" * 64,
        "modality": "CT",
        "report": "Jane Doe was seen",
        "patient_key": "e" * 64,
        "split": "train",
    }
    published.append_new("images", [image], key="image_id")
    assert run(["explain", "3333", "--json"]) == 0
    said = capsys.readouterr().out
    assert json.loads(said)["image"]["modality"] == "CT"
    assert "Jane" not in said
    assert "e" * 64 not in said


def test_config_masks_secrets_and_names_the_source(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEDGR2_PRIVACY__PATIENT_KEY", "correct horse battery staple")
    assert run(["config", "show", "--json"]) == 0
    said = capsys.readouterr().out
    assert "horse" not in said
    rows = {row["setting"]: row for row in json.loads(said)}
    assert rows["MEDGR2_STORAGE__ROOT"] == {
        "setting": "MEDGR2_STORAGE__ROOT", "value": str(root), "source": "environment",
        "about": "A folder, or s3://bucket/prefix: everything lives there.",
    }  # fmt: skip
    assert rows["MEDGR2_COMPUTE__MODE"]["source"] == "default"
    assert all(row["about"] for row in rows.values())


def test_doctor_names_what_is_broken(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", "--json"]) == 0
    states = {row["check"]: row["state"] for row in json.loads(capsys.readouterr().out)}
    assert states["storage"] == states["lake"] == states["base model"] == "ok"
    monkeypatch.setenv("MEDGR2_MODELS__BASE", str(root))
    with pytest.raises(SystemExit) as stopped:
        run(["doctor"])
    assert stopped.value.code == ExitCode.STORAGE
    assert "MEDGR2_MODELS__BASE" in capsys.readouterr().out


def test_compact_dry_run_changes_nothing(published: Lake, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def state() -> dict[str, int]:
        return {str(p.relative_to(root)): p.stat().st_size for p in sorted(root.rglob("*")) if p.is_file()}

    before = state()
    assert run(["compact", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dry_run"] is True
    assert state() == before


def test_models_says_when_there_are_none(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models"]) == 0
    assert "medgr2 loop" in capsys.readouterr().out
