"""Nights after the first: only what is new is asked, and what is outdated leaves. Through the real ingest, the real
HTTP engine and a server on loopback that counts what it is asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from ingest_helpers import COLUMNS, hospital, label, picture, settings
from scripted_server import said, serving, text_of

from medgr2.infra import versions
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.models.prompts import load_prompt
from medgr2.schemas.intake import IntakeParameters
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import RefreshParameters, ScoreParameters
from medgr2.schemas.reports import GenerateReport, Plan, PublishReport
from medgr2.schemas.vocabulary import Origin
from medgr2.tasks.generate import drafted, generate
from medgr2.tasks.intake.ingest import ingest
from medgr2.tasks.night import Night, images_of, open_night
from medgr2.tasks.outdated import outdated, superseded
from medgr2.tasks.publish import publish
from medgr2.tasks.score import measure

TYPES = ("Modality Recognition", "Disease Diagnosis")
ALL_COLUMNS = [*COLUMNS, "attributes"]


class Writer:
    """A served model that writes another question for every prompt, and keeps the prompts."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, _: web.Request, body: dict[str, Any]) -> web.Response:
        text = text_of(body)
        self.asked.append(text)
        name = hashlib.sha256(json.dumps(body["messages"], sort_keys=True).encode()).hexdigest()[:12]
        draft = {
            "reflection": "It allows this.", "question": f"What does the picture numbered {name} show?",
            "options": ["a cyst", "a nodule", "a fracture", "an effusion"], "answer": "B",
            "rationale": "A round spot can be seen, so it is a nodule.",
        }  # fmt: skip
        return said(json.dumps(draft))


class Clinic:
    """A folder of pictures, and nights about them."""

    def __init__(self, root: Path, url: str, writer: Writer) -> None:
        self.folder = root / "in"
        self.told: dict[str, dict[str, str]] = {}
        self.writer = writer
        self.plans: list[Plan] = []
        self._root, self._url = root, url
        self.serve()

    def serve(self, **more: str) -> None:
        names = {"ENGINE": "openai", "URL": self._url, "MODEL": "one", "IN_FLIGHT": "8", **more}
        env = {f"MEDGR2_GENERATOR__{name}": value for name, value in names.items()}
        self.workspace: Workspace = open_workspace(settings(self._root, **env))

    def bring(self, pictures: dict[str, int], **told: str) -> None:
        """Files with these pictures, told of with `told`; all others stay as they are."""
        for name in pictures:
            self.told[name] = label(name, **{"diagnosis": "nodule", **told})
        hospital(self.folder, list(self.told.values()), {n: picture(p) for n, p in pictures.items()}, ALL_COLUMNS)
        self.look()

    def correct(self, name: str, **told: str) -> None:
        self.told[name] |= told
        hospital(self.folder, list(self.told.values()), {}, ALL_COLUMNS)
        self.look()

    def look(self) -> None:
        parameters = IntakeParameters(reports="keep")
        ingest(self.workspace, str(self.folder), "", parameters, run="in", announce=lambda _: None)

    def night(self, name: str, **how: Any) -> tuple[Night, RefreshParameters, GenerateReport]:
        parameters = RefreshParameters.model_validate(
            {"dataset": "ds", "night": name, "generate": {"question_types": TYPES, **how}}
        )
        night = open_night(self.workspace, parameters)
        report = generate(
            self.workspace,
            parameters.generate,
            images_of(self.workspace, night),
            model=night.generator,
            run=night.run,
            announce=self.plans.append,
            since=night.began,
        )
        return night, parameters, report

    def items(self, night: Night, parameters: RefreshParameters) -> list[Item]:
        images = images_of(self.workspace, night)
        return drafted(self.workspace, parameters.generate, images, model=night.generator, run=night.run)

    def publish_all(self, night: Night, parameters: RefreshParameters) -> set[str]:
        """A version of all drafts of the night, as though they had been judged well."""
        ids = {item.item_id for item in self.items(night, parameters)}
        versions.publish(self.workspace.lake, dataset="ds", add=sorted(ids), card={}, run=night.run)
        return ids

    def held(self) -> set[str]:
        return set(versions.members(self.workspace.lake, versions.resolve(self.workspace.lake, "ds")))

    def image(self, number: int) -> str:
        return hashlib.sha256(picture(number)).hexdigest()


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    writer = Writer()
    with serving(writer) as url:
        found = Clinic(tmp_path, url, writer)
        found.bring({f"{n}.png": n for n in range(12)})
        yield found


def test_the_same_again_asks_nothing(clinic: Clinic) -> None:
    night, parameters, report = clinic.night("one")
    assert (report.accepted, report.asked, report.possible) == (24, 24, 24)
    assert len(clinic.writer.asked) == report.usage.calls == 24
    first = clinic.items(night, parameters)
    again, parameters, report = clinic.night("two")
    assert (report.plan.new, report.plan.reused, report.usage.calls) == (0, 24, 0)
    assert len(clinic.writer.asked) == 24
    assert [item.item_id for item in clinic.items(again, parameters)] == [item.item_id for item in first]
    assert outdated(clinic.workspace.lake) == set()


