"""A night asked of a server that does all that servers and models do: every picture ends with a draft or its reason."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from ingest_helpers import hospital, label, picture, settings
from scripted_server import fault, said, serving

from medgr2.infra.images import image_key
from medgr2.infra.journal import Journal
from medgr2.infra.objects_folder import FolderStore
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.schemas.cells import Outcome
from medgr2.schemas.intake import IntakeParameters
from medgr2.schemas.parameters import GenerateParameters
from medgr2.schemas.reports import GenerateReport
from medgr2.schemas.usage import Budget
from medgr2.tasks.generate import asked_for, drafted, generate
from medgr2.tasks.intake.ingest import ingest

SECRET = "The crescent beside the stairwell measures eleven millimetres in the second plane today."
GOOD = {
    "reflection": "It allows this.", "unsupported": False, "question": "On which side is the dark spot?",
    "options": ["on the left", "on the right", "at the top", "at the bottom"], "answer": "C",
    "rationale": "The dark spot can be seen near the upper border, so it is at the top.",
}  # fmt: skip
GOOD_TEXT = json.dumps(GOOD)
REPLIES = {
    "good": [GOOD_TEXT],
    "fenced": [f"Sure!\n```json\n{GOOD_TEXT}\n```"],
    "answer as text": [json.dumps({**GOOD, "answer": "At the top."})],
    "mended": ["I would rather not.", GOOD_TEXT],
    "cut": [GOOD_TEXT[:80], GOOD_TEXT],
    "quoting once": [json.dumps({**GOOD, "rationale": f"At the top: {SECRET}"}), GOOD_TEXT],
    "quoting": [json.dumps({**GOOD, "rationale": f"At the top: {SECRET}"})],
    "alluding": [json.dumps({**GOOD, "rationale": "According to the report it is at the top."})],
    "unsupported": ['{"unsupported": true}'],
    "never": [f"{SECRET} I cannot."],
    "two": [GOOD_TEXT + GOOD_TEXT],
    "busy": [GOOD_TEXT],
    "refused": [],
    "torn": [],
    "gone": [],
}
ACCEPTED = {"good", "fenced", "answer as text", "mended", "cut", "quoting once", "busy"}
REJECTED = {"quoting": "quotes_report", "alluding": "alludes_to_report", "unsupported": "unsupported"}
FAILED = {
    "never": "not_json",
    "two": "several_objects",
    "refused": "",
    "torn": "image_damaged",
    "gone": "image_missing",
}


class Ward:
    """The server: what a picture gets is told by its label, which only the prompt knows."""

    def __init__(self) -> None:
        self.bodies: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.replies = REPLIES

    async def __call__(self, _: web.Request, body: dict[str, Any]) -> web.Response:
        kind = told(body)
        self.bodies[kind].append(body)
        if kind == "refused":
            return fault(400, SECRET)
        if kind == "busy" and len(self.bodies[kind]) < 3:
            return fault((429, 503)[len(self.bodies[kind]) - 1], Retry_After="0")
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        text = self.replies[kind][min(turn, len(self.replies[kind]) - 1)]
        return said(text, "length" if text == GOOD_TEXT[:80] else "stop")


def told(body: dict[str, Any]) -> str:
    first = next(message for message in body["messages"] if message["role"] == "user")
    (text,) = (part["text"] for part in first["content"] if part["type"] == "text")
    return str(text.split("diagnosis: ")[1].splitlines()[0])


class Evening:
    def __init__(self, root: Path, url: str, ward: Ward) -> None:
        names = {"ENGINE": "openai", "URL": url, "MODEL": "one", "IN_FLIGHT": "4", "PRICE_OUT": "1000000"}
        env = {f"MEDGR2_GENERATOR__{name}": value for name, value in names.items()}
        self.workspace: Workspace = open_workspace(settings(root, **env, MEDGR2_COMPUTE__ATTEMPTS="2"))
        self.ward = ward
        self.numbers = {kind: number for number, kind in enumerate(REPLIES)}
        rows = [label(f"{n}.png", diagnosis=kind, report=SECRET) for kind, n in self.numbers.items()]
        folder = hospital(root / "in", rows, {f"{n}.png": picture(n) for n in self.numbers.values()})
        parameters = IntakeParameters(reports="keep")
        ingest(self.workspace, str(folder), "", parameters, run="in", announce=lambda _: None)
        self.images = {kind: hashlib.sha256(picture(n)).hexdigest() for kind, n in self.numbers.items()}
        self.object("torn").write_bytes(b"no picture")
        self.object("gone").unlink()

    def object(self, kind: str) -> Path:
        assert isinstance(self.workspace.store, FolderStore)
        return self.workspace.store.local_path(image_key(self.images[kind]))

    def parameters(self, **more: Any) -> GenerateParameters:
        return GenerateParameters.model_validate({"question_types": ["Other Biological Attributes"], **more})

    def ask(self, since: int | None = None, **more: Any) -> GenerateReport:
        return generate(
            self.workspace,
            self.parameters(**more),
            sorted(self.images.values()),
            model="served:one",
            run="night",
            announce=lambda _: None,
            since=since,
        )

    def outcomes(self) -> dict[str, Outcome]:
        request, wanted = asked_for(
            self.workspace, self.parameters(), sorted(self.images.values()), model="served:one", run="night"
        )
        found = Journal(self.workspace.store, request.recipe.stage).outcomes([cell.key for cell in wanted.cells])
        kinds = {image: kind for kind, image in self.images.items()}
        return {kinds[cell.image]: found[cell.key] for cell in wanted.cells if cell.key in found}


@pytest.fixture
def evening(tmp_path: Path) -> Iterator[Evening]:
    ward = Ward()
    with serving(ward) as url:
        yield Evening(tmp_path, url, ward)


def test_every_picture_ends_with_a_draft_or_its_reason(evening: Evening) -> None:
    report = evening.ask()
    assert (report.accepted, report.rejected, report.failed) == (len(ACCEPTED), len(REJECTED), len(FAILED))
    assert report.conserved()
    found = evening.outcomes()
    assert {kind for kind, outcome in found.items() if outcome.verdict == "accepted"} == ACCEPTED
    assert {kind: found[kind].reasons for kind in REJECTED} == {kind: (why,) for kind, why in REJECTED.items()}
    reasons = {kind: found[kind].reasons[0] for kind in FAILED}
    assert reasons.pop("refused")
    assert reasons == {kind: why for kind, why in FAILED.items() if why}
    calls = {kind: len(evening.ward.bodies[kind]) for kind in REPLIES}
    assert calls == {
        "good": 1, "fenced": 1, "answer as text": 1, "mended": 2, "cut": 2, "quoting once": 2, "quoting": 2,
        "alluding": 2, "unsupported": 1, "never": 2, "two": 2, "busy": 3, "refused": calls["refused"], "torn": 0,
        "gone": 0,
    }  # fmt: skip
    assert 1 <= calls["refused"] <= 4
    items = drafted(
        evening.workspace, evening.parameters(), sorted(evening.images.values()), model="served:one", run="night"
    )
    assert len(items) == len(ACCEPTED)
    assert {item.key_text for item in items} == {"at the top"}
    assert report.diversity is not None
    assert report.diversity.near_duplicates == pytest.approx((len(items) - 1) / len(items), abs=1e-4)


def test_what_it_cost_is_in_the_lake_and_nothing_that_was_told_in_confidence(evening: Evening) -> None:
    report = evening.ask()
    rows = evening.workspace.lake.read("outcomes", where={"stage": "generate"}).to_pylist()
    answered = sum(row["calls"] or 0 for row in rows)
    # Replies with an error are not paid for.
    paid = sum(len(evening.ward.bodies[kind]) for kind in REPLIES if REPLIES[kind]) - 2
    assert report.usage.calls == answered == paid
    assert report.usage.money == pytest.approx(3 * paid)
    assert {row["reason"] for row in rows if row["outcome"] == "rejected"} == set(REJECTED.values())
    words = (SECRET, "I would rather", "According to", "I cannot")
    for path in Path(evening.workspace.settings.storage.root).rglob("*"):
        if path.is_file() and "generate" in str(path.relative_to(evening.workspace.settings.storage.root)):
            data = path.read_bytes()
            assert not any(word.encode() in data for word in words), path
    told_of = json.dumps([rows, evening.workspace.lake.read("items").to_pylist()], default=str)
    assert not any(word in told_of for word in words)


def test_the_picture_and_the_form_go_along_and_a_repair_says_what_was_said(evening: Evening) -> None:
    evening.ask()
    first, second = evening.ward.bodies["mended"]
    content = first["messages"][0]["content"]
    url = next(part["image_url"]["url"] for part in content if part["type"] == "image_url")
    assert base64.b64decode(url.partition("base64,")[2]) == picture(evening.numbers["mended"])
    assert SECRET in json.dumps(content)
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "user"]
    assert second["messages"][0] == first["messages"][0]
    assert second["messages"][1]["content"] == "I would rather not."
    assert "not_json" in json.dumps(second["messages"][2])
    schema = first["response_format"]["json_schema"]["schema"]
    assert schema["required"][0] == "reflection"
    assert first["seed"] != second["seed"]


def test_a_budget_stops_after_a_prefix_and_the_rest_is_left(evening: Evening) -> None:
    report = evening.ask(budget=Budget(calls=6))
    assert report.left > 0
    assert report.usage.calls <= 6
    assert report.conserved()
    assert report.asked + report.left == report.possible == len(REPLIES)
    _, wanted = asked_for(
        evening.workspace, evening.parameters(), sorted(evening.images.values()), model="served:one", run="night"
    )
    kinds = {image: kind for kind, image in evening.images.items()}
    assert set(evening.outcomes()) == {kinds[cell.image] for cell in wanted.cells[: report.asked]}
    more = evening.ask()
    assert (more.left, more.asked, more.accepted) == (0, len(REPLIES), len(ACCEPTED))


def test_a_night_that_is_run_again_in_another_style_has_no_other_budget(evening: Evening) -> None:
    began = time.time_ns()
    first = evening.ask(began, budget=Budget(calls=8))
    assert 6 < first.usage.calls <= 8
    again = evening.ask(began, budget=Budget(calls=8), style="direct")
    assert (again.usage.calls, again.asked) == (0, 0)
    more = evening.ask(began, budget=Budget(calls=12), style="direct")
    assert 2 < more.usage.calls <= 12 - first.usage.calls
    assert evening.ask(began, budget=Budget(calls=8)).asked == first.asked


def test_what_failed_is_tried_again_the_next_time_and_what_was_settled_is_not(evening: Evening) -> None:
    evening.ask()
    before = {kind: len(bodies) for kind, bodies in evening.ward.bodies.items()}
    evening.ward.replies = {**REPLIES, "never": [GOOD_TEXT], "gone": [GOOD_TEXT]}
    evening.workspace.images.put(picture(evening.numbers["gone"]))
    report = evening.ask()
    assert (report.plan.new, report.plan.retried) == (0, len(FAILED))
    assert (report.accepted, report.failed) == (len(ACCEPTED) + 2, len(FAILED) - 2)
    after = {kind: len(bodies) - before.get(kind, 0) for kind, bodies in evening.ward.bodies.items()}
    assert {kind for kind, n in after.items() if n} == {"never", "two", "refused", "gone"}
    assert evening.ask().usage.calls == 0, "every cell has had its tries"


@pytest.mark.parametrize("style", ["direct", "step-by-step"])
def test_every_style_is_understood(evening: Evening, style: str) -> None:
    report = evening.ask(style=style)
    assert report.accepted == len(ACCEPTED)
    form = evening.ward.bodies["good"][0]["response_format"]["json_schema"]["schema"]
    assert form["required"][0] == {"direct": "unsupported", "step-by-step": "reasoning"}[style]
