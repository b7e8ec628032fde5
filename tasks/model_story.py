"""The story of a model: everything that it came from, what was found out about it, and what became of it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from medgr2.infra.query import connect
from medgr2.infra.workspace import Workspace
from medgr2.models.alpha_ledger import Look
from medgr2.models.registry import Move, Registry
from medgr2.schemas.vocabulary import Role
from medgr2.tasks.promotion import ledger

_READ = """
    SELECT u.model_id, u.purpose, u.dataset, u.version, u.digest, v.items, v.run
    FROM uses u LEFT JOIN versions v USING (dataset, version) ORDER BY ALL"""
# Of the items of the versions that a model was trained on, what was judged last before they were published.
_JUDGED = """
    WITH read AS (SELECT DISTINCT dataset, version FROM uses WHERE purpose = 'train'),
    judged AS (
        SELECT m.dataset, m.version, m.item_id, s.scorer, s.reward, s.verifier, s.calibration, s.tau
        FROM members m JOIN read USING (dataset, version) JOIN versions v USING (dataset, version)
        JOIN scores s ON s.item_id = m.item_id AND s.scored_at <= v.published_at
        QUALIFY row_number() OVER (
            PARTITION BY m.dataset, m.version, m.item_id ORDER BY s.scored_at DESC, s.score_id DESC) = 1)
    SELECT dataset, version, scorer, reward, calibration, tau, count(*) AS items
    FROM judged GROUP BY ALL ORDER BY ALL"""
_WRITTEN = """
    SELECT m.dataset, m.version, i.generator, i.prompt, count(*) AS items
    FROM members m JOIN (SELECT DISTINCT dataset, version FROM uses WHERE purpose = 'train') USING (dataset, version)
    JOIN items i USING (item_id) WHERE i.origin = 'generated' GROUP BY ALL ORDER BY ALL"""
_SEEN = "SELECT model_id, dataset, version, condition, n, accuracy, parsed, macro FROM accuracy ORDER BY ALL"
Rows = list[dict[str, Any]]


def stories(workspace: Workspace) -> Rows:
    """Of every model, in the order of registration."""
    registry = Registry(workspace.store, workspace.lake)
    rows = sorted(workspace.lake.read("models").to_pylist(), key=lambda row: (row["registered_at"], row["model_id"]))
    by_id, names = {row["model_id"]: row for row in rows}, registry.names()
    artifacts = {(row["role"], row["artifact"]): names[row["model_id"]] for row in reversed(rows)}
    reads, judged, written, seen = _asked(workspace)
    moves = {role: registry.history(role) for role in Role}
    looks = ledger(workspace).looks(Role.POLICY)

    def data(model_id: str) -> Rows:
        """The versions it was trained on, who wrote their items and who judged them."""
        trained = [read for read in reads[model_id] if read["purpose"] == "train"]
        return [
            {k: read[k] for k in ("dataset", "version", "digest", "items", "run")}
            | {"written_by": [_named(one, artifacts) for one in written[read["dataset"], read["version"]]]}
            | {"judged_by": [_named(one, artifacts) for one in judged[read["dataset"], read["version"]]]}
            for read in trained
        ]

    return [
        {
            "name": names[row["model_id"]],
            **row,
            "metrics": json.loads(row["metrics"] or "{}"),
            "champion": bool(moves[Role(row["role"])]) and moves[Role(row["role"])][-1].model_id == row["model_id"],
            "ancestors": [names[one] for one in _ancestors(row, by_id)],
            "data": data(row["model_id"]),
            "evaluations": seen[row["model_id"]],
            "looks": [_look(look, names) for look in looks if look.candidate == row["model_id"]],
            "moves": [_move(move, names) for move in moves[Role(row["role"])] if _about(move, row["model_id"])],
        }
        for row in rows
    ]


def heldout(story: Mapping[str, Any]) -> float | None:
    """What a gate says of it: macro accuracy with the picture, on the newest version of the held-out set that the model
    has answered in its own way."""
    answered = [one for one in story["evaluations"] if one["condition"] == "image" and one["dataset"] == "heldout"]
    return max(answered, key=lambda one: int(one["version"]))["macro"] if answered else None


def _asked(workspace: Workspace) -> tuple[dict[str, Rows], dict[Any, Rows], dict[Any, Rows], dict[str, Rows]]:
    con = connect(workspace.settings.storage)
    try:
        reads, judged, written, seen = (
            con.sql(sql).to_arrow_table().to_pylist() for sql in (_READ, _JUDGED, _WRITTEN, _SEEN)
        )
    finally:
        con.close()
    return (
        _grouped(reads, "model_id"), _grouped(judged, "dataset", "version"), _grouped(written, "dataset", "version"),
        _grouped(seen, "model_id"),
    )  # fmt: skip


def _grouped(rows: Rows, *by: str) -> dict[Any, Rows]:
    found: dict[Any, Rows] = defaultdict(list)
    for row in rows:
        key = tuple(row.pop(name) for name in by)
        found[key if len(by) > 1 else key[0]].append(row)
    return found


def _named(made: Mapping[str, Any], artifacts: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """With the names of the models beside their artifacts; the base has one artifact in every role."""
    named = dict(made)
    for column, role in (("generator", Role.GENERATOR), ("scorer", Role.POLICY), ("reward", Role.REWARD)):
        if artifact := made.get(column):
            called = artifacts.get((role.value, artifact)) or artifacts.get((Role.BASE.value, artifact))
            named[f"{column}_name"] = called
    return named


def _ancestors(row: Mapping[str, Any], by_id: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Ids of the model it was trained from, of that one's, and so on to the base."""
    found: list[str] = []
    following = row["parent"]
    while following in by_id and following not in found:
        found.append(following)
        following = by_id[following]["parent"]
    return found


def _look(look: Look, names: Mapping[str, str]) -> dict[str, Any]:
    told = look.told().model_dump() | {"run": look.run, "looked_at": look.looked_at}
    against = names.get(look.champion, look.champion)
    return {"heldout": f"{look.heldout.dataset}@{look.heldout.version}", "against": against} | told


def _about(move: Move, model_id: str) -> bool:
    return model_id in (move.model_id, move.replaced)


def _move(move: Move, names: Mapping[str, str]) -> dict[str, Any]:
    told = {"number": move.number, "action": move.action, "reason": move.reason, "moved_at": move.moved_at}
    return told | {
        "champion": names.get(move.model_id or "", move.model_id),
        "replaced": names.get(move.replaced or "", move.replaced),
    }