def test_ten_more_images_cost_only_theirs_whatever_they_are_labelled(clinic: Clinic) -> None:
    clinic.night("one")
    clinic.bring({f"{n}.png": n for n in range(12, 22)}, diagnosis="effusion; fracture")
    _, _, report = clinic.night("two")
    assert (report.plan.new, report.plan.reused) == (20, 24)
    assert len(clinic.writer.asked) == 44
    assert outdated(clinic.workspace.lake) == set()
    # The new ones are offered what was known by then, and the old ones what was known when they came.
    assert all("labels: diagnosis: effusion; fracture" in text for text in clinic.writer.asked[24:])
    late = [text for text in clinic.writer.asked[24:] if TYPES[1] in text]
    assert late
    assert all("wrong here: nodule" in text for text in late)


def test_ten_images_edited_in_place_cost_only_theirs_and_their_items_leave(clinic: Clinic) -> None:
    night, parameters, _ = clinic.night("one")
    before = clinic.publish_all(night, parameters)
    stay = {item.item_id for item in clinic.items(night, parameters) if item.image_id in map(clinic.image, (10, 11))}
    clinic.bring({f"{n}.png": 100 + n for n in range(10)})
    gone = {clinic.image(n) for n in range(10)}
    assert superseded(clinic.workspace.lake) == gone
    night, parameters, report = clinic.night("two")
    assert (report.plan.new, report.plan.reused) == (20, 4)
    assert len(clinic.writer.asked) == 44
    assert gone.isdisjoint(item.image_id for item in clinic.items(night, parameters))
    assert outdated(clinic.workspace.lake) == before - stay
    published: PublishReport = publish(clinic.workspace, night, parameters)
    assert published.version is not None
    assert published.version.removed == 20
    assert clinic.held() == stay


def test_an_edit_that_is_taken_back_brings_the_items_back(clinic: Clinic) -> None:
    night, parameters, _ = clinic.night("one")
    clinic.bring({"0.png": 100})
    assert superseded(clinic.workspace.lake) == {clinic.image(0)}
    clinic.bring({"0.png": 0})
    assert superseded(clinic.workspace.lake) == {clinic.image(100)}
    assert outdated(clinic.workspace.lake) == set()
    again, parameters, report = clinic.night("two")
    assert report.plan.new == 0
    assert len(clinic.items(again, parameters)) == 24
    del night


def test_a_file_that_is_gone_replaces_nothing_and_neither_does_one_that_breaks(clinic: Clinic) -> None:
    clinic.night("one")
    (clinic.folder / "0.png").unlink()
    (clinic.folder / "1.png").write_bytes(picture(1)[:60])
    clinic.look()
    assert superseded(clinic.workspace.lake) == set()
    assert clinic.night("two")[2].plan.new == 0


def test_a_picture_that_another_file_still_gives_is_not_superseded(clinic: Clinic) -> None:
    clinic.bring({"copy.png": 0}, patient_id="p-0.png")
    clinic.bring({"0.png": 100})
    assert superseded(clinic.workspace.lake) == set()


@pytest.mark.parametrize("told", [{"diagnosis": "cyst"}, {"report": "A cyst of the left kidney."}])
def test_corrected_facts_cost_only_their_image_and_its_old_items_leave(clinic: Clinic, told: dict[str, str]) -> None:
    night, parameters, _ = clinic.night("one")
    before = clinic.publish_all(night, parameters)
    theirs = {item.item_id for item in clinic.items(night, parameters) if item.image_id == clinic.image(3)}
    clinic.correct("3.png", **told)
    assert outdated(clinic.workspace.lake) == theirs
    night, parameters, report = clinic.night("two")
    assert (report.plan.new, report.plan.reused) == (2, 22)
    assert all(next(iter(told.values())) in text for text in clinic.writer.asked[24:])
    publish(clinic.workspace, night, parameters)
    assert clinic.held() == before - theirs
    assert outdated(clinic.workspace.lake) == theirs


def test_a_label_that_only_one_picture_had_is_corrected_and_disturbs_nobody(clinic: Clinic) -> None:
    clinic.bring({"odd.png": 50}, diagnosis="nodul")
    clinic.bring({"next.png": 51})
    clinic.night("one")
    clinic.correct("odd.png", diagnosis="nodule")
    assert clinic.night("two")[2].plan.new == 2
    clinic.bring({"later.png": 52}, diagnosis="cyst")
    clinic.night("three")
    assert all("wrong here: nodule\n" in text for text in clinic.writer.asked[-2:] if TYPES[1] in text)


