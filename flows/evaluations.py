"""What a person is told of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from medgr2.schemas.cycle_reports import Accuracy, Gain
from medgr2.schemas.evaluations import Evaluation, Examined, FreeEvaluation

BLIND_LESS = "of their answers failed, and make a model look less blind"


def told(one: Evaluation) -> Iterator[str]:
    lines: list[tuple[str, str]] = [("macro", one.macro.text()), ("micro", one.micro.text())]
    if one.sampled is not None:
        lines.append((f"avg@{one.sampled.samples}", f"{one.sampled.micro.text()}, macro {one.sampled.macro.text()}"))
    lines += _controls(one)
    lines.append(_lost(one))
    for label, sure in (("letter's chance", one.calibration), ("agreement", one.agreement)):
        if sure is not None:
            gap = f"{sure.confidence:.3f} sure, {sure.accuracy:.3f} right"
            lines.append((label, f"{gap}; ECE {sure.ece:.3f}, Brier {sure.brier:.3f}, {sure.n} answers"))
    others = one.other_scorers
    lines.append(("as others score", f"VLMEvalKit {others.vlmevalkit:.3f}, lmms-eval {others.lmms_eval:.3f}"))
    if (other := one.against) is not None:
        lines.append((f"less {other.other[:12]}", f"{other.greedy.text()}, {_odds(other.greedy)}"))
        if (drawn := other.sampled) is not None:
            gain = f"{drawn.gain:+.3f} [{drawn.low:+.3f}, {drawn.high:+.3f}], p = {drawn.p_value:.3g}"
            lines.append((f"  avg@{drawn.samples}", gain))
    yield from _headed(one, lines)
    for title, protocol in (("modality", one.by_modality), ("question type", one.by_question_type)):
        domains = f"in-domain {_number(protocol.in_domain)}, cross-domain {_number(protocol.cross_domain)}"
        yield f"  by {title}: macro {protocol.macro:.3f}, {domains}"
        for name, part in protocol.slices.items():
            yield _slice(name or "(not known)", part.n, part.accuracy, taught=part.taught)
    yield from _which(one)


def told_free(one: FreeEvaluation) -> Iterator[str]:
    lines: list[tuple[str, str]] = []
    if one.closed is not None:
        lines.append(("closed", f"{one.closed.accuracy.text()}, {one.closed.n} questions"))
    if one.open is not None:
        lines.append(("open, exact", f"{one.open.exact.text()}, {one.open.n} questions"))
        lines.append(("open, token F1", f"{one.open.f1.text()}, recall {one.open.recall.text()}"))
    lines.append(("overall, exact", one.overall.text()))
    lines += _controls(one)
    lines.append(_lost(one))
    yield from _headed(one, lines)
    for kind, part in one.by_kind.items():
        yield _slice(kind, part.n, part.accuracy)
    yield from _which(one)


def matrices(found: Sequence[Evaluation]) -> Iterator[list[dict[str, Any]]]:
    """A row a model, a column a slice; a star where the model was taught it."""
    for protocol in ("by_modality", "by_question_type"):
        rows: list[dict[str, Any]] = []
        for one in found:
            slices = getattr(one, protocol).slices
            cells = {name: f"{s.accuracy.value:.3f}{'*' if s.taught else ''}" for name, s in slices.items()}
            rows.append({"model": one.model[:12], **cells})
        yield rows


def _odds(gain: Gain) -> str:
    return f"{gain.wins} won, {gain.losses} lost, p = {gain.p_value:.3g}"


def _headed(one: Examined, lines: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield f"{one.model[:12]} ({one.role}, {one.method}) on {one.on}, {one.n} items"
    for label, text in lines:
        yield f"  {label:<18} {text}"


def _controls(one: Examined) -> Iterator[tuple[str, str]]:
    for label, control in (("no picture", one.blind), ("grey picture", one.blank), ("another's picture", one.swapped)):
        if control is not None:
            yield label, control.text()
    if one.controls_failed:
        yield "controls", f"{one.controls_failed} {BLIND_LESS}"


def _lost(one: Examined) -> tuple[str, str]:
    return "unreadable", f"{one.unreadable}, failed {one.failed}: wrong, and counted"


def _slice(name: str, n: int, accuracy: Accuracy, *, taught: bool = False) -> str:
    return f"   {'*' if taught else ' '} {name:<28} {n:>6}  {accuracy.text()}"


def _which(one: Examined) -> Iterator[str]:
    if one.unreadable or one.failed or one.controls_failed:
        yield f"  which ones: {one.listed}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
