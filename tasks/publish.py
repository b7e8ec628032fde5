"""Publish: what passed tonight and is not held yet becomes the next version of the dataset."""

from __future__ import annotations

from collections.abc import Sequence

from medgr2.infra import versions
from medgr2.infra.lake import Lake
from medgr2.infra.workspace import Workspace
from medgr2.models.blind_probe import probe
from medgr2.models.thinning import thin
from medgr2.schemas.errors import NightStoppedError
from medgr2.schemas.parameters import RefreshParameters
from medgr2.schemas.probe import BlindProbe, Probed
from medgr2.schemas.reports import DatasetVersion, Diversity, PublishReport
from medgr2.schemas.vocabulary import Split, Verdict
from medgr2.tasks.generate import drafted
from medgr2.tasks.judge import newest
from medgr2.tasks.night import Night, images_of
from medgr2.tasks.outdated import outdated
from medgr2.tasks.review import settled, standing_verdicts
from medgr2.tasks.select import Selection, select

GIVEN_AWAY = "given_away_without_the_image"


def publish(
    workspace: Workspace,
    night: Night,
    parameters: RefreshParameters,
    *,
    asked: int | None = None,
    diversity: Diversity | None = None,
) -> PublishReport:
    """The same night again gives the same version again. `asked`: how many of its cells the night got to."""
    lake, tau = workspace.lake, parameters.select.tau
    items = drafted(
        workspace,
        parameters.generate,
        images_of(workspace, night),
        model=night.generator,
        run=night.run,
        asked=asked,
    )
    images = lake.read("images", columns=["image_id", "modality", "split"]).to_pylist()
    modality = {row["image_id"]: row["modality"] for row in images}
    # A verdict may have come in since the scoring: what people refuse is not added, and leaves the next version.
    judged = settled(standing_verdicts(lake))
    refused = {item_id for item_id, valid in judged.items() if not valid}
    # So does what is asked of an image that was quarantined after it had come in.
    barred = [row["image_id"] for row in images if row["split"] != Split.TRAIN]
    refused.update(lake.read("items", ["item_id"], {"image_id": barred})["item_id"].to_pylist())
    # And what is asked of a picture that was replaced, or was written from facts that have been corrected.
    refused.update(outdated(lake))
    scores = lake.read("scores", where={"run": night.run}).to_pylist()
    judged_last = {
        item_id: row | {"verdict": Verdict.REJECTED.value} if item_id in refused else row
        for item_id, row in newest(scores).items()
    }
    held: list[str] = []
    if night.history is not None:
        held = versions.members(lake, versions.resolve(lake, f"{night.dataset}@{night.history}"))
    published = versions.versions(lake, night.dataset)
    own = [version for version in published if version.run == night.run]
    others = [version for version in published if version.run != night.run]
    chosen, probed = _blind(
        select(
            items,
            judged_last.values(),
            modality=modality,
            held=held,
            given_away=_changed(lake, others, "given_away"),
            parameters=parameters.select,
        )
    )
    # When it has published before, what it leaves out now leaves again: the probe has judged what it adds now, and two
    # batches that teach nothing may teach something together.
    mine = _changed(lake, own, "added") - _changed(lake, others, "added")
    remove = refused | mine.intersection(chosen.left_out)
    if published:
        remove.intersection_update(versions.members(lake, published[-1]))
    add = set(chosen.add)
    version = None
    if add or published:
        version = versions.publish(
            lake,
            dataset=night.dataset,
            add=add,
            remove=remove,
            given_away=chosen.ids_of(GIVEN_AWAY) if probed and probed.thinned else (),
            run=night.run,
            # Training reads what was judged until then; the clock of the host that judged may be ahead of this one's.
            not_before=max((row["scored_at"] for row in scores if row["item_id"] in add), default=None),
            card={
                "generator": night.generator,
                "scorer": night.scorer,
                "tau": tau,
                "slices": [[*where, n] for where, n in chosen.slices.items()],
                "letters": dict(chosen.letters),
                **({"blind_probe": probed.model_dump(mode="json", exclude={"cues"})} if probed and add else {}),
                **({"diversity": diversity.model_dump(mode="json")} if diversity else {}),
            },
        )
    return PublishReport(
        drafts=len(items),
        added=_added(workspace, night),
        left_out=chosen.reasons,
        letters=dict(chosen.letters),
        version=version,
        probe=probed,
    )


def refusal(report: PublishReport, run: str) -> NightStoppedError | None:
    """What a person is told of a batch that is not published, with the words that give it away."""
    if not report.refused or report.probe is None:
        return None
    held = report.version.ref if report.version else "no version yet"
    return NightStoppedError(
        "\n".join(("the night's batch is not published", *report.probe.lines())),
        where=run,
        kept=f"every draft and score; the dataset without this batch ({held})",
        next_command="change how the generator is asked (its distractors have to fit as well as its keys), and ask "
        "under another --night; a surplus of some labels is left out by itself unless --no-balance-keys is given, and "
        "so are items that give their key away, where that is enough: here it is not",
    )


def _blind(chosen: Selection) -> tuple[Selection, BlindProbe | None]:
    """Without what a rule that sees no picture goes by, and without everything if that is not enough; what has to leave
    the dataset leaves it all the same."""
    if not chosen.kept:
        return chosen, None
    probed = probe(chosen.kept)
    if probed.verdict is not Probed.LEAKS:
        return chosen, probed
    rest = thin(chosen.kept, probed)
    if rest is None:
        return chosen.without(chosen.add, GIVEN_AWAY), probed
    return chosen.without(rest.dropped, GIVEN_AWAY), rest.probe


def _changed(lake: Lake, published: Sequence[DatasetVersion], change: str) -> set[str]:
    asked = {"publish_id": [version.publish_id for version in published], "change": change}
    return set(lake.read("membership", ["item_id"], asked)["item_id"].to_pylist()) if published else set()


def _added(workspace: Workspace, night: Night) -> int:
    """What this night added and the dataset still holds, over all of its versions: one that only takes a refused item
    out again leaves the others the night's own."""
    published = versions.versions(workspace.lake, night.dataset)
    own = [version for version in published if version.run == night.run]
    if not own:
        return 0
    added = _changed(workspace.lake, own, "added")
    held = versions.members(workspace.lake, published[-1])
    # Of what was asked, another night may have added some before.
    return min(sum(version.added for version in own), len(added.intersection(held)))
