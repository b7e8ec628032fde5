"""A second opinion over HTTP: bought once, sent no more than the item, and missed where it is missing."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from PIL import Image
from scripted_server import fault, said, serving

from medgr2.infra.settings import Settings, VerifierSettings, load_settings
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.models.calibration import Audit, fit
from medgr2.models.engines.http_safety import checked_url
from medgr2.models.model_ref import served_model
from medgr2.models.signals import SIGNALS
from medgr2.schemas.errors import NightStoppedError, SettingsError
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import ScoreParameters
from medgr2.schemas.reports import Plan, StageReport
from medgr2.schemas.vocabulary import QuestionType
from medgr2.tasks import score
from medgr2.tasks.judge import judge
from medgr2.tasks.score import Measured
from medgr2.tasks.score_verifier import asked_for, recipe
from medgr2.tasks.stage import run_and_record

PROGRAM = Path(__file__).parents[1] / "served" / "fake_server.py"
REPORT, LABEL = "The crescent beside the stairwell", "gryphon"
N = 24


@pytest.fixture
def fake() -> Iterator[Any]:
    """Starts the fake server; gives its URL."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(*flags: str) -> str:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        running.append(process)
        assert process.stdout is not None
        return f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}/v1"

    yield begin
    for process in running:
        process.communicate(timeout=400)


def ward(root: Path, url: str, **more: Any) -> Workspace:
    verifier = {"URL": url, "MODEL": "fake", "IN_FLIGHT": "8", "PATIENCE_SECONDS": "300", "ATTEMPTS": "2"} | more
    return open_workspace(
        load_settings(
            {"MEDGR2_STORAGE__ROOT": str(root), "MEDGR2_COMPUTE__MODE": "inline"}
            | {f"MEDGR2_VERIFIER__{name}": value for name, value in verifier.items()}
        )
    )


def exams(workspace: Workspace, count: int = N) -> list[tuple[str, Item]]:
    rows, items = [], []
    for n in range(count):
        file = io.BytesIO()
        pixels = np.random.default_rng(n).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
        image = workspace.images.put(file.getvalue())
        rows.append({"image_id": image, "split": "train", "report": REPORT, "labels": json.dumps([LABEL])})
        items.append(
            Item(
                image_id=image,
                question_type=QuestionType.DISEASE,
                question=f"What is in picture {n}?",
                options=("cyst", "nodule", "normal", "fibrosis"),
                answer="ABCD"[n % 4],
                rationale="It is round.",
            )
        )
    workspace.lake.append_new("images", rows, key="image_id")
    return sorted((item.item_id, item) for item in items)


def verified(
    workspace: Workspace, asked: list[tuple[str, Item]], run: str = "n/1"
) -> tuple[StageReport, dict[str, float | str]]:
    """And of each item what was said of it, or why nothing was."""
    plans: list[Plan] = []
    name = served_model(workspace.settings.verifier)
    request, cells = asked_for(name, asked, run=run, in_flight=workspace.settings.verifier.in_flight)
    result = run_and_record(request, cells, workspace, plans.append)
    outcomes = [result.outcomes[cell.key] for cell in cells]
    told = [one.value["verifier"] if one.value else one.reasons[0] for one in outcomes]
    return result.report, dict(zip((item_id for item_id, _ in asked), told, strict=True))


def test_every_item_is_asked_about_once_and_counted(tmp_path: Path, fake: Any) -> None:
    workspace = ward(tmp_path, fake(), PRICE_IN="1", PRICE_OUT="2")
    asked = exams(workspace)
    report, found = verified(workspace, asked)
    assert (report.accepted, report.failed, report.usage.calls) == (N, 0, N)
    assert report.usage.tokens_in > 256 * N
    assert report.usage.money > 0
    chances = [float(value) for value in found.values()]
    assert len({round(value, 6) for value in chances}) == N  # chances, not words
    assert 0.0 < min(chances) < 0.5 < max(chances) < 1.0
    again, same = verified(workspace, asked, run="n/2")
    assert (again.plan.new, again.usage.calls) == (0, 0)
    assert same == found
    spent = workspace.lake.read("outcomes", where={"stage": "score-verifier"}).to_pylist()
    assert sum(row["calls"] or 0 for row in spent if row["run"] == "n/1") == N


