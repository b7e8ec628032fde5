"""What a cycle cost: the replies of the generator, and the time of its stages."""

from __future__ import annotations

from medgr2.infra.lake import Lake
from medgr2.schemas.stopping import Spent


def spent(lake: Lake, run: str) -> Spent:
    """Of everything that was told under this run. A try that was killed within a stage told no time of it."""
    bought = lake.read("outcomes", ["calls", "tokens_in", "tokens_out", "money"], {"run": run}).to_pylist()
    seconds = lake.read("runs", ["seconds"], {"run": run})["seconds"].to_pylist()
    return Spent(
        calls=sum(row["calls"] or 0 for row in bought),
        tokens=sum((row["tokens_in"] or 0) + (row["tokens_out"] or 0) for row in bought),
        money=sum(row["money"] or 0.0 for row in bought),
        hours=sum(one or 0.0 for one in seconds) / 3600,
    )
