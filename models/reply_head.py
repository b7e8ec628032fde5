"""What of a row is scored in SFT: the reply, and not the picture and the question before it.

TRL scores the labelled tokens alone where its Triton kernels run; elsewhere it scores every token and drops all but
those, for accelerators that would compile anew for each number of them. A CPU compiles nothing, and of a small model's
step that is a quarter.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def reply_alone() -> Iterator[None]:
    utils: Any = importlib.import_module("trl.trainer.utils")
    by_kernel = utils._use_triton

    def compact(device: Any) -> bool:
        return device.type == "cpu" or bool(by_kernel(device))

    utils._use_triton = compact
    try:
        yield
    finally:
        utils._use_triton = by_kernel
