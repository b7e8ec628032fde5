"""What a night knows of claims that hold and of claims that do not: the lessons of the next reward.

Their items are a dataset version like any other, so a reward's lineage names them and an erasure finds them. What is
said of each stands beside it under its digest: ids and verdicts, no text.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from medgr2.infra import versions
from medgr2.infra.lake import Lake
from medgr2.infra.objects import ObjectStore
from medgr2.infra.workspace import Workspace
from medgr2.models.registry import Source
from medgr2.models.reward_lessons import Witness, Witnessed
from medgr2.schemas.digest import digest_of, digest_of_ids
from medgr2.schemas.errors import ConflictError, DataError
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import REWARD_LESSONS, SEED
from medgr2.schemas.reports import DatasetVersion
from medgr2.schemas.vocabulary import Origin, Split
from medgr2.tasks.gate_context import members_of
from medgr2.tasks.judge import newest
from medgr2.tasks.lessons import read_lessons, source_of
from medgr2.tasks.night import Night
from medgr2.tasks.outdated import outdated, superseded
from medgr2.tasks.review import settled, standing_verdicts

Told = dict[str, tuple[bool, Witness]]
"""By item: whether it holds, and who says so."""
TRIES = 5


def gather(lake: Lake, night: Night) -> Told:
    """People's questions, everything that people judged, and of the dataset's drafts those that the scorer last
    answered as keyed every time, or never. What a person said of an item counts, and what the scorer thinks of it does
    not. What may not stay in the dataset teaches only by what people said of it."""
    told: Told = dict.fromkeys(members_of(lake, SEED), (True, Witness.AUTHOR))
    stale = outdated(lake)
    for item_id, row in _judged(lake, night.dataset).items():
        if row["agree"] in (0.0, 1.0) and "needs_no_image" not in row["reasons"] and item_id not in stale:
            told.setdefault(item_id, (row["agree"] == 1.0, Witness.SCORER))
    judged = settled(standing_verdicts(lake))
    told.update({item_id: (valid, Witness.AUDIT) for item_id, valid in judged.items()})
    return {item_id: told[item_id] for item_id in _teachable(lake, told, judged)}


def publish(workspace: Workspace, night: Night, told: Told) -> tuple[Source, str]:
    """The version that holds the items, and the digest of what is said of them. The same items are the same version,
    whoever published it: a cycle that was killed finds its members, also if another loop was taught in between."""
    version = _version_of(workspace.lake, night, told)
    rows = [[item_id, holds, witness.value] for item_id, (holds, witness) in sorted(told.items())]
    digest = digest_of(rows)
    workspace.store.create(_key(digest), json.dumps(rows).encode())
    return source_of(version), digest


def _version_of(lake: Lake, night: Night, told: Told) -> DatasetVersion:
    wanted = digest_of_ids(told)
    for _ in range(TRIES):
        published = versions.versions(lake, REWARD_LESSONS)
        if (found := next((one for one in published if one.digest == wanted), None)) is not None:
            return found
        held = members_of(lake, REWARD_LESSONS)
        # Another loop may publish its own in between: then the version is neither's.
        versions.publish(
            lake,
            dataset=REWARD_LESSONS,
            add=told.keys() - held,
            remove=held - told.keys(),
            card={"night": night.run, "scorer": night.scorer, "told": counted(told)},
            run=night.run,
        )
    raise ConflictError(
        f"other loops keep publishing lessons of their rewards: {TRIES} times one came in between",
        where=f"dataset {REWARD_LESSONS}",
        kept="everything the night has finished, and the reward in force",
        next_command="the same command again, when fewer loops run on this root",
    )


def read(lake: Lake, store: ObjectStore, source: Source, digest: str) -> list[Witnessed]:
    try:
        rows = json.loads(store.get(_key(digest)))
    except ValueError:
        rows = None
    if rows is None or digest_of(rows) != digest:
        raise DataError(
            "what was said of the lessons of a reward is damaged",
            where=_key(digest),
            kept="the reward in force",
            next_command="restore the object from a backup, or run the cycle again under another name",
        )
    items = {
        lesson.item_id: Item.model_validate(
            {**lesson.draft.model_dump(), "image_id": lesson.image_id, "question_type": lesson.question_type}
        )
        for lesson in read_lessons(lake, [source])
    }
    return [Witnessed(items[item_id], bool(holds), Witness(witness)) for item_id, holds, witness in rows]


def counted(told: Told) -> dict[str, int]:
    """How many hold and how many do not, by who says so."""
    names = Counter(f"{witness.value}_{'holds' if holds else 'does_not'}" for holds, witness in told.values())
    return dict(sorted(names.items()))


def _teachable(lake: Lake, told: Mapping[str, Any], judged: Mapping[str, bool]) -> Sequence[str]:
    """Only what is asked of training pictures that nothing has replaced: a replacement looks like the old one, and may
    stand in the other fold. Of what people judged only what a generator wrote."""
    train = set(lake.read("images", ["image_id"], {"split": Split.TRAIN.value})["image_id"].to_pylist())
    train -= superseded(lake)
    rows = lake.read("items", ["item_id", "image_id", "origin"], {"item_id": sorted(told)}).to_pylist()
    return sorted(
        row["item_id"]
        for row in rows
        if row["image_id"] in train and (row["item_id"] not in judged or row["origin"] == Origin.GENERATED)
    )


def _judged(lake: Lake, dataset: str) -> dict[str, dict[str, Any]]:
    """The last judgement of each item of the dataset's nights."""
    rows = lake.read("scores", ["item_id", "run", "agree", "reasons", "scored_at", "score_id"]).to_pylist()
    return newest(row for row in rows if row["run"].startswith(f"{dataset}/"))


def _key(digest: str) -> str:
    return f"rewards/evidence/{digest}.json"
