"""Predictions for the tools of others: what a model answered with each picture, in the layouts that those read.

vlmevalkit  <model>_<set>.tsv: index, question, A to E, answer, category, l2-category, prediction
lmms-eval   <model>_samples_<set>.jsonl: doc_id, doc, target, resps, filtered_resps, exact_match
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgr2.infra.lake import Lake
from medgr2.models.other_scorers import said
from medgr2.schemas.errors import UsageError
from medgr2.schemas.vocabulary import LETTERS
from medgr2.tasks.evaluate import Condition

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Written:
    path: Path
    rows: int


def write(lake: Lake, rows: Sequence[Row], folder: Path, *, form: str, model: Row, on: str) -> Written:
    """The prediction is the reply as it came, without thoughts and marks: whoever scores it reads it anew."""
    if form not in _FORMS:
        raise UsageError(f"no layout of predictions {form!r}", next_command=f"--format {', '.join(_FORMS)}")
    name, text = _FORMS[form]
    shown = sorted((row for row in rows if row["condition"] == Condition.IMAGE), key=lambda row: str(row["item_id"]))
    asked = _asked(lake, shown)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name.format(model=f"{model['role']}-{model['model_id'][:12]}", set=on.replace("@", "-"))
    path.write_text(text([{**row, **asked[row["item_id"]]} for row in shown]), encoding="utf-8", newline="")
    return Written(path, len(shown))


def _asked(lake: Lake, rows: Sequence[Row]) -> dict[str, Row]:
    ids = [row["item_id"] for row in rows]
    if any(row.get("closed") is not None for row in rows):
        free = lake.read("free_questions", ["question_id", "question"], {"question_id": ids}).to_pylist()
        return {one["question_id"]: {"question": one["question"], "options": []} for one in free}
    columns = ["item_id", "question", "options"]
    return {item["item_id"]: item for item in lake.read("items", columns, {"item_id": ids}).to_pylist()}


def _vlmevalkit(rows: Sequence[Row]) -> str:
    told = io.StringIO()
    fields = ["index", "question", *LETTERS, "answer", "category", "l2-category", "prediction", "item_id"]
    writer = csv.DictWriter(told, fields, delimiter="\t", lineterminator="\n", restval="")
    writer.writeheader()
    for index, row in enumerate(rows):
        writer.writerow(
            {
                "index": index,
                "question": row["question"],
                **dict(zip(LETTERS, row["options"], strict=False)),
                "answer": row["key"],
                "category": row["modality"],
                "l2-category": row["question_type"],
                "prediction": said(row["reply"]),
                "item_id": row["item_id"],
            }
        )
    return told.getvalue()


def _lmms_eval(rows: Sequence[Row]) -> str:
    lines = []
    for index, row in enumerate(rows):
        doc = {name: row[name] for name in ("item_id", "question", "options", "modality", "question_type")}
        if (closed := row.get("closed")) is not None:
            doc |= {"answer_type": "CLOSED" if closed else "OPEN", "content_type": row["question_type"], "q_lang": "en"}
        sample = {
            "doc_id": index,
            "doc": {**doc, "answer": row["key"]},
            "target": row["key"],
            "resps": [[row["reply"] or ""]],
            "filtered_resps": [said(row["reply"])],
            "exact_match": float(row["correct"]),
        }
        lines.append(json.dumps(sample, ensure_ascii=False) + "\n")
    return "".join(lines)


_FORMS: dict[str, tuple[str, Callable[[Sequence[Row]], str]]] = {
    "vlmevalkit": ("{model}_{set}.tsv", _vlmevalkit),
    "lmms-eval": ("{model}_samples_{set}.jsonl", _lmms_eval),
}
