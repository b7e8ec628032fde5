"""What a person is told of a champion's move."""

from __future__ import annotations

from collections.abc import Iterator

from medgr2.models.registry import Move, Registry
from medgr2.schemas.vocabulary import Role

WITHOUT = {
    Role.POLICY: "what policies start from is what a candidate has to beat",
    Role.GENERATOR: "the base writes the drafts",
    Role.REWARD: "nights are judged without a trained reward",
}


def told(registry: Registry, move: Move) -> Iterator[str]:
    yield f"{move.role.value}: champion was {_of(registry, move.replaced)}"
    yield f"{move.role.value}: champion is  {_of(registry, move.model_id)}"
    if move.model_id is None:
        yield f"  with none, {WITHOUT[move.role]}"
    yield "nights that have begun keep the models that they began with; the next one takes this"


def _of(registry: Registry, model_id: str | None) -> str:
    if model_id is None:
        return "none"
    row = registry.model(model_id)
    return f"{registry.names()[model_id]}, {model_id[:12]} ({row['method']}, run {row['run'] or '-'})"
