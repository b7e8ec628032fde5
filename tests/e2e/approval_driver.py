"""A loop at the moment after a passed exam: `python approval_driver.py HOURS`. Started and killed by tests."""

from __future__ import annotations

import sys

from medgr2.flows.prefect_home import prepare
from medgr2.infra.settings import load_settings
from medgr2.infra.workspace import open_workspace
from medgr2.models.registry import Registration, Registry
from medgr2.schemas.cycle_reports import Accuracy, Exam, Gain, Level
from medgr2.schemas.parameters import LoopParameters
from medgr2.schemas.vocabulary import Role
from medgr2.tasks.night import Night

prepare(load_settings())

from prefect import flow  # noqa: E402

from medgr2.flows import loop  # noqa: E402


@flow(name="after-an-exam")
def after_an_exam(hours: float) -> Exam:
    workspace = open_workspace()
    registry = Registry(workspace.store, workspace.lake)
    base, candidate = (
        registry.register(Registration(role=role, artifact=letter * 64, method="given", run="ds/one"))
        for role, letter in ((Role.BASE, "a"), (Role.POLICY, "b"))
    )
    night = Night(
        run="ds/one", dataset="ds", base_id=base, base="a" * 64, generator="a" * 64, scorer="a" * 64,
        champion_id=None, images="0" * 64, history=None,
    )  # fmt: skip
    exam = Exam(
        heldout="heldout@1", items=300, blind=0.25, swapped=0.3, decision="passed", reasons=("better",),
        candidate=Accuracy(value=0.84, low=0.8, high=0.88), champion=Accuracy(value=0.78, low=0.74, high=0.82),
        gain=Gain(value=0.06, low=0.03, high=0.09, wins=24, losses=6, p_value=0.0014),
        level=Level(look=2, level=0.0083, spent=0.033, alpha=0.05),
    )  # fmt: skip
    return loop.promote(night, candidate, exam, LoopParameters(approval="person", approval_hours=hours))


if __name__ == "__main__":
    print(after_an_exam(float(sys.argv[1])).model_dump_json())
