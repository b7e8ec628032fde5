"""What a loop may be given that must not move a champion: it is stopped with the reason, and no look is spent on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from deltalake import DeltaTable
from scripted_ward import Ward, quiet

from medgr2.infra import versions
from medgr2.models.registry import Registration, Registry
from medgr2.models.rewards import Judged, RewardScheme
from medgr2.schemas.errors import DataError, NightStoppedError
from medgr2.schemas.parameters import TrainParameters
from medgr2.schemas.reports import DatasetVersion
from medgr2.schemas.vocabulary import Role
from medgr2.tasks import improve, promotion
from medgr2.tasks.lessons import source_of
from medgr2.tasks.night import Night, open_night

SFT = {"sft_steps": 4, "sft_batch": 4, "grpo_steps": 0}
GRPO = {"sft_steps": 0, "grpo_steps": 2, "grpo_prompts": 2}


def night_of(ward: Ward) -> tuple[Night, DatasetVersion]:
    """The night after the ward's honest one, whose version it learns from."""
    return open_night(ward.workspace, ward.how("two")), versions.resolve(ward.workspace.lake, "ds")


def taught(ward: Ward, how: dict[str, object]) -> str:
    night, version = night_of(ward)
    return improve.train_policy(ward.workspace, night, version, TrainParameters.model_validate(how), 3, quiet).model_id


def on_the_version(ward: Ward) -> str:
    """A candidate whose registration says what it was taught, as if it had been trained."""
    workspace = ward.workspace
    night, version = night_of(ward)
    entry = Registration(
        role=Role.POLICY, artifact=night.base, method="given", parent=night.base_id, sources=(source_of(version),)
    )
    return Registry(workspace.store, workspace.lake).register(entry)


def sit(ward: Ward, candidate: str) -> None:
    night, _ = night_of(ward)
    workspace = ward.workspace
    promotion.settle(workspace, night, candidate, promotion.sit(workspace, night, candidate, quiet))


def erase(ward: Ward, table: str, where: str) -> None:
    assert DeltaTable(str(ward.root / "lake" / table)).delete(where)["num_deleted_rows"]


def first_member(ward: Ward, dataset: str) -> str:
    lake = ward.workspace.lake
    return versions.members(lake, versions.resolve(lake, dataset))[0]


def stopped(ward: Ward, what: Callable[[], object], error: type[Exception], match: str) -> None:
    workspace = ward.workspace
    registry = Registry(workspace.store, workspace.lake)
    before = [registry.history(role) for role in Role]
    with pytest.raises(error, match=match):
        what()
    assert [registry.history(role) for role in Role] == before
    assert promotion.ledger(workspace).looks(Role.POLICY) == []


@pytest.mark.parametrize("table", ["membership", "items"])
def test_a_version_that_was_erased_in_part(ward: Ward, table: str) -> None:
    candidate = on_the_version(ward)
    erase(ward, table, f"item_id = '{first_member(ward, 'ds')}'")
    told = "erased in part" if table == "membership" else "items of the versions are gone"
    stopped(ward, lambda: taught(ward, SFT), DataError, told)
    sit(ward, candidate)  # who was taught by it while it was whole is compared with what is left of it


@pytest.mark.parametrize("table", ["membership", "items"])
def test_a_heldout_set_that_was_erased_in_part(ward: Ward, table: str) -> None:
    candidate = on_the_version(ward)
    erase(ward, table, f"item_id = '{first_member(ward, 'heldout')}'")
    told = "erased in part" if table == "membership" else "items of heldout@1 are gone"
    stopped(ward, lambda: sit(ward, candidate), DataError, told)


def test_a_heldout_set_that_shares_a_patient_with_training(ward: Ward) -> None:
    lake = ward.workspace.lake
    candidate = on_the_version(ward)
    image = {
        name: lake.read("items", ["image_id"], {"item_id": first_member(ward, name)})["image_id"][0].as_py()
        for name in ("ds", "heldout")
    }
    held = lake.read("images", ["patient_key"], {"image_id": image["heldout"]})["patient_key"][0].as_py()
    DeltaTable(str(ward.root / "lake" / "images")).update(
        predicate=f"image_id = '{image['ds']}'", new_values={"patient_key": held or "p1"}
    )
    if not held:
        DeltaTable(str(ward.root / "lake" / "images")).update(
            predicate=f"image_id = '{image['heldout']}'", new_values={"patient_key": "p1"}
        )
    stopped(ward, lambda: sit(ward, candidate), DataError, "0 images and 1 patients are both in the training data")


def test_a_reward_that_is_no_number(ward: Ward) -> None:
    """The newest p(valid) of every item is none."""
    lake = ward.workspace.lake
    _, version = night_of(ward)
    rows = [
        {"score_id": f"nan-{one}", "item_id": one, "agree": 0.5, "p_valid": math.nan, "scored_at": datetime.now(UTC)}
        for one in versions.members(lake, version)
    ]
    lake.append_new("scores", rows, key="score_id")
    # Judged before it was published, or training would not read it.
    DeltaTable(str(ward.root / "lake" / "versions")).update(
        new_values={"published_at": datetime.now(UTC) + timedelta(days=1)}
    )
    stopped(ward, lambda: taught(ward, GRPO), DataError, "what was judged of .* items is no number")


def test_a_reward_that_is_the_same_for_every_reply(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    def same(_scheme: RewardScheme, _reply: Judged) -> float:
        return 1.0

    monkeypatch.setattr(RewardScheme, "__call__", same)
    stopped(ward, lambda: taught(ward, GRPO), NightStoppedError, "the reward is constant")


@pytest.mark.parametrize("name", ["heldout", "omnimedvqa"])
def test_the_exam_as_lessons(ward: Ward, name: str) -> None:
    """Also where all of its pictures may be trained on."""
    workspace = ward.workspace
    night, version = night_of(ward)
    members = versions.members(workspace.lake, version)
    exam = versions.publish(workspace.lake, dataset=name, add=members, card={}, run="by hand")
    how = TrainParameters.model_validate(SFT)
    stopped(
        ward,
        lambda: improve.train_policy(workspace, night, exam, how, 3, quiet),
        DataError,
        f"{name} is for exams: no model is trained on it, and no checkpoint chosen by it",
    )
