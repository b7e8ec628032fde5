"""What a batch of label rows says, in our words, and what is wrong with each."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pyarrow as pa
import pyarrow.compute as pc

from medgr2.tasks.intake.columns import IDENTIFYING, LABELS
from medgr2.tasks.intake.words import modality_named, split_named

Hashed = Callable[[str, str], str]
TEXTS = (
    "modality", "anatomy", "diagnosis", "grade", "report", "source", "licence", "patient_key", "group_key", "split",
    "labels",
)  # fmt: skip
INTERNAL = pa.schema(
    [
        (name, pa.large_string() if name in ("file", "report") else pa.dictionary(pa.int32(), pa.string()))
        for name in ("file", *TEXTS, "problem", "persons")
    ]
)
"""At rest, what is said often is stored once; long texts may be more than 2 GB together.

`persons` is how a row with a report calls its patient, raw: to be looked for in that report, and for nothing else."""
LONGEST = {
    "file": 4096, "report": 1 << 20, "attributes": 16_384, "patient_id": 256, "patient_name": 1024, "group_id": 1024,
}  # fmt: skip
LONGEST_OTHER = 300
"""A label is a word or a few; free text belongs in the report, which is scrubbed."""
_UNSAFE_TEXT = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x{80}-\x{9f}\x{202a}-\x{202e}\x{2066}-\x{2069}]"
_OUTSIDE = r"^/|^[A-Za-z]:|^[A-Za-z][A-Za-z0-9+.-]*://|(^|/)\.\.(/|$)"
_NOBODY = r"^(0+|unknown|none|null|nan|n/?a|anon(ym(ous|i[sz]ed)?)?|-+|\?+)$"
"""Ids that stand for nobody: their pictures are not one patient's."""
_BETWEEN = "\x1f"
BETWEEN_NAMES = "\n"


def cleaned(batch: pa.RecordBatch, folder: Path, kept: Sequence[str], hashed: Hashed) -> pa.RecordBatch:
    """What one batch says, in our words, and what is wrong with each row."""
    text: dict[str, pa.Array] = {}
    wrong: list[tuple[str, pa.Array]] = []
    for name in batch.schema.names:
        value, bad = _checked(batch.column(name), name)
        text[name] = value
        if name == "patient_name" and "report" in batch.schema.names:
            # It would not be found in the report. Where there is none, it is nothing to us.
            told, _ = _checked(batch.column("report"), "report")
            wrong.append((f"bad_value:{name}", pc.and_(bad, told.is_valid())))
        elif name != "file":
            wrong.append((f"bad_value:{name}", bad))
        else:
            text["file"], outside = _relative(value, folder)
            wrong.insert(0, ("unsafe_path", pc.or_(bad, outside)))

    def of(name: str) -> pa.Array:
        return text.get(name, pa.nulls(batch.num_rows, pa.string()))

    modality = _mapped(of("modality"), modality_named)
    split = _mapped(of("split"), split_named)
    wrong.append(("unknown_modality", pc.and_(of("modality").is_valid(), modality.is_null())))
    wrong.append(("unknown_split", pc.and_(of("split").is_valid(), split.is_null())))
    out = {name: of(name) for name in ("file", "anatomy", "diagnosis", "grade", "report", "source", "licence")}
    out |= {
        "modality": modality,
        "split": split,
        "patient_key": _keyed(of("source"), of("patient_id"), hashed, ""),
        "group_key": _keyed(of("source"), of("group_id"), hashed, "/group"),
        "labels": _together({name: of(name) for name in sorted({*LABELS, *kept})}),
        "problem": pc.coalesce(
            *(pc.if_else(is_so, name, pa.scalar(None, pa.string())) for name, is_so in wrong),
            pa.scalar(None, pa.string()),
        ),
        "persons": _persons(of("report"), (of("patient_id"), of("patient_name"), _numbered(of("group_id")))),
    }
    return pa.RecordBatch.from_arrays([out[one.name].cast(one.type) for one in INTERNAL], schema=INTERNAL)