@pytest.mark.parametrize(
    ("told", "corrections", "new"),
    [
        ({"diagnosis": "cyst"}, [{"diagnosis": "scar"}, {"diagnosis": "cyst"}], 2),
        ({"diagnosis": "cyst"}, [{"modality": "MRI"}], 4),
        ({"attributes": "round"}, [{"attributes": "oval"}], 4),
    ],
    ids=["there and back", "another modality", "another attribute"],
)
def test_no_correction_of_one_picture_asks_about_another_again(
    clinic: Clinic, told: dict[str, str], corrections: list[dict[str, str]], new: int
) -> None:
    """Two questions each: about the picture that came last, and about the corrected one unless it is as it was."""
    types = ("Disease Diagnosis", "Other Biological Attributes")
    clinic.bring({"odd.png": 50}, **told)
    clinic.bring({"before.png": 51})
    clinic.bring({"elsewhere.png": 52}, modality="MRI")
    for n, correction in enumerate(corrections):
        clinic.night(f"before-{n}", question_types=types)
        clinic.correct("odd.png", **correction)
        clinic.bring({f"after{n}.png": 60 + n})
    assert clinic.night("last", question_types=types)[2].plan.new == new


def test_pictures_that_were_there_before_their_labels_are_offered_labels_too(clinic: Clinic) -> None:
    for n in range(12):
        clinic.told[f"{n}.png"]["diagnosis"] = ""
    clinic.correct("0.png")
    clinic.night("one")
    assert {text.partition("labels: ")[2].partition("\n")[0] for text in clinic.writer.asked} == {"none"}
    for n in range(12):
        clinic.told[f"{n}.png"]["diagnosis"] = ("cyst", "fracture")[n % 2]
    clinic.correct("0.png")
    already = len(clinic.writer.asked)
    clinic.night("two")
    late = [text for text in clinic.writer.asked[already:] if TYPES[1] in text]
    assert len(late) == 12
    for text in late:
        own, other = ("cyst", "fracture") if "diagnosis: cyst" in text else ("fracture", "cyst")
        offered = text.partition("wrong here: ")[2].partition("\n")[0]
        assert other in offered
        assert own not in offered


def test_what_the_embedded_model_wrote_from_a_corrected_report_is_outdated_too(clinic: Clinic) -> None:
    clinic.serve(ENGINE="transformers")
    night, parameters, report = clinic.night("one", question_types=TYPES[:1])
    assert report.accepted > 6
    assert clinic.writer.asked == []
    chosen = clinic.items(night, parameters)[0]
    name = next(f"{n}.png" for n in range(12) if clinic.image(n) == chosen.image_id)
    clinic.correct(name, diagnosis="cyst")
    assert outdated(clinic.workspace.lake) == set()  # it is not shown the labels
    clinic.correct(name, report="CT, head, cyst")
    assert outdated(clinic.workspace.lake) == {chosen.item_id}


def test_what_people_wrote_never_leaves(clinic: Clinic) -> None:
    night, parameters, _ = clinic.night("one")
    lake = clinic.workspace.lake
    (row,) = lake.read("items", where={"item_id": clinic.items(night, parameters)[0].item_id}).to_pylist()
    lake.append("items", [row | {"item_id": "f" * 64, "origin": Origin.HUMAN.value, "context": None}], once="seed")
    number = next(n for n in range(12) if clinic.image(n) == row["image_id"])
    clinic.bring({f"{number}.png": 100})
    assert "f" * 64 not in outdated(lake)
    assert row["item_id"] in outdated(lake)


def test_another_revision_asks_everything_anew_and_the_plan_says_why(clinic: Clinic) -> None:
    clinic.night("one")
    clinic.serve(REVISION="2026-11")
    _, _, report = clinic.night("two")
    assert (report.plan.new, report.plan.reused) == (24, 0)
    assert "model" in " ".join(report.plan.because)
    assert "model" in clinic.plans[-1].line()


def test_another_prompt_of_the_judge_asks_the_judge_and_nobody_else(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = ScoreParameters(answers=1)

    def judged(name: str) -> tuple[list[Plan], Plan]:
        night, parameters, report = clinic.night(name, question_types=TYPES[:1])
        drafts = clinic.items(night, parameters)
        found = measure(clinic.workspace, drafts, how, scorer=night.scorer, run=night.run, announce=clinic.plans.append)
        return [one.plan for one in found.reports], report.plan

    scored, _ = judged("one")
    assert scored
    assert {plan.new for plan in scored} == {12}
    scored, asked = judged("two")
    assert {plan.new for plan in scored} == {asked.new} == {0}
    monkeypatch.setattr("medgr2.tasks.score.load_prompt", lambda name: load_prompt(name) + " ")
    scored, asked = judged("three")
    assert {plan.new for plan in scored} == {12}
    assert all("prompt" in " ".join(plan.because) for plan in scored)
    assert (asked.new, asked.reused, len(clinic.writer.asked)) == (0, 12, 12)


def test_a_prompt_that_shows_no_labels_is_not_asked_again_when_they_change(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medgr2.tasks.drafting.prompt_of", lambda _: 'A {question_type} question: {{"question"}}')
    clinic.night("one")
    clinic.correct("3.png", diagnosis="cyst", report="A cyst.")
    assert outdated(clinic.workspace.lake) == set()
    assert clinic.night("two")[2].plan.new == 0
