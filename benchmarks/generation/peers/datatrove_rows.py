"""datatrove: the inference runner on an endpoint, with its checkpoints on."""

import gzip
import json

from common import asked, tell  # isort: skip
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
from datatrove.pipeline.writers import JsonlWriter


async def ask(document: Document, generate):
    return await generate({"messages": [{"role": "user", "content": document.text}], "max_tokens": 256})


def main() -> None:
    told = asked()
    out = told.folder / "out"
    runner = InferenceRunner(
        rollout_fn=ask,
        config=InferenceConfig(
            server_type="endpoint",
            model_name_or_path="fake",
            endpoint_url=told.url.removesuffix("/v1"),
            max_concurrent_generations=told.in_flight,
            server_ready_delay_sec=0.2,
        ),
        output_writer=JsonlWriter(str(out), output_filename="${rank}_chunk_${chunk_index}.jsonl.gz"),
        checkpoints_local_dir=str(told.folder / "checkpoints"),
        records_per_chunk=100,
    )
    LocalPipelineExecutor(
        pipeline=[[Document(text=row["text"], id=row["id"]) for row in told.rows], runner],
        logging_dir=str(told.folder / "logs"),
        tasks=1,
    ).run()
    found = []
    for path in sorted(out.glob("*.gz")):
        with gzip.open(path, "rt") as lines:
            for line in lines:
                row = json.loads(line)
                if any(_text(result) for result in row["metadata"].get("rollout_results", [])):
                    found.append((row["id"], row["text"]))
    tell("datatrove", told, found)


def _text(result: dict) -> str:
    return result.get("text") or ""


if __name__ == "__main__":
    main()
