"""How the tests are shared among processes, where there are several (`pytest -n 2`): longest first, and together what
shares a server that is slow to start. A test may not count on another one of its share: alone, it passes as well.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

# Shares that take minutes, the longest first: what is begun last should be short.
LONG = ("e2e", "crash/test_training_signals", "models/test_resume", "ceph", "crash/", "models/", "tasks/", "flows/")


def share_of(nodeid: str) -> str:
    """One Prefect server and one small world serve all of e2e, one Ceph all that is asked of it; else a file."""
    path, _, test = nodeid.removeprefix("tests/").partition("::")
    if path.startswith("e2e/"):
        return "e2e"
    return "ceph" if "[" in test and "ceph" in test.partition("[")[2] else path


def _length(nodeid: str) -> int:
    share = share_of(nodeid)
    return next((place for place, begin in enumerate(LONG) if share.startswith(begin)), len(LONG))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: _length(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Shares(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return share_of(nodeid)

    config.option.loadscopereorder = False  # it would begin with the share of most tests, which is not the longest
    return Shares(config, log)