def _checked(column: pa.Array, name: str) -> tuple[pa.Array, pa.Array]:
    """The value without its margins, null where there is none or it may not be used; and where it may not."""
    value = pc.utf8_trim_whitespace(column)
    bad = pc.or_(
        pc.greater(pc.utf8_length(value), LONGEST.get(name, LONGEST_OTHER)),
        pc.match_substring_regex(value, _UNSAFE_TEXT),
    ).fill_null(False)
    if name not in ("report", *IDENTIFYING):
        value = pc.replace_substring_regex(value, r"\s+", " ")
    # A path stays, however bad, so that it is counted; nothing that is null would be found again.
    gone = pc.equal(value, "").fill_null(True) if name == "file" else pc.or_(bad, pc.equal(value, "").fill_null(True))
    return pc.if_else(gone, pa.scalar(None, pa.string()), value), bad


def _relative(file: pa.Array, folder: Path) -> tuple[pa.Array, pa.Array]:
    """Paths from the labels' folder, with '/', composed as Unicode's NFC; and which of them lead out of it."""
    path = pc.replace_substring(pc.utf8_normalize(file, form="NFC"), "\\", "/")
    root = normalize("NFC", folder.as_posix().rstrip("/")) + "/"
    path = pc.if_else(pc.starts_with(path, root), pc.utf8_slice_codeunits(path, len(root)), path)
    outside = pc.match_substring_regex(path, _OUTSIDE).fill_null(False)
    path = pc.replace_substring_regex(path, r"/(\./|/)+", "/")
    path = pc.replace_substring_regex(path, r"^(\./)+", "")
    return path, outside


def _mapped(column: pa.Array, word: Callable[[str], str | None]) -> pa.Array:
    """Each distinct value through `word`, once."""
    encoded = pc.dictionary_encode(column)
    return pa.array([word(one) for one in encoded.dictionary.to_pylist()], pa.string()).take(encoded.indices)


def _keyed(source: pa.Array, person: pa.Array, hashed: Hashed, suffix: str) -> pa.Array:
    both = pc.binary_join_element_wise(pc.fill_null(source, ""), pc.fill_null(person, ""), _BETWEEN)
    somebody = pc.invert(pc.match_substring_regex(pc.fill_null(person, ""), _NOBODY, ignore_case=True))
    both = pc.if_else(pc.and_(person.is_valid(), somebody), both, pa.scalar(None, pa.string()))

    def key(pair: str) -> str:
        where, _, who = pair.partition(_BETWEEN)
        return hashed(where + suffix, who)

    return _mapped(both, key)


def _persons(report: pa.Array, names: Sequence[pa.Array]) -> pa.Array:
    joined = pc.binary_join_element_wise(pc.fill_null(names[0], ""), *names[1:], BETWEEN_NAMES, null_handling="skip")
    joined = pc.utf8_trim_whitespace(joined)
    told = pc.and_(report.is_valid(), pc.not_equal(joined, ""))
    return pc.if_else(told, joined, pa.scalar(None, pa.string()))


def _numbered(group: pa.Array) -> pa.Array:
    """A group is often an examination, whose number stands in its report; it may be a plain word too, or a count."""
    number = pc.match_substring_regex(group, r"^\S*\d\S{3,}$|^\S{3,}\d\S*$")
    return pc.if_else(number.fill_null(False), group, pa.scalar(None, pa.string()))


def _together(columns: dict[str, pa.Array]) -> pa.Array:
    """JSON of all that is there. What is an object itself stays one."""
    parts = [_mapped(column, partial(_member, name)) for name, column in columns.items()]
    # Arrow 26 loses a row whose every part is null, so each begins with a part that is not.
    start = pc.fill_null(pa.nulls(len(parts[0]), pa.string()), "")
    joined = pc.binary_join_element_wise(start, *parts, ", ", null_handling="skip")
    whole = pc.binary_join_element_wise("{", pc.utf8_slice_codeunits(joined, 2), "}", "")
    return pc.if_else(pc.equal(joined, ""), pa.scalar(None, pa.string()), whole)


def _member(name: str, text: str) -> str:
    value: Any = text
    if text.startswith("{"):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
    return f"{json.dumps(name)}: {json.dumps(value, sort_keys=True, ensure_ascii=False)}"