def test_a_server_without_chances_says_all_or_nothing(tmp_path: Path, fake: Any) -> None:
    with_chances = ward(tmp_path / "one", fake())
    without = ward(tmp_path / "two", fake("--no-logprobs"))
    _, sure = verified(with_chances, exams(with_chances))
    _, plain = verified(without, exams(without))
    assert plain == {item_id: float(round(float(value))) for item_id, value in sure.items()}
    assert set(plain.values()) == {0.0, 1.0}


def test_transient_faults_cost_no_item(tmp_path: Path, fake: Any) -> None:
    flags = ("--http-429", "0.2", "--http-503", "0.1", "--http-500", "0.2", "--bad-body", "0.1", "--retry-after", "0")
    report, found = verified(workspace := ward(tmp_path, fake(*flags), ATTEMPTS="4"), exams(workspace))
    assert report.accepted == N
    assert all(isinstance(value, float) for value in found.values())


def test_nothing_but_the_item_and_its_picture_is_sent(tmp_path: Path) -> None:
    bodies: list[dict[str, Any]] = []

    async def listening(_: web.Request, body: dict[str, Any]) -> web.Response:
        bodies.append(body)
        return said("Yes")

    with serving(listening) as url:
        workspace = ward(tmp_path, url, MODEL="one")
        asked = exams(workspace, 3)
        verified(workspace, asked)
    assert len(bodies) == 3
    known = {item.question: item for _, item in asked}
    for body in bodies:
        assert {"model", "messages", "temperature", "seed", "max_tokens", "logprobs", "top_logprobs"} == set(body)
        (message,) = body["messages"]
        picture, text = message["content"]
        (item,) = (item for question, item in known.items() if question in text["text"])
        data = base64.b64decode(picture["image_url"]["url"].partition("base64,")[2])
        assert data == workspace.images.path(item.image_id).read_bytes()
        sent = json.dumps(body)
        assert REPORT not in sent
        assert LABEL not in sent
        assert item.image_id not in sent


def test_a_reply_of_another_kind_is_no_verdict_and_not_asked_for_again(tmp_path: Path) -> None:
    calls: list[str] = []

    async def rambling(_: web.Request, body: dict[str, Any]) -> web.Response:
        text = body["messages"][-1]["content"][-1]["text"]
        calls.append(text)
        return said("It seems so to me." if "picture 1?" in text else "No")

    with serving(rambling) as url:
        workspace = ward(tmp_path, url, MODEL="one")
        asked = exams(workspace, 3)
        report, found = verified(workspace, asked)
        verified(workspace, asked, run="n/2")
    assert (report.accepted, report.rejected, len(calls)) == (2, 1, 3)
    assert sorted(map(str, found.values())) == ["0.0", "0.0", "not_yes_or_no"]


def of_all(
    workspace: Workspace, asked: list[tuple[str, Item]], monkeypatch: pytest.MonkeyPatch, run: str = "n/1"
) -> Measured:
    """As a night measures; the scorer's own looks, which cost a model, are left out."""
    monkeypatch.setattr(score, "LOOKS", {})
    return score.measure(
        workspace,
        [item for _, item in asked],
        ScoreParameters(),
        scorer="s",
        run=run,
        announce=lambda _: None,
        verifier=served_model(workspace.settings.verifier),
    )


