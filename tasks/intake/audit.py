"""The split audit: proves on what is stored that nothing of a held-out picture can be learned in training."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

from medgr2.infra import versions
from medgr2.infra.neighbours import Neighbours
from medgr2.infra.pictures.fingerprint import comparable
from medgr2.infra.workspace import Workspace
from medgr2.schemas.intake_reports import SplitAudit, SplitCheck
from medgr2.schemas.parameters import EVALUATION_DATASETS
from medgr2.schemas.vocabulary import Split
from medgr2.tasks.intake.case import FACTS, contradict
from medgr2.tasks.intake.groups import Groups

SHOWN = 5
"""So many examples of a violation are named; all are counted."""
COLUMNS = ("image_id", "modality", "anatomy", "labels", "patient_key", "keys", "split", "origin", "fingerprint")
Row = dict[str, Any]


def audit_splits(workspace: Workspace) -> SplitAudit:
    """Reads every row and compares every picture with every other: nothing is taken from an earlier run's word."""
    rows = workspace.lake.read("images", COLUMNS).to_pylist()
    by_id = {row["image_id"]: row for row in rows}
    used = [row for row in rows if row["split"] != Split.QUARANTINED]
    alike = _alike(rows)
    checks = (
        _check("every image is in one known split", len(rows), _unsplit(rows)),
        _check("no patient, study or group in two splits", len(used), _torn(rows)),
        _check("no near-duplicate in another split", len(used), _alike_apart(alike)),
        _check("no near-duplicate is told otherwise", len(used), _alike_otherwise(alike)),
        _check("no benchmark image outside the held-out split", len(used), _of_benchmarks(workspace, used)),
        _check("no item of a training set on an image that is not for training", *_misplaced_items(workspace, by_id)),
        _check("no held-out question on a training image", *_misplaced_questions(workspace, by_id)),
    )
    splits: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        splits[row["modality"] or ""][row["split"] or ""] += 1
    return SplitAudit(
        images=len(rows),
        without_fingerprint=sum(not comparable(row["fingerprint"]) for row in rows),
        near_duplicates=len(alike),
        checks=checks,
        splits={modality: dict(sorted(counts.items())) for modality, counts in sorted(splits.items())},
    )


def _check(name: str, looked_at: int, found: Iterable[str]) -> SplitCheck:
    violations = sorted(set(found))
    return SplitCheck(name=name, looked_at=looked_at, violations=len(violations), examples=tuple(violations[:SHOWN]))


def _unsplit(rows: list[Row]) -> Iterator[str]:
    seen: Counter[str] = Counter(row["image_id"] for row in rows)
    yield from (image for image, times in seen.items() if times > 1)
    yield from (row["image_id"] for row in rows if row["split"] not in set(Split))


def _torn(rows: list[Row]) -> Iterator[str]:
    """A quarantined picture is in no split, and may yet tell that two patients are one."""
    groups, own = Groups(), defaultdict[str, set[str]](set)
    for row in rows:
        # The parts of a file belong together also where nobody is named.
        keys = sorted({row["patient_key"], row["origin"], *(row["keys"] or ())} - {None})
        for key in keys:
            groups.join(keys[0], key)
            if row["split"] != Split.QUARANTINED:
                groups.bind(key, row["split"])
                own[key].add(row["split"])
    seen: set[Hashable] = set()
    # The keys that are torn themselves; where none is, the first of those that only together are.
    for key in sorted(own, key=lambda key: (len(own[key]) < 2, key)):
        found, root = groups.splits(key), groups.root(key)
        if len(own[key]) > 1 or (len(found) > 1 and root not in seen):
            seen.add(root)
            yield f"{key[:12]}: {' and '.join(sorted(found))}"


def _alike(rows: list[Row]) -> list[tuple[Row, Row]]:
    """Pairs of pictures in use that show the same, of different files."""
    printed = [row for row in rows if comparable(row["fingerprint"]) and row["split"] != Split.QUARANTINED]
    pairs = Neighbours([row["fingerprint"] for row in printed]).pairs()
    found = ((printed[match.first], printed[match.second]) for match in pairs)
    return [(a, b) for a, b in found if a["origin"] is None or a["origin"] != b["origin"]]


def _alike_apart(alike: list[tuple[Row, Row]]) -> Iterator[str]:
    yield from (_pair(a, b) for a, b in alike if a["split"] != b["split"])


def _alike_otherwise(alike: list[tuple[Row, Row]]) -> Iterator[str]:
    yield from (_pair(a, b) for a, b in alike if contradict(_facts(a), _facts(b)))


def _pair(a: Row, b: Row) -> str:
    return f"{a['image_id'][:12]} and {b['image_id'][:12]}"


def _facts(row: Row) -> tuple[str | None, ...]:
    labels = json.loads(row["labels"] or "{}")
    return tuple(row[name] if name in row else labels.get(name) for name in FACTS)


def _of_benchmarks(workspace: Workspace, used: list[Row]) -> Iterator[str]:
    trained = [row for row in used if row["split"] != Split.HELDOUT]
    rows = workspace.lake.read("benchmarks", ["content", "fingerprint"]).to_pylist()
    contents = {row["content"] for row in rows}
    yield from (row["image_id"] for row in trained if {row["image_id"], row["origin"]} & contents)
    known = [row["fingerprint"] for row in rows if comparable(row["fingerprint"])]
    printed = [row for row in trained if comparable(row["fingerprint"])]
    neighbours = Neighbours(known)
    neighbours.add([row["fingerprint"] for row in printed])
    for match in neighbours.pairs(first_new=len(known)):
        if match.first < len(known):
            yield printed[match.second - len(known)]["image_id"]


def _misplaced_items(workspace: Workspace, by_id: Mapping[str, Row]) -> tuple[int, Iterator[str]]:
    """The newest version of every dataset that may be trained on."""
    names = sorted(set(workspace.lake.read("versions", ["dataset"])["dataset"].to_pylist()) - {*EVALUATION_DATASETS})
    return _misplaced(workspace, names, by_id, Split.TRAIN)


def _misplaced_questions(workspace: Workspace, by_id: Mapping[str, Row]) -> tuple[int, Iterator[str]]:
    return _misplaced(workspace, EVALUATION_DATASETS, by_id, Split.HELDOUT)


def _misplaced(
    workspace: Workspace, datasets: Iterable[str], by_id: Mapping[str, Row], wanted: Split
) -> tuple[int, Iterator[str]]:
    image_of = dict(
        zip(*(workspace.lake.read("items", ["item_id", "image_id"])[c].to_pylist() for c in (0, 1)), strict=True)
    )
    members: set[str] = set()
    for name in datasets:
        published = versions.versions(workspace.lake, name)
        if published:
            members.update(versions.members(workspace.lake, published[-1]))
    wrong = (item for item in members if by_id.get(image_of.get(item, ""), {}).get("split") != wanted)
    return len(members), (f"item {item[:12]}" for item in wrong)
