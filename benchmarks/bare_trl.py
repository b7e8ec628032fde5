"""A training as one writes it by hand after TRL's documentation for models that see: no medgr2 in it.

python benchmarks/bare_trl.py {sft,grpo} MODEL ROWS.json OUT

The arm that `benchmarks/training_overhead.py` compares with. What TRL has as default stays so, but for what has to be
equal in both arms: rows and their order, steps, batch, optimiser, schedule, precision, lengths, seed. Two defaults
would only cost this arm time and are off as they are in ours: gradient checkpointing, and bfloat16 on a CPU.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from datasets import Dataset, Image, List
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

READABLE = re.compile(r"(?:<think>.*?</think>)?\s*<answer>([A-E])</answer>", re.DOTALL)


def dataset(told: dict[str, Any]) -> Dataset:
    columns: dict[str, list[Any]] = {
        "images": [[row["image"]] for row in told["rows"]],
        "prompt": [[{"role": "user", "content": row["user"]}] for row in told["rows"]],
    }
    for name in ("key", "quality"):
        if name in told["rows"][0]:
            columns[name] = [row[name] for row in told["rows"]]
    if "assistant" in told["rows"][0]:
        columns["completion"] = [[{"role": "assistant", "content": row["assistant"]}] for row in told["rows"]]
    return Dataset.from_dict(columns).cast_column("images", List(Image(mode="RGB"))).select(told["order"])


def main() -> None:
    method, model_path, rows, out = sys.argv[1:]
    told = json.loads(Path(rows).read_text(encoding="utf-8"))
    how = told["settings"]
    same: dict[str, Any] = {
        "output_dir": out,
        "max_steps": how["steps"],
        "learning_rate": how["learning_rate"],
        "lr_scheduler_type": "cosine",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "seed": how["seed"],
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "train_sampling_strategy": "sequential",
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    model = AutoModelForImageTextToText.from_pretrained(model_path, dtype="float32")
    processor = AutoProcessor.from_pretrained(model_path)
    last: list[list[float]] = []

    def reward(
        completions: list[Any], completion_ids: list[Any], key: list[str], quality: list[float], **_: Any
    ) -> list[float]:
        worth = []
        for said, ids, right, sure in zip(completions, completion_ids, key, quality, strict=True):
            found = READABLE.fullmatch(said[0]["content"].strip()) if ids[-1] in told["ends"] else None
            hit = found is not None and found[1] == right
            soft = how["longest"] - how["longest"] // 5
            late = min(1.0, max(0.0, (len(ids) - soft) / (how["longest"] - soft)))
            worth.append(hit + 0.1 * (found is not None) + 0.2 * hit * sure - late)
        last.append(worth)
        return worth

    trainer: Any
    if method == "sft":
        config = SFTConfig(**same, per_device_train_batch_size=how["batch"], max_length=None)
        trainer = SFTTrainer(model=model, args=config, train_dataset=dataset(told), processing_class=processor)
    else:
        grpo = GRPOConfig(
            **same,
            per_device_train_batch_size=how["prompts"] * how["generations"],
            num_generations=how["generations"],
            max_completion_length=how["longest"],
            temperature=how["temperature"],
            loss_type=how["loss"],
            scale_rewards=how["scale"],
            epsilon=how["epsilon"],
            epsilon_high=how["epsilon_high"],
            beta=how["beta"],
            shuffle_dataset=False,
        )
        trainer = GRPOTrainer(
            model=model, args=grpo, train_dataset=dataset(told), processing_class=processor, reward_funcs=reward
        )
    before = time.process_time()
    trainer.train()
    steps = time.process_time() - before
    trainer.save_model(out)
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    end = losses[-1] if method == "sft" else sum(map(sum, last[-5:])) / sum(map(len, last[-5:]))
    print(json.dumps({"steps_seconds": steps, "optimizer_steps": trainer.state.global_step, "end": end, "model": out}))


if __name__ == "__main__":
    main()
