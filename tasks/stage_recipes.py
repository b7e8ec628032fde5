"""The recipes that stages worked by, kept so that a plan can say what changed. Prompts are kept as hashes."""

from __future__ import annotations

import json
from typing import Any

from medgr2.infra.objects import ObjectInfo, ObjectStore
from medgr2.schemas.cells import Recipe
from medgr2.schemas.digest import canonical_json, sha256_hex

COMPARED = 32
"""The newest recipes of a stage that a new one is compared with."""


def keep_recipe(store: ObjectStore, recipe: Recipe) -> None:
    """Once a stage has gone through by it: until then, what it changes is still news."""
    key = f"{_prefix(recipe)}{recipe.digest}.json"
    if not store.exists(key):
        store.create(key, canonical_json(_told(recipe)))


def what_changed(store: ObjectStore, recipe: Recipe) -> tuple[str, ...]:
    """The parts in which a recipe differs from the kept one nearest to it, of equally near ones the newest; none
    when it was worked by before, or nothing was."""
    kept = {info.key: info for info in store.list(_prefix(recipe))}
    if not kept or f"{_prefix(recipe)}{recipe.digest}.json" in kept:
        return ()
    newest = sorted(kept.values(), key=_age, reverse=True)[:COMPARED]
    now = _told(recipe)
    return min((_differences(json.loads(store.get(info.key)), now) for info in newest), key=len)


def _prefix(recipe: Recipe) -> str:
    return f"recipes/{recipe.stage}/"


def _age(info: ObjectInfo) -> tuple[float, str]:
    return info.modified, info.key


def _told(recipe: Recipe) -> dict[str, Any]:
    prompt = sha256_hex(recipe.prompt.encode()) if recipe.prompt else ""
    return recipe.model_dump(mode="json", exclude={"prompt"}) | {"prompt": prompt}


def _differences(before: dict[str, Any], now: dict[str, Any]) -> tuple[str, ...]:
    parts = [name for name in ("code", "model", "prompt") if before[name] != now[name]]
    old, new = before["parameters"], now["parameters"]
    parts += [name for name in sorted({*old, *new}) if (name in old, old.get(name)) != (name in new, new.get(name))]
    return tuple(parts)
