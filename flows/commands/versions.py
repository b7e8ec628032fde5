"""`medgr2 versions`: what was published, how two versions differ, and names for them."""

from __future__ import annotations

from typing import Any

import click

from medgr2.flows.output import emit, emit_one
from medgr2.flows.reading import readable_storage
from medgr2.schemas.errors import UsageError


@click.group(name="versions", invoke_without_command=True, help="Published dataset versions: list, diff, tag.")
@click.option("--dataset", default=None, help="Only this dataset.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.pass_context
def command(ctx: click.Context, dataset: str | None, as_json: bool) -> None:
    if ctx.invoked_subcommand is not None:
        return
    from medgr2.infra import versions

    lake = _lake()
    found = versions.versions(lake, dataset)
    tags: dict[tuple[str, int], list[str]] = {}
    for name in {v.dataset for v in found}:
        for tag, number in versions.tags(lake, name).items():
            tags.setdefault((name, number), []).append(tag)
    emit(
        [
            {
                "version": v.ref, "items": v.items, "added": v.added, "removed": v.removed, "digest": v.digest,
                "tags": sorted(tags.get((v.dataset, v.version), [])),
            }
            for v in found
        ],
        as_json=as_json,
        empty="nothing published yet: medgr2 refresh",
    )  # fmt: skip


@command.command(name="diff", help="Items that B has and A has not, and the other way round: ds@1 ds@2.")
@click.argument("a")
@click.argument("b")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def diff(a: str, b: str, as_json: bool) -> None:
    from medgr2.infra import versions

    lake = _lake()
    first, second = versions.resolve(lake, a), versions.resolve(lake, b)
    found = versions.diff(lake, first, second)
    ids = {"added": list(found.added), "removed": list(found.removed)}
    document = {"a": first.ref, "b": second.ref, **(ids if as_json else {name: len(of) for name, of in ids.items()})}
    emit_one(document, as_json=as_json)


@command.command(name="tag", help="Give a version a name: `tag ds@3 good` makes ds@tag:good.")
@click.argument("ref")
@click.argument("name")
def tag(ref: str, name: str) -> None:
    from medgr2.infra import versions

    lake = _lake()
    if "@" not in ref:
        raise UsageError(f"which version of {ref}?", next_command=f"medgr2 versions tag {ref}@latest {name}")
    version = versions.resolve(lake, ref)
    versions.tag(lake, version.dataset, version.version, name)
    click.echo(f"{version.ref} is {version.dataset}@tag:{name}")


def _lake() -> Any:
    from medgr2.infra.lake import Lake

    return Lake(readable_storage())