def test_a_verifier_that_goes_away_fails_what_it_was_not_asked_about(
    tmp_path: Path, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listed, not published, and nothing is asked twice when it is back."""
    asked = exams(workspace := ward(tmp_path, fake("--die-after", "10"), IN_FLIGHT="1", PATIENCE_SECONDS="2"))
    first = of_all(workspace, asked, monkeypatch)
    there = {item_id for item_id, found in first.signals.items() if "verifier" in found}
    assert 9 <= len(there) < N  # the tenth was written and perhaps never heard
    assert "it is away" in first.unverified
    rows = judge({item_id: () for item_id, _ in asked}, seen_by_the_scorer(first), None, tau=0.5, run="n/1")
    assert {row["item_id"] for row in rows if "no_verifier" in row["reasons"]} == {i for i, _ in asked} - there
    assert {row["verdict"] for row in rows if "no_verifier" in row["reasons"]} == {"failed"}
    back = ward(tmp_path, fake())
    plans: list[Plan] = []
    monkeypatch.setattr(score, "LOOKS", {})
    second = score.measure(
        back, [item for _, item in asked], ScoreParameters(), scorer="s", run="n/1", announce=plans.append,
        verifier=served_model(back.settings.verifier),
    )  # fmt: skip
    assert (plans[0].reused, plans[0].new + plans[0].retried) == (len(there), N - len(there))
    assert second.unverified == ""
    assert all(second.signals[i]["verifier"] == first.signals[i]["verifier"] for i in there)
    assert all("verifier" in found for found in second.signals.values())


def seen_by_the_scorer(measured: Measured) -> Measured:
    signals = {i: {**dict.fromkeys(SIGNALS, 0.5), **found} for i, found in measured.signals.items()}
    return Measured("s", signals, measured.cells, (), verifier=measured.verifier)


def test_a_server_that_refuses_the_key_stops_the_night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings' fault, and not a server that may be back."""

    async def locked(_: web.Request, __: dict[str, Any]) -> web.Response:
        return fault(401)

    with serving(locked) as url:
        workspace = ward(tmp_path, url, MODEL="one")
        with pytest.raises(SettingsError, match="refuses the key") as told:
            of_all(workspace, exams(workspace, 2), monkeypatch)
    assert "MEDGR2_VERIFIER__API_KEY" in told.value.next_command


def test_another_stage_that_stops_stops_the_night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = ward(tmp_path, "http://127.0.0.1:9/v1")

    def stops(*_: Any, **__: Any) -> Any:
        raise NightStoppedError("no")

    monkeypatch.setattr(score, "run_and_record", stops)
    with pytest.raises(NightStoppedError):
        score.measure(workspace, [], ScoreParameters(), scorer="s", run="n/1", announce=lambda _: None)


def test_what_it_says_becomes_a_feature_when_it_was_measured() -> None:
    rng = np.random.default_rng(0)
    audits = []
    for n in range(60):
        valid = n % 3 > 0
        seen = {"lp": -float(rng.uniform(0.1, 1)), "agree": 0.5, "perm": 0.5}
        audits.append(Audit(str(n), {**seen, "verifier": float(n % 7 > 0) if valid else float(n % 7 == 0)}, valid))
    calibration = fit(audits, scorer="s")
    assert "verified" in calibration.features
    assert calibration.weights[calibration.features.index("verified")] > 1
    sure = {"lp": -0.5, "agree": 0.5, "perm": 0.5}
    p_yes, p_no = calibration.p({**sure, "verifier": 1.0}), calibration.p({**sure, "verifier": 0.0})
    assert p_yes is not None
    assert p_no is not None
    assert p_yes > 0.8 > 0.3 > p_no
    assert calibration.p(sure) is None


def test_its_settings_are_refused_as_the_generators_are() -> None:
    assert not Settings().verifier.on
    for wrong, says in [
        ({"MODEL": "m"}, "needs MEDGR2_VERIFIER__URL"),
        ({"URL": "http://127.0.0.1:8000/v1"}, "needs MEDGR2_VERIFIER__MODEL"),
        ({"URL": "ftp://here", "MODEL": "m"}, "needs MEDGR2_VERIFIER__URL"),
        ({"STRUCTURED": "never"}, "unknown setting MEDGR2_VERIFIER__STRUCTURED"),
    ]:
        with pytest.raises(SettingsError, match=says):
            load_settings({f"MEDGR2_VERIFIER__{name}": value for name, value in wrong.items()})
    far = VerifierSettings(url="http://judge.example.org/v1", model="m")
    with pytest.raises(SettingsError, match="pictures, questions and answers would be sent to judge"):
        checked_url(far)
    keyed = VerifierSettings.model_validate({**far.model_dump(), "outside": True, "api_key": "secret"})
    with pytest.raises(SettingsError, match="in the clear"):
        checked_url(keyed)
    assert "secret" not in repr(keyed)


def test_another_model_or_prompt_makes_other_cells(tmp_path: Path) -> None:
    workspace = ward(tmp_path, "http://127.0.0.1:9/v1", REVISION="2026-11")
    assert served_model(workspace.settings.verifier) == "served:fake@2026-11"
    (asked,) = exams(workspace, 1)
    keys = {asked_for(name, [asked], run="n", in_flight=1)[1][0].key for name in ("served:a", "served:b", "served:a@2")}
    assert len(keys) == 3
    assert recipe("served:a").stage == "score-verifier"
