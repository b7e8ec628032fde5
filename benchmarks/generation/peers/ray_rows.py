"""Ray Data: an actor that keeps the requests of its batches open at once, with checkpointing on."""

import asyncio

from common import asked, tell  # isort: skip
import aiohttp
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.data.checkpoint import CheckpointConfig

BATCH = 16


class Ask:
    def __init__(self, url: str) -> None:
        self._url, self._session = url, None

    async def __call__(self, batch: dict):
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        batch["reply"] = await asyncio.gather(*(self._ask(text) for text in batch["text"]))
        yield batch

    async def _ask(self, text: str) -> str:
        body = {"model": "fake", "messages": [{"role": "user", "content": str(text)}], "max_tokens": 256}
        async with self._session.post(f"{self._url}/chat/completions", json=body) as reply:
            reply.raise_for_status()
            return (await reply.json())["choices"][0]["message"]["content"]


def main() -> None:
    told = asked()
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.checkpoint_config = CheckpointConfig(
        "id", str(told.folder / "checkpoints"), delete_checkpoint_on_success=False
    )
    (told.folder / "rows").mkdir(exist_ok=True)
    source = told.folder / "rows" / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(told.rows), source, row_group_size=256)
    data = ray.data.read_parquet(str(source))
    replies = data.map_batches(
        Ask,
        fn_constructor_args=(told.url,),
        batch_size=BATCH,
        concurrency=1,
        max_concurrency=max(1, told.in_flight // BATCH),
    )
    replies.write_parquet(str(told.folder / "out"))
    out = pq.read_table(told.folder / "out", columns=["id", "text"]).to_pylist()
    tell("ray", told, [(row["id"], row["text"]) for row in out])


if __name__ == "__main__":
    main()
