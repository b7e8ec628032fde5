from __future__ import annotations

from pathlib import Path

import pytest

from medgr2.infra.memory import available

MEMINFO = "MemTotal:       16000 kB\nMemAvailable:    8000 kB\nHugepagesize: 2048 kB\n"


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


SECOND = {
    "sys/fs/cgroup/memory.max": "5000000\n",
    "sys/fs/cgroup/memory.current": "4000000\n",
    "sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 500000\n",
}
FIRST = {
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "3000000",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000000",
    "sys/fs/cgroup/memory/memory.stat": "inactive_file 9\ntotal_inactive_file 100\n",
}


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({}, None),
        ({"proc/meminfo": MEMINFO}, 8000 * 1024),
        ({"proc/meminfo": "nonsense"}, None),
        ({"proc/meminfo": MEMINFO} | SECOND, 1_500_000),
        ({"proc/meminfo": MEMINFO} | SECOND | {"sys/fs/cgroup/memory.max": "max\n"}, 8000 * 1024),
        ({"proc/meminfo": MEMINFO} | FIRST, 2_000_100),
        (FIRST | {"sys/fs/cgroup/memory/memory.usage_in_bytes": "9000000"}, 0),
    ],
)
def test_what_is_left_of_machine_and_container(tmp_path: Path, files: dict[str, str], left: int | None) -> None:
    assert available(machine(tmp_path, files)) == left
