"""The tables of the lake, as explicit Arrow schemas.

Columns may be added at the end of a table (older rows read as null), never renamed or retyped.
Free text is kept out of Delta's statistics: by default the transaction log would keep up to 64 characters of
every text column, and an erased report would live on there.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

_S, _I, _F, _B = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_T = pa.timestamp("us", tz="UTC")
_LS = pa.list_(pa.string())
_Y = pa.binary()


@dataclass(frozen=True)
class Table:
    name: str
    schema: pa.Schema
    statistics: tuple[str, ...]
    """Columns Delta may keep statistics of: ids, numbers, times and closed word lists only."""
    about: str


def _table(name: str, about: str, statistics: str, columns: dict[str, pa.DataType]) -> Table:
    return Table(name, pa.schema(list(columns.items())), tuple(statistics.split()), about)


IMAGES = _table(
    "images",
    "One row an image, named by the hash of its bytes.",
    "image_id modality split width height",
    {
        "image_id": _S, "modality": _S, "anatomy": _S, "labels": _S, "report": _S, "source": _S, "licence": _S,
        "patient_key": _S, "split": _S, "width": _I, "height": _I, "media_type": _S, "bytes": _I,
        "run": _S, "added_at": _T,
        "keys": _LS, "origin": _S, "part": _S, "fingerprint": _Y, "burned_in": _S, "header": _S, "told": _S,
        "reason": _S, "against": _S,
    },
)  # fmt: skip
ITEMS = _table(
    "items",
    "One row a distinct item, whoever wrote it.",
    "item_id image_id question_type origin answer",
    {
        "item_id": _S, "image_id": _S, "question_type": _S, "question": _S, "options": _LS, "answer": _S,
        "rationale": _S, "origin": _S, "generator": _S, "prompt": _S, "recipe": _S, "cell": _S,
        "run": _S, "added_at": _T,
        "context": _S,
    },
)  # fmt: skip
SCORES = _table(
    "scores",
    "One row an item and a judgement: its gates, signals, p(valid) and verdict.",
    "item_id scorer calibration lp agree p_valid verdict",
    {
        "score_id": _S, "item_id": _S, "scorer": _S, "calibration": _S, "lp": _F, "agree": _F, "p_valid": _F,
        "tau": _F, "verdict": _S, "reasons": _LS, "cell": _S, "run": _S, "scored_at": _T,
        "perm": _F, "blind": _F, "reward": _S, "rm": _F, "rm_std": _F, "verifier": _F,
    },
)  # fmt: skip
MEMBERSHIP = _table(
    "membership",
    "What each publish added to and removed from a dataset; counts once its publish_id is in `versions`.",
    "publish_id item_id change dataset",
    {"publish_id": _S, "dataset": _S, "item_id": _S, "change": _S},
)
VERSIONS = _table(
    "versions",
    "One row a published version; this row is the commit point.",
    "dataset version publish_id digest items added removed parent",
    {
        "dataset": _S, "version": _I, "publish_id": _S, "digest": _S, "items": _I, "added": _I, "removed": _I,
        "parent": _I, "card": _S, "run": _S, "published_at": _T,
    },
)  # fmt: skip
TAGS = _table(
    "tags",
    "Names for versions; the newest row of a (dataset, tag) holds.",
    "dataset tag version sequence",
    {"dataset": _S, "tag": _S, "version": _I, "sequence": _I, "tagged_at": _T},
)
OUTCOMES = _table(
    "outcomes",
    "What became of every cell: accepted, rejected or failed, with reasons, and what it cost where anybody counts.",
    "outcome_id stage outcome attempt",
    {
        "outcome_id": _S, "key": _S, "stage": _S, "recipe": _S, "image_id": _S, "outcome": _S, "reason": _S,
        "reasons": _LS, "detail": _S, "attempt": _I, "run": _S, "finished_at": _T,
        "calls": _I, "tokens_in": _I, "tokens_out": _I, "seconds": _F, "money": _F,
    },
)  # fmt: skip
RUNS = _table(
    "runs",
    "One row a stage of a run: what was planned and what came of it.",
    "run stage found new reused retried accepted rejected failed",
    {
        "run": _S, "stage": _S, "recipe": _S, "found": _I, "new": _I, "reused": _I, "retried": _I, "accepted": _I,
        "rejected": _I, "failed": _I, "seconds": _F, "finished_at": _T,
        "not_begun": _I, "calls": _I, "tokens_in": _I, "tokens_out": _I, "waited": _F, "money": _F,
    },
)  # fmt: skip
REVIEWS = _table(
    "reviews",
    "Verdicts of people on items; one that another row `corrects` holds no longer.",
    "review_id item_id valid stratum",
    {
        "review_id": _S, "item_id": _S, "reviewer": _S, "valid": _B, "reason": _S, "run": _S, "reviewed_at": _T,
        "stratum": _S, "weight": _F,
        "corrects": _S,
    },
)  # fmt: skip
EVALS = _table(
    "evals",
    "One row an answer of a model to a held-out item under a condition.",
    "model_id item_id condition correct parsed own",
    {
        "eval_id": _S, "model_id": _S, "dataset": _S, "version": _I, "digest": _S, "item_id": _S, "image_id": _S,
        "modality": _S, "question_type": _S, "condition": _S, "answer": _S, "key": _S, "correct": _B, "parsed": _B,
        "cell": _S, "run": _S, "evaluated_at": _T,
        "sampled": _LS, "confidence": _F, "reply": _S, "failed": _S,
        "closed": _B, "token_f1": _F, "token_recall": _F,
        "asked": _S, "own": _B,
    },
)  # fmt: skip
MODELS = _table(
    "models",
    "The registry: one row a model, with what it came from.",
    "model_id role parent dataset dataset_version number",
    {
        "model_id": _S, "role": _S, "artifact": _S, "parent": _S, "method": _S, "dataset": _S,
        "dataset_version": _I, "dataset_digest": _S, "reward": _S, "code": _S, "recipe": _S, "metrics": _S,
        "run": _S, "registered_at": _T,
        "number": _I,
    },
)  # fmt: skip
USES = _table(
    "uses",
    "Which model read which exact dataset version, and for what.",
    "model_id dataset version purpose",
    {"use_id": _S, "model_id": _S, "dataset": _S, "version": _I, "digest": _S, "purpose": _S, "run": _S, "used_at": _T},
)
ERASURES = _table(
    "erasures",
    "Tombstones: keyed hashes of what was erased and may never come back.",
    "erasure_id kind",
    {"erasure_id": _S, "kind": _S, "subject": _S, "reason": _S, "evidence": _S, "erased_at": _T},
)

FILES = _table(
    "files",
    "What became of every file of a source, and by what it is known again; the newest row of a file_id holds.",
    "file_id source_id size verdict",
    {
        "file_id": _S, "source_id": _S, "size": _I, "stamp": _S, "content": _S, "verdict": _S, "reason": _S,
        "detail": _S, "images": _LS, "found": _S, "recipe": _S, "run": _S, "seen_at": _T,
        "facts": _S,
    },
)  # fmt: skip
BENCHMARKS = _table(
    "benchmarks",
    "Images of public benchmarks, by hash and near-hash: none of them may be trained on.",
    "benchmark_id benchmark",
    {"benchmark_id": _S, "benchmark": _S, "content": _S, "fingerprint": _Y, "added_at": _T},
)

FREE_QUESTIONS = _table(
    "free_questions",
    "Questions of public benchmarks without options, as their authors ask them; for evaluation only.",
    "question_id benchmark image_id closed",
    {
        "question_id": _S, "benchmark": _S, "image_id": _S, "question": _S, "answer": _S, "closed": _B, "kind": _S,
        "run": _S, "added_at": _T,
    },
)  # fmt: skip

_ALL = (
    IMAGES, FILES, BENCHMARKS, ITEMS, SCORES, MEMBERSHIP, VERSIONS, TAGS, OUTCOMES, RUNS, REVIEWS, EVALS, MODELS, USES,
    ERASURES, FREE_QUESTIONS,
)  # fmt: skip
TABLES: dict[str, Table] = {table.name: table for table in _ALL}
