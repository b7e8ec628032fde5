"""Lineage: from an item back to its image, and on to every version, model and answer that came of it."""

from __future__ import annotations

import re
from typing import Any

from medgr2.infra.query import connect
from medgr2.infra.settings import StorageSettings
from medgr2.schemas.errors import NotFoundError, UsageError

_STEPS: dict[str, str] = {
    # The report, the labels and the patient's key stay out: an item's life is told without them.
    "image": """
        SELECT m.image_id, m.modality, m.split, m.source, m.licence, m.width, m.height, m.run
        FROM images m JOIN items i USING (image_id) WHERE i.item_id = ?""",
    "generation": """
        SELECT i.origin, i.generator, i.recipe, i.cell, o.stage, o.outcome, o.attempt, i.run
        FROM items i LEFT JOIN outcomes o ON o.key = i.cell AND o.outcome = 'accepted' WHERE i.item_id = ?""",
    "scores": """
        SELECT scorer, calibration, lp, agree, p_valid, tau, verdict, reasons, cell, run
        FROM scores WHERE item_id = ? ORDER BY scored_at""",
    "reviews": """
        SELECT reviewer, valid, reason, run, review_id NOT IN (SELECT review_id FROM verdicts) AS taken_back
        FROM reviews WHERE item_id = ? ORDER BY reviewed_at""",
    "versions": """
        SELECT m.dataset || '@' || m.version AS version, v.digest, v.items
        FROM members m JOIN versions v USING (dataset, version)
        WHERE m.item_id = ? ORDER BY m.dataset, m.version""",
    "models": """
        SELECT DISTINCT g.role, g.method, g.model_id, g.artifact, g.parent,
               u.dataset || '@' || u.version AS read, u.purpose, g.run, g.registered_at
        FROM members m JOIN uses u USING (dataset, version) JOIN models g ON g.model_id = u.model_id
        WHERE m.item_id = ? ORDER BY g.registered_at""",
    "answers": """
        SELECT model_id, condition, asked, answer, key, correct FROM evals WHERE item_id = ? ORDER BY evaluated_at""",
}


def explain(storage: StorageSettings, item_id: str) -> dict[str, Any]:
    if not re.fullmatch(r"[0-9a-f]{4,64}", item_id):
        raise UsageError(f"not an item id: {item_id[:80]!r}", next_command="an item id is up to 64 hexadecimal digits")
    con = connect(storage)
    try:
        begins = "SELECT * FROM items WHERE starts_with(item_id, ?) LIMIT 2"
        found = con.sql(begins, params=[item_id]).to_arrow_table().to_pylist()
        if not found:
            raise NotFoundError(
                f"no item {item_id}",
                where=storage.root,
                next_command='medgr2 query "select item_id from items limit 5"',
            )
        if len(found) > 1:
            raise UsageError(f"more than one item begins with {item_id}", next_command="give more of the id")
        (item,) = found
        story: dict[str, Any] = {
            "item": {
                k: item[k]
                for k in ("item_id", "image_id", "question_type", "question", "options", "answer", "rationale")
            }
        }
        for name, sql in _STEPS.items():
            rows = con.sql(sql, params=[item["item_id"]]).to_arrow_table().to_pylist()
            story[name] = (rows[0] if rows else {}) if name in ("image", "generation") else rows
        return story
    finally:
        con.close()
