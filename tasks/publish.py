"""Publish: what passed tonight and is not held yet becomes the next version of the dataset."""

from __future__ import annotations

from medgr2.infra import versions
from medgr2.infra.workspace import Workspace
from medgr2.schemas.errors import NotFoundError
from medgr2.schemas.parameters import RefreshParameters
from medgr2.schemas.reports import PublishReport
from medgr2.tasks.generate import drafted
from medgr2.tasks.night import Night, images_of
from medgr2.tasks.review import settled
from medgr2.tasks.select import select


def publish(workspace: Workspace, night: Night, parameters: RefreshParameters) -> PublishReport:
    """The same night again gives the same version again."""
    lake, tau = workspace.lake, parameters.select.tau
    items = drafted(workspace, parameters.generate, images_of(workspace, night), model=night.generator, run=night.run)
    modality = {
        row["image_id"]: row["modality"] for row in lake.read("images", columns=["image_id", "modality"]).to_pylist()
    }
    newest: dict[str, dict[str, object]] = {}
    scores = lake.read("scores", where={"run": night.run}).to_pylist()
    for row in sorted(scores, key=lambda row: (row["scored_at"], row["score_id"])):
        newest[row["item_id"]] = row
    held: list[str] = []
    if night.history is not None:
        held = versions.members(lake, versions.resolve(lake, f"{night.dataset}@{night.history}"))
    # A verdict that came after an item was published takes it out of the next version.
    judged = settled(lake.read("reviews").to_pylist())
    remove = sorted(item_id for item_id in _published(workspace, night) if not judged.get(item_id, True))
    chosen = select(items, newest.values(), modality=modality, held=held, cap=parameters.select.cap, tau=tau)
    version = None
    if chosen.add or remove or night.history is not None:
        version = versions.publish(
            lake,
            dataset=night.dataset,
            add=chosen.add,
            remove=remove,
            run=night.run,
            card={
                "generator": night.generator,
                "scorer": night.scorer,
                "tau": tau,
                "slices": [[*where, n] for where, n in chosen.slices.items()],
                "letters": dict(chosen.letters),
            },
        )
    # The newest version comes back when tonight changed nothing: what it added is not tonight's.
    added = version.added if version is not None and version.run == night.run else 0
    return PublishReport(
        drafts=len(items), added=added, left_out=chosen.reasons, letters=dict(chosen.letters), version=version
    )


def _published(workspace: Workspace, night: Night) -> list[str]:
    """What the dataset holds now: more than its history, when this night has published before."""
    try:
        return versions.members(workspace.lake, versions.resolve(workspace.lake, night.dataset))
    except NotFoundError:
        return []
