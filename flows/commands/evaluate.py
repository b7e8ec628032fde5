"""`medgr2 evaluate MODEL`: a registered model before a held-out set, with its controls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medgr2.flows.output import emit
from medgr2.infra.settings import load_settings
from medgr2.schemas.parameters import EVALUATION_DATASETS, HELDOUT
from medgr2.schemas.vocabulary import AnswerStyle

if TYPE_CHECKING:
    from medgr2.schemas.cycle_reports import Accuracy
    from medgr2.schemas.evaluations import Evaluation

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
@click.option("--longest", type=click.IntRange(8), default=64, show_default=True, help="Most tokens of a reply.")
@click.option("--export", type=click.Path(path_type=Path, file_okay=False), help="Write the predictions there as well.")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default=FORMATS[0], show_default=True, help="Of the predictions."
)
@click.option("--run", default="", help="Name of this run; default evaluate/<set>.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array, an object a model.")
def command(
    models: tuple[str, ...],
    on: str,
    samples: int,
    style: AnswerStyle | None,
    longest: int,
    export: Path | None,
    form: str,
    run: str,
    as_json: bool,
) -> None:
    """Let each MODEL answer a held-out set: with each picture, with a grey one, and with another patient's.

    MODEL is `base`, a role (its champion), or the beginning of an id. What cannot be read, and what failed, is wrong
    and stays in every denominator. Killed and run again, it asks only for what is missing.
    """
    from medgr2.infra import versions
    from medgr2.infra.workspace import open_workspace
    from medgr2.models.answer_forms import answering_in
    from medgr2.schemas.errors import UsageError
    from medgr2.tasks import examination
    from medgr2.tasks.evaluation_report import report
    from medgr2.tasks.predictions import write
    from medgr2.tasks.stage import say_plan

    if on.partition("@")[0] not in EVALUATION_DATASETS:
        raise UsageError(
            f"{on} is no evaluation set: a model is not examined on what may be taught",
            next_command=f"--on {', '.join(EVALUATION_DATASETS)}",
        )
    workspace = open_workspace(load_settings())
    chosen = [examination.find_model(workspace, name) for name in dict.fromkeys(models)]
    heldout = versions.resolve(workspace.lake, on)
    name = run or f"evaluate/{heldout.ref}"
    found: list[Evaluation] = []
    for model in chosen:
        rows = examination.examine(
            workspace,
            model,
            heldout,
            run=name,
            announce=say_plan,
            samples=samples,
            longest=longest,
            answering=answering_in(style, told=True) if style else None,
            count_failed=True,
        )
        taught = examination.taught_to(workspace, model["model_id"])
        found.append(report(workspace.lake, model, heldout, rows, taught, run=name))
        if export is not None:
            written = write(workspace.lake, rows, export, form=form, model=model, heldout=heldout)
            click.echo(f"{written.rows} predictions: {written.path}", err=True)
    if as_json:
        emit([one.model_dump() for one in found], as_json=True)
        return
    for one in found:
        _tell(one)
    if len(found) > 1:
        _matrix(found)


def _tell(one: Evaluation) -> None:
    click.echo(f"{one.model[:12]} ({one.role}, {one.method}) on {one.on}, {one.n} items")
    told: list[tuple[str, str]] = [("macro", one.macro.text()), ("micro", one.micro.text())]
    if one.sampled is not None:
        told.append((f"avg@{one.sampled.samples}", f"{one.sampled.micro.text()}, macro {one.sampled.macro.text()}"))
    told += [
        ("grey picture", _text(one.blank)),
        ("another's picture", _text(one.swapped)),
        ("unreadable", f"{one.unreadable}, failed {one.failed}: wrong, and counted"),
    ]
    if one.controls_failed:
        told.append(("controls", f"{one.controls_failed} of their answers failed, and make a model look less blind"))
    for label, sure in (("letter's chance", one.calibration), ("agreement", one.agreement)):
        if sure is not None:
            gap = f"{sure.confidence:.3f} sure, {sure.accuracy:.3f} right"
            told.append((label, f"{gap}; ECE {sure.ece:.3f}, Brier {sure.brier:.3f}, {sure.n} answers"))
    others = one.other_scorers
    told.append(("as others score", f"VLMEvalKit {others.vlmevalkit:.3f}, lmms-eval {others.lmms_eval:.3f}"))
    for label, text in told:
        click.echo(f"  {label:<18} {text}")
    for title, protocol in (("modality", one.by_modality), ("question type", one.by_question_type)):
        click.echo(f"  by {title}: macro {protocol.macro:.3f}, in-domain {_number(protocol.in_domain)}, "
                   f"cross-domain {_number(protocol.cross_domain)}")  # fmt: skip
        for name, part in protocol.slices.items():
            star = "*" if part.taught else " "
            click.echo(f"   {star} {name:<28} {part.n:>6}  {part.accuracy.text()}")
    if one.unreadable or one.failed or one.controls_failed:
        click.echo(f"  which ones: {one.listed}")


def _matrix(found: Sequence[Evaluation]) -> None:
    """A row a model, a column a slice; a star where it was taught."""
    for protocol in ("by_modality", "by_question_type"):
        rows: list[dict[str, Any]] = []
        for one in found:
            slices = getattr(one, protocol).slices
            cells = {name: f"{s.accuracy.value:.3f}{'*' if s.taught else ''}" for name, s in slices.items()}
            rows.append({"model": one.model[:12], **cells})
        click.echo("")
        emit(rows, as_json=False)


def _text(accuracy: Accuracy | None) -> str:
    return accuracy.text() if accuracy is not None else "-"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
