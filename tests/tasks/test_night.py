"""Nights on a small hospital, without Prefect: what they freeze, what they refuse, what they take back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self

import pytest
from pydantic import ValidationError

from medgr2.flows.embedded import EmbeddedWorld, ask_reviewer
from medgr2.flows.intake import take_in
from medgr2.infra.settings import GeneratorSettings, VerifierSettings, load_settings
from medgr2.infra.versions import members, resolve
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.models import calibration as calibrations
from medgr2.models.model_ref import base_folder
from medgr2.models.registry import Registration, Registry, Source
from medgr2.schemas.errors import DataError, SettingsError
from medgr2.schemas.intake import IntakeParameters
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import RefreshParameters
from medgr2.schemas.reports import AppraisalReport, Plan, PublishReport
from medgr2.schemas.vocabulary import Role
from medgr2.tasks import judge
from medgr2.tasks.appraise import AskReviewer, appraise
from medgr2.tasks.generate import drafted, generate
from medgr2.tasks.lessons import judgements, published_at
from medgr2.tasks.night import Night, images_of, open_night, waiting
from medgr2.tasks.publish import publish
from medgr2.tasks.review import import_verdicts


def quiet(plan: Plan) -> None:
    del plan


def draw(folder: Path, seed: int) -> EmbeddedWorld:
    subprocess.run(
        [sys.executable, "-m", "medgr2_phantoms.hospital", "--out", str(folder / "hospital"),
         "--truth", str(folder / "truth.jsonl"), "--images", "24", "--seed-qa", "20", "--heldout", "12",
         "--seed", str(seed)],
        check=True, capture_output=True, timeout=400,
    )  # fmt: skip
    return EmbeddedWorld(folder / "hospital", folder / "truth.jsonl")


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> tuple[EmbeddedWorld, EmbeddedWorld]:
    return draw(tmp_path_factory.mktemp("one"), 1), draw(tmp_path_factory.mktemp("two"), 2)


@pytest.fixture
def workspace(tmp_path: Path, worlds: tuple[EmbeddedWorld, EmbeddedWorld]) -> Workspace:
    root = {"MEDGR2_STORAGE__ROOT": str(tmp_path / "root"), "MEDGR2_COMPUTE__MODE": "inline"}
    opened = open_workspace(load_settings(root))
    take(opened, worlds[0])
    return opened


def take(workspace: Workspace, world: EmbeddedWorld) -> None:
    folder = world.hospital
    take_in(
        workspace,
        str(folder),
        run="in",
        parameters=IntakeParameters(reports="keep"),
        seed=folder / "seed_qa.jsonl",
        heldout=folder / "heldout.jsonl",
        announce=quiet,
    )


def how(night: str = "one", dataset: str = "ds") -> RefreshParameters:
    return RefreshParameters.model_validate(
        {
            "dataset": dataset,
            "night": night,
            "generate": {"question_types": ["Modality Recognition", "Disease Diagnosis"]},
            "score": {"answers": 2, "audits": 30},
            "select": {"tau": 0.2},
        }
    )


def judged_by_length(requests: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """A reviewer without an oracle: about half of all items are fine."""
    return [{"item_id": r["item_id"], "valid": int(r["item_id"], 16) % 2 == 0, "reason": ""} for r in requests]


def ask_for_drafts(workspace: Workspace, night: Night, parameters: RefreshParameters) -> int:
    images = images_of(workspace, night)
    made = generate(workspace, parameters.generate, images, model=night.generator, run=night.run, announce=quiet)
    return made.plan.new


def drafts_of(workspace: Workspace, night: Night, parameters: RefreshParameters) -> list[Item]:
    images = images_of(workspace, night)
    return drafted(workspace, parameters.generate, images, model=night.generator, run=night.run)


def spend(
    workspace: Workspace, parameters: RefreshParameters, ask: AskReviewer | None
) -> tuple[Night, AppraisalReport, PublishReport]:
    night = open_night(workspace, parameters)
    ask_for_drafts(workspace, night, parameters)
    report = appraise(workspace, night, parameters, ask, quiet)
    return night, report, publish(workspace, night, parameters)


def test_without_verdicts_nothing_is_accepted_and_it_says_so(workspace: Workspace) -> None:
    _, report, published = spend(workspace, how(), None)
    assert report.drafts > 10
    assert (report.accepted, published.added, published.version) == (0, 0, None)
    assert "medgr2 review" in report.uncalibrated_because or "audit" in report.uncalibrated_because


def test_the_same_night_again_is_the_same_version(workspace: Workspace) -> None:
    _, report, published = spend(workspace, how(), judged_by_length)
    assert published.added > 0
    rows = workspace.lake.read("scores").num_rows
    _, again, once_more = spend(workspace, how(), judged_by_length)
    assert (again, once_more.version) == (report, published.version)
    assert workspace.lake.read("scores").num_rows == rows


def test_a_night_keeps_the_models_it_began_with(workspace: Workspace) -> None:
    night = open_night(workspace, how())
    registry = Registry(workspace.store, workspace.lake)
    other = registry.register(Registration(role=Role.POLICY, artifact=night.base, method="given", run="x"))
    registry.promote(Role.POLICY, other, reason="test", expected_current=None)
    assert open_night(workspace, how()) == night
    assert open_night(workspace, how("two")).champion_id == other


def test_where_the_first_champion_was_taken_back_the_base_serves_again(workspace: Workspace) -> None:
    registry = Registry(workspace.store, workspace.lake)
    for role in (Role.POLICY, Role.GENERATOR, Role.REWARD):
        model = registry.register(Registration(role=role, artifact=f"{role.value:x<64}", method="sft", run="x"))
        registry.promote(role, model, reason="test", expected_current=None)
    # Beside the embedded base policies start from a student, which does not judge.
    assert open_night(workspace, how("student")).scorer == open_night(workspace, how("student")).base
    alone = workspace.settings.models.model_copy(update={"policy": str(base_folder(workspace.settings))})
    workspace = replace(workspace, settings=workspace.settings.model_copy(update={"models": alone}))
    served = open_night(workspace, how())
    assert (served.scorer[:6], served.generator[:9], (served.reward or "")[:6]) == ("policy", "generator", "reward")
    for role in (Role.POLICY, Role.GENERATOR, Role.REWARD):
        registry.rollback(role, reason="test")
    night = open_night(workspace, how("two"))
    assert (night.scorer, night.generator, night.reward, night.champion_id) == (night.base, night.base, None, None)


def test_what_a_person_refuses_later_leaves_the_next_version(workspace: Workspace) -> None:
    _, _, published = spend(workspace, how(), judged_by_length)
    assert published.version is not None
    held = members(workspace.lake, published.version)
    verdict = {"item_id": held[0], "reviewer": "Dr. A", "valid": False}
    judged = {row["item_id"]: row["valid"] for row in workspace.lake.read("reviews").to_pylist()}
    reviewers = ["Dr. A", "Dr. B"] if judged.get(held[0]) else ["Dr. A"]
    import_verdicts(workspace.lake, [{**verdict, "reviewer": name} for name in reviewers])
    _, _, next_one = spend(workspace, how("two"), None)
    assert next_one.version is not None
    assert held[0] not in members(workspace.lake, next_one.version)
    assert held[0] in members(workspace.lake, published.version)


def test_canaries_are_judged_and_leave_no_trace(workspace: Workspace) -> None:
    _, report, _ = spend(workspace, how(), judged_by_length)
    assert report.canaries == 40
    assert 0 < report.canaries_past_gates < 40
    assert report.canaries_rejected is not None
    assert report.compared["heldout"] == 12
    drafts = {item.item_id for item in drafts_of(workspace, open_night(workspace, how()), how())}
    people = set(workspace.lake.read("items", ["item_id"], {"origin": "human"})["item_id"].to_pylist())
    assert set(workspace.lake.read("scores")["item_id"].to_pylist()) <= drafts | people
    assert set(workspace.lake.read("items")["item_id"].to_pylist()) <= drafts | people


def refuse(workspace: Workspace, *items: str) -> None:
    said = [{"item_id": i, "reviewer": f"Dr. {name}", "valid": False} for i in items for name in "AB"]
    import_verdicts(workspace.lake, said)


def test_a_refusal_after_the_publish_leaves_the_rest_to_be_learned(workspace: Workspace) -> None:
    _, _, first = spend(workspace, how(), judged_by_length)
    assert first.version is not None
    held = members(workspace.lake, first.version)
    refuse(workspace, held[0])
    for _ in range(2):
        _, _, again = spend(workspace, how(), None)
        assert again.version is not None
        left = members(workspace.lake, again.version)
        # One verdict more is another calibration: it may let others in besides.
        assert held[0] not in left
        assert {*held[1:]} <= {*left}
        assert again.added == len(left), "the loop trains on what a night has added"
    refuse(workspace, *left)
    for _ in range(2):
        _, _, nothing = spend(workspace, how(), None)
        assert nothing.version is not None
        assert (nothing.version.ref, nothing.version.items, nothing.added) == ("ds@3", 0, 0)


@pytest.mark.parametrize("published_before", [False, True])
def test_a_refusal_between_scoring_and_publishing_holds(workspace: Workspace, published_before: bool) -> None:
    parameters = how()
    night = open_night(workspace, parameters)
    ask_for_drafts(workspace, night, parameters)
    drafts = {item.item_id for item in drafts_of(workspace, night, parameters)}
    report = appraise(workspace, night, parameters, judged_by_length, quiet)
    accepted = workspace.lake.read("scores", ["item_id"], {"run": night.run, "verdict": "accepted"})
    refused = min(drafts.intersection(accepted["item_id"].to_pylist()))
    if published_before:
        publish(workspace, night, parameters)
    refuse(workspace, refused)
    version = publish(workspace, night, parameters).version
    assert version is not None
    assert version.items == report.accepted - 1
    assert refused not in members(workspace.lake, version)


def test_a_refusal_holds_though_the_clock_was_set_back(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, first = spend(workspace, how(), judged_by_length)
    assert first.version is not None
    refused = members(workspace.lake, first.version)[0]
    refuse(workspace, refused)

    class SetBack(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz or UTC) - timedelta(hours=1)

    monkeypatch.setattr(judge, "datetime", SetBack)
    for _ in range(2):
        spend(workspace, how(), None)
        rows = workspace.lake.read("scores", where={"run": "ds/one", "item_id": refused}).to_pylist()
        assert [row["verdict"] for row in sorted(rows, key=lambda row: row["scored_at"])] == ["accepted", "rejected"]


def of_so_many(limit: int | None) -> RefreshParameters:
    return how().model_copy(update={"generate": how().generate.model_copy(update={"images": limit})})


def test_a_night_opened_with_another_limit_says_what_it_leaves_out(workspace: Workspace) -> None:
    open_night(workspace, of_so_many(2))
    again = open_night(workspace, of_so_many(None))
    assert len(images_of(workspace, again)) == 2
    assert [waiting(workspace, again, of_so_many(limit).generate) for limit in (None, 5, 2, 1)] == [22, 3, 0, 0]


def test_a_night_may_ask_only_about_what_no_earlier_night_of_its_dataset_asked(workspace: Workspace) -> None:
    def unasked(name: str, limit: int | None, dataset: str = "nightly") -> RefreshParameters:
        asked = how().generate.model_copy(update={"images": limit, "unasked_only": True})
        return how(name).model_copy(update={"generate": asked, "dataset": dataset})

    one, two = unasked("one", 9), unasked("two", None)
    first = images_of(workspace, open_night(workspace, one))
    second = images_of(workspace, open_night(workspace, two))
    assert (len(first), len(second)) == (9, 15)
    assert not set(first) & set(second)
    # Begun again, each is what it was, and nothing waits that another night has.
    assert images_of(workspace, open_night(workspace, one)) == first
    assert waiting(workspace, open_night(workspace, one), unasked("one", None).generate) == 0
    assert len(images_of(workspace, open_night(workspace, unasked("one", None, "other")))) == 24


def test_a_night_keeps_its_verifier_or_does_not_go_on(workspace: Workspace) -> None:
    def asking(model: str) -> Workspace:
        verifier = VerifierSettings(url="http://127.0.0.1:9/v1", model=model) if model else VerifierSettings()
        return open_workspace(workspace.settings.model_copy(update={"verifier": verifier}))

    assert open_night(asking("judge"), how()).verifier == "served:judge"
    assert open_night(asking("judge"), how()).verifier == "served:judge"
    for other in ("another", ""):
        with pytest.raises(DataError, match="verifier is not the one") as told:
            open_night(asking(other), how())
        assert "MEDGR2_VERIFIER__" in told.value.next_command
    assert open_night(asking(""), how("two")).verifier is None
    assert open_night(asking("judge"), how("two")).verifier is None  # it began without one


def test_a_night_whose_verifier_is_away_publishes_nothing_until_it_is_back(workspace: Workspace) -> None:
    pytest.importorskip("aiohttp", reason="the extra 'http' is not installed")
    from scripted_server import said, serving

    asked: list[str] = []

    async def judging(_: Any, body: dict[str, Any]) -> Any:
        asked.append(body["messages"][-1]["content"][-1]["text"])
        return said("Yes" if len(asked[-1]) % 3 else "No")

    def judged_at(url: str, patience: float = 300) -> Workspace:
        verifier = VerifierSettings(url=url, model="judge", patience_seconds=patience)
        return open_workspace(workspace.settings.model_copy(update={"verifier": verifier}))

    # Nobody is ever given that port.
    _, report, published = spend(judged_at("http://127.0.0.1:9/v1", patience=1), how(), judged_by_length)
    passed = report.reasons["no_verifier"]
    assert (report.accepted, report.failed, published.added) == (0, passed, 0)
    assert passed > 10
    assert "it is away" in report.unverified_because
    assert "not all of them verified" in report.line()
    with serving(judging) as url:
        _, report, published = spend(judged_at(url), how(), judged_by_length)
    assert report.unverified_because == ""
    assert "no_verifier" not in report.reasons
    assert published.added > 0
    calibration = calibrations.load(workspace.store, str(report.calibration))
    assert "verified" in calibration.features
    bought = len(asked)
    with serving(judging) as url:
        assert spend(judged_at(url), how(), judged_by_length)[1] == report
    assert len(asked) == bought
    assert set(workspace.lake.read("scores", where={"verdict": "accepted"})["verifier"].to_pylist()) <= {0.0, 1.0}


def test_nobody_verifies_his_own_drafts(workspace: Workspace) -> None:
    url = "http://127.0.0.1:9/v1"
    update = {
        "verifier": VerifierSettings(url=url, model="m"),
        "generator": GeneratorSettings(engine="openai", url=url, model="m"),
    }
    with pytest.raises(SettingsError, match="writes the drafts"):
        open_night(open_workspace(workspace.settings.model_copy(update=update)), how())


def test_a_night_killed_before_it_was_opened_binds_nobody(workspace: Workspace) -> None:
    open_night(workspace, of_so_many(None))
    workspace.store.delete("nights/ds/one.json")
    assert len(images_of(workspace, open_night(workspace, of_so_many(2)))) == 2


@pytest.mark.parametrize("damaged", [b"", b"{}", b"0" * 64])
def test_a_damaged_night_is_said_so(workspace: Workspace, damaged: bytes) -> None:
    night = open_night(workspace, how())
    (listed,) = (o.key for o in workspace.store.list("nights/") if o.key.endswith(".images"))
    workspace.store.put(listed, damaged)
    with pytest.raises(DataError, match="damaged"):
        images_of(workspace, night)
    workspace.store.put("nights/ds/one.json", damaged)
    with pytest.raises(DataError, match="damaged"):
        open_night(workspace, how())


def test_verdicts_on_the_exam_do_not_reach_the_calibration(workspace: Workspace) -> None:
    _, report, _ = spend(workspace, how(), judged_by_length)
    exam = members(workspace.lake, resolve(workspace.lake, "heldout"))
    import_verdicts(workspace.lake, [{"item_id": i, "reviewer": "Dr. A", "valid": True} for i in exam])
    _, again, _ = spend(workspace, how(), None)
    assert again.calibration == report.calibration
    assert again.audits == report.audits


def test_images_that_come_in_during_a_night_are_the_next_ones(
    workspace: Workspace, worlds: tuple[EmbeddedWorld, EmbeddedWorld]
) -> None:
    parameters = how()
    night = open_night(workspace, parameters)
    ask_for_drafts(workspace, night, parameters)
    before = drafts_of(workspace, night, parameters)
    take(workspace, worlds[1])
    assert drafts_of(workspace, night, parameters) == before
    assert ask_for_drafts(workspace, open_night(workspace, parameters), parameters) == 0
    assert waiting(workspace, night, of_so_many(None).generate) == 24
    assert waiting(workspace, night, of_so_many(24).generate) == 0
    assert ask_for_drafts(workspace, open_night(workspace, how("two")), parameters) == 48
    assert appraise(workspace, night, parameters, judged_by_length, quiet).drafts == len(before)


def test_the_phantoms_judge_their_own_world_only_and_keep_their_reasons(
    workspace: Workspace, worlds: tuple[EmbeddedWorld, EmbeddedWorld]
) -> None:
    take(workspace, worlds[1])
    spend(workspace, how(), lambda requests: ask_reviewer(worlds[0], requests))
    reviews = workspace.lake.read("reviews").to_pylist()
    assert {row["reason"] for row in reviews} == {""}
    own = {json.loads(line)["image_sha256"] for line in worlds[0].truth.read_text().splitlines()}
    image_of = {row["item_id"]: row["image_id"] for row in workspace.lake.read("items").to_pylist()}
    assert 0 < len(reviews) < 30
    assert {image_of[row["item_id"]] for row in reviews} <= own


def test_a_version_tells_how_diverse_its_night_was(workspace: Workspace) -> None:
    parameters = how()
    night = open_night(workspace, parameters)
    images = images_of(workspace, night)
    made = generate(workspace, parameters.generate, images, model=night.generator, run=night.run, announce=quiet)
    appraise(workspace, night, parameters, judged_by_length, quiet)
    version = publish(workspace, night, parameters, asked=made.asked, diversity=made.diversity).version
    assert version is not None
    assert made.diversity is not None
    assert resolve(workspace.lake, version.ref).card["diversity"] == made.diversity.model_dump(mode="json")


def test_of_a_night_that_stopped_early_only_what_it_got_to_is_published(workspace: Workspace) -> None:
    parameters = how()
    night = open_night(workspace, parameters)
    images = images_of(workspace, night)
    made = generate(
        workspace, parameters.generate, images, model=night.generator, run=night.run, announce=quiet, upto=40
    )
    assert (made.asked, made.possible) == (40, 48)
    some = drafted(workspace, parameters.generate, images, model=night.generator, run=night.run, asked=40)
    assert {item.image_id for item in some} < set(images)
    with pytest.raises(DataError, match="8 of 48"):
        drafts_of(workspace, night, parameters)
    judged = appraise(workspace, night, parameters, judged_by_length, quiet, asked=40)
    assert judged.drafts == len(some)
    version = publish(workspace, night, parameters, asked=40).version
    assert version is not None
    assert set(members(workspace.lake, version)) <= {item.item_id for item in some}


def test_two_datasets_judge_for_themselves(workspace: Workspace) -> None:
    _, _, mine = spend(workspace, how(), judged_by_length)
    _, _, theirs = spend(workspace, how(dataset="other"), None)
    _, _, again = spend(workspace, how(), None)
    assert again.version == mine.version
    assert theirs.version is not None
    assert theirs.version.dataset == "other"


@pytest.mark.parametrize("name", ["seed", "heldout"])
def test_datasets_of_people_are_not_for_nights(name: str) -> None:
    with pytest.raises(ValidationError, match="people wrote"):
        RefreshParameters(dataset=name)


def test_what_is_refused_and_accepted_again_comes_back(workspace: Workspace) -> None:
    _, _, published = spend(workspace, how(), judged_by_length)
    assert published.version is not None
    item = members(workspace.lake, published.version)[0]
    import_verdicts(workspace.lake, [{"item_id": item, "reviewer": f"Dr. {n}", "valid": False} for n in "AB"])
    _, _, without = spend(workspace, how(), None)
    assert without.version is not None
    assert item not in members(workspace.lake, without.version)
    import_verdicts(workspace.lake, [{"item_id": item, "reviewer": f"Dr. {n}", "valid": True} for n in "CDEFG"])
    _, _, again = spend(workspace, how(), None)
    assert again.version == resolve(workspace.lake, "ds")
    assert item in members(workspace.lake, again.version)
    _, _, once_more = spend(workspace, how(), None)
    assert once_more.version == again.version


def test_what_was_judged_by_a_clock_ahead_is_known_at_its_version(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(seconds=90)

    monkeypatch.setattr(judge, "datetime", Ahead)
    _, _, published = spend(workspace, how(), judged_by_length)
    assert published.version is not None
    held, version = members(workspace.lake, published.version), published.version
    source = Source(dataset=version.dataset, version=version.version, digest=version.digest)
    known = judgements(workspace.lake, held, published_at(workspace.lake, [source]))
    assert sorted(known) == held
