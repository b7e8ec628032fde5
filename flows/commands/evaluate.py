"""`medgr2 evaluate MODEL`: a registered model before a held-out set or a benchmark, with its controls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medgr2.flows.output import emit
from medgr2.infra.settings import load_settings
from medgr2.schemas.parameters import EVALUATION_DATASETS, HELDOUT
from medgr2.schemas.vocabulary import AnswerStyle

if TYPE_CHECKING:
    from medgr2.infra.workspace import Workspace
    from medgr2.schemas.evaluations import Evaluation, FreeEvaluation

STYLES: tuple[AnswerStyle, ...] = ("think", "no-think", "think-after")
FORMATS = ("vlmevalkit", "lmms-eval")


@click.command(name="evaluate")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--on",
    default=HELDOUT,
    show_default=True,
    help=f"{', '.join(EVALUATION_DATASETS)}; or an exact version of one: heldout@2.",
)
@click.option("--samples", type=click.IntRange(0, 64), default=0, help="Also so many answers at temperature 1.")
@click.option(
    "--style", type=click.Choice(STYLES), help="Tell the model how to reply, instead of asking as it was taught."
)
@click.option("--longest", type=click.IntRange(8), help="Most tokens of a reply; default as it was taught, or 64.")
@click.option("--export", type=click.Path(path_type=Path, file_okay=False), help="Write the predictions there as well.")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default=FORMATS[0], show_default=True, help="Of the predictions."
)
@click.option("--run", default="", help="Name of this run; default evaluate/<set>.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array, an object a model.")
def command(models: tuple[str, ...], on: str, as_json: bool, **how: Any) -> None:
    """Let each MODEL answer a held-out set: with each picture, without, with a grey one, and with another patient's.

    MODEL is a role (its champion), the beginning of an id, `start` (what policies start from) or `base` (what writes
    and judges). What cannot be read, and what failed, is wrong and stays in every denominator. VQA-RAD, SLAKE and
    PathVQA are asked without options, as their authors do; a version of one (slake@1) is its yes-or-no questions as
    multiple choice. Killed and run again, it asks only for what is missing.
    """
    from medgr2.flows.evaluations import matrices, told, told_free
    from medgr2.infra.workspace import open_workspace
    from medgr2.schemas.errors import UsageError
    from medgr2.tasks.examination import find_model
    from medgr2.tasks.free_questions import read_free

    if on.partition("@")[0] not in EVALUATION_DATASETS:
        raise UsageError(
            f"{on} is no evaluation set: a model is not examined on what may be taught",
            next_command=f"--on {', '.join(EVALUATION_DATASETS)}",
        )
    workspace = open_workspace(load_settings())
    chosen = [find_model(workspace, name) for name in dict.fromkeys(models)]
    questions, source = read_free(workspace.lake, on)
    if questions:
        if how["samples"] or how["style"]:
            raise UsageError(
                f"{on} is asked without options: --samples and --style are for multiple choice",
                next_command=f"medgr2 evaluate {' '.join(models)} --on {on}",
            )
        free = [_free(workspace, model, questions, source, **how) for model in chosen]
        if as_json:
            emit([each.model_dump() for each in free], as_json=True)
        else:
            click.echo("\n".join(line for each in free for line in told_free(each)))
        return
    found: list[Evaluation] = []
    first: list[dict[str, Any]] = []
    for model in chosen:
        one, rows = _choice(workspace, model, on, first=first, **how)
        found.append(one)
        first = first or rows
    if as_json:
        emit([one.model_dump() for one in found], as_json=True)
        return
    click.echo("\n".join(line for each in found for line in told(each)))
    for matrix in matrices(found) if len(found) > 1 else ():
        click.echo("")
        emit(matrix, as_json=False)


def _choice(
    workspace: Workspace,
    model: dict[str, Any],
    on: str,
    *,
    first: list[dict[str, Any]],
    samples: int,
    style: AnswerStyle | None,
    longest: int | None,
    export: Path | None,
    form: str,
    run: str,
) -> tuple[Evaluation, list[dict[str, Any]]]:
    from medgr2.infra import versions
    from medgr2.models.answer_forms import answering_in
    from medgr2.tasks.evaluate import Condition
    from medgr2.tasks.evaluation_report import report
    from medgr2.tasks.examination import examine
    from medgr2.tasks.predictions import write
    from medgr2.tasks.remembered import remembered
    from medgr2.tasks.stage import say_plan

    heldout = versions.resolve(workspace.lake, on)
    run = run or f"evaluate/{heldout.ref}"
    answering = answering_in(style, told=True) if style else None
    taught = remembered(workspace, model["model_id"])
    rows = examine(
        workspace, model, heldout, run=run, announce=say_plan, samples=samples, longest=longest, answering=answering,
        conditions=tuple(Condition), taught=taught, count_failed=True,
    )  # fmt: skip
    if export is not None:
        _say_written(write(workspace.lake, rows, export, form=form, model=model, on=heldout.ref))
    return report(workspace.lake, model, heldout, rows, taught, run=run, first=first), rows


def _free(
    workspace: Workspace,
    model: dict[str, Any],
    questions: list[dict[str, Any]],
    source: Any,
    *,
    longest: int | None,
    export: Path | None,
    form: str,
    run: str,
    **_: Any,
) -> FreeEvaluation:
    from medgr2.tasks.evaluate_free import examine_free
    from medgr2.tasks.free_report import free_report
    from medgr2.tasks.predictions import write
    from medgr2.tasks.stage import say_plan

    run = run or f"evaluate/{source.dataset}"
    rows = examine_free(workspace, model, questions, source, run=run, announce=say_plan, longest=longest)
    if export is not None:
        _say_written(write(workspace.lake, rows, export, form=form, model=model, on=source.dataset))
    return free_report(model, source, rows, run=run)


def _say_written(written: Any) -> None:
    click.echo(f"{written.rows} predictions: {written.path}", err=True)
