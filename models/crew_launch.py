"""Starts the members of a crew with accelerate's launcher, and ends with the process that started it.

Members are ended by the kernel when this process ends, however it ends; so nobody is left behind by a kill.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from pathlib import Path


def main() -> None:
    folder = Path(sys.argv[-1])
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    from accelerate.commands import launch  # type: ignore[import-untyped]

    launch.launch_command(launch.launch_command_parser().parse_args([*sys.argv[1:], str(os.getpid())]))


def _end_with_parent(folder: Path) -> None:
    """The pipe closes when whoever started us ends, also by SIGKILL. Then nobody else takes the rows away."""
    sys.stdin.read()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    main()
