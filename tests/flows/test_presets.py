"""`medgr2 presets` says what a name stands for, and `--set` changes it."""

from __future__ import annotations

import json

import pytest

from medgr2.flows.cli import run
from medgr2.flows.forms import training_of
from medgr2.schemas.errors import ExitCode, UsageError
from medgr2.schemas.parameters import TrainParameters
from medgr2.schemas.presets import BASES, PRESETS


def test_every_setting_of_every_preset_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["presets", "--json"]) == ExitCode.OK
    told = json.loads(capsys.readouterr().out)
    assert told == {name: {"base": BASES[name], **how.model_dump(mode="json")} for name, how in PRESETS.items()}


def test_the_table_shows_what_they_differ_in_or_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["presets"]) == ExitCode.OK
    short = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert run(["presets", "--all"]) == ExitCode.OK
    whole = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert short[0] == ["setting", *PRESETS]
    assert all(line in whole for line in short)
    assert len(short) < len(whole)
    names = {line[0] for line in whole}
    assert names >= set(type(PRESETS["paper"]).model_fields)


def test_changes_are_typed_as_name_and_value() -> None:
    given = training_of("paper", ["sft_steps=3", " told = false"])
    how = TrainParameters.model_validate(given).settings
    assert how == PRESETS["paper"].model_copy(update={"sft_steps": 3, "told": False})


@pytest.mark.parametrize(
    ("change", "says", "then"),
    [
        ("sft_step=3", "cannot read 'sft_step=3'", "sft_steps"),
        ("nonsense", "cannot read 'nonsense'", "one of: answer_style"),
        ("preset=paper", "cannot read 'preset=paper'", "one of"),
        ("sft_steps=many", "sft_steps=many", "--help"),
        ("sft_steps=-1", "sft_steps", "--help"),
        ("answer_style=loud", "'think', 'no-think' or 'think-after'", "--help"),
    ],
)
def test_a_slip_in_a_change_is_told(change: str, says: str, then: str) -> None:
    with pytest.raises(UsageError) as slip:
        training_of("cpu-tiny", [change])
    assert says in slip.value.what
    assert then in slip.value.next_command
    with pytest.raises(UsageError):
        training_of("cpu-tiny", ["sft_steps=3", "sft_steps=4"])


def test_the_loop_refuses_what_it_cannot_train_before_anything_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("MEDGR2_STORAGE__ROOT", str(tmp_path))
    assert run(["loop", "--preset", "paper"]) == ExitCode.SETTINGS
    said = capsys.readouterr().err
    assert "the preset paper can not be trained here" in said
    assert "nothing spent" in said
    assert run(["loop", "--help"]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert all(name in shown for name in PRESETS)
