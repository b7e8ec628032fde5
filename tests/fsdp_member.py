"""A member of a crew that spreads its model over processes of a CPU. Accelerate does so on GPUs only, by the type of
its processes; told that ours are of that type, all that comes after is what runs on GPUs, with gloo in NCCL's place."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from medgr2.models import crew_member, ranks

HELD, ENDS = "TEST_HELD", "TEST_ENDS"
"""The folder where each says how many numbers it holds when it has trained; and, where both are to end there without a
word before they have put the model together, the file that is there as long."""
_begin, _put_together = AcceleratorState.__init__, ranks.whole_model


def _as_on_gpus(self: Any, *args: Any, fsdp_plugin: Any = None, **more: Any) -> None:
    _begin(self, *args, fsdp_plugin=fsdp_plugin, **more)
    if self.distributed_type == DistributedType.MULTI_CPU and fsdp_plugin is not None:
        self.fsdp_plugin = fsdp_plugin
        self.distributed_type = DistributedType.FSDP
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP


def _counted(trainer: Any, fresh: Any) -> Any:
    held = sum(getattr(p, "_local_tensor", p).numel() for p in trainer.model.parameters())
    (Path(os.environ[HELD]) / os.environ["RANK"]).write_text(str(held))
    if Path(os.environ.get(ENDS, "")).is_file():
        os.kill(os.getpid(), signal.SIGKILL)
    return _put_together(trainer, fresh)


AcceleratorState.__init__ = _as_on_gpus
ranks.whole_model = _counted

if __name__ == "__main__":
    crew_member.main()
