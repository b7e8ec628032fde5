"""The closed loop, small: `python small_loop.py SEED CYCLES`. Started by tests, killed by some of them."""

from __future__ import annotations

import json
import sys

from medgr2.flows.prefect_home import prepare
from medgr2.infra.settings import load_settings
from medgr2.schemas.parameters import LoopParameters


def parameters(seed: int, cycles: int) -> LoopParameters:
    return LoopParameters.model_validate(
        {
            "cycles": cycles,
            "seed": seed,
            "refresh": {
                "dataset": "loop",
                "source": "embedded",
                "world": {"seed": seed, "images": 40},
                "generate": {"question_types": ["Modality Recognition", "Disease Diagnosis"]},
                "score": {"reviewer": "phantoms", "audits": 40, "answers": 4},
                "select": {"tau": 0.3},
            },
            "train": {
                "sft_steps": 8,
                "sft_batch": 4,
                "grpo_steps": 2,
                "grpo_prompts": 2,
                "generator_steps": 4,
                "judge_steps": 6,
                "judge_members": 1,
            },
        }
    )


if __name__ == "__main__":
    prepare(load_settings())
    from medgr2.flows.loop import closed_loop

    reports = closed_loop(parameters(int(sys.argv[1]), int(sys.argv[2])))
    print(json.dumps([report.model_dump(mode="json") for report in reports]))
