"""A small hospital whose generator writes what a test tells it, behind a server. Everything else is the product's own:
the intake, the tiny model that scores, the reviewer in its own process, the calibration, the selection, the lake.

It is drawn once a session; a test works on a copy of its root.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from scripted_server import said, serving

from medgr2.flows.embedded import EmbeddedWorld, ask_reviewer
from medgr2.flows.intake import take_in
from medgr2.infra.settings import load_settings
from medgr2.infra.versions import members
from medgr2.infra.workspace import Workspace, open_workspace
from medgr2.schemas.intake import IntakeParameters
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import RefreshParameters
from medgr2.schemas.reports import AppraisalReport, GenerateReport, Plan, PublishReport
from medgr2.tasks.appraise import AskReviewer, appraise
from medgr2.tasks.generate import drafted, generate
from medgr2.tasks.night import Night, images_of, open_night
from medgr2.tasks.publish import publish
from medgr2_phantoms.questions import QUESTION_TYPES, TOPICS, ask, conclude
from medgr2_phantoms.world import Scene

IMAGES = 60
TYPES = ("Modality Recognition", "Anatomy Identification", "Disease Diagnosis")
_TYPE = re.compile(r'question of the type "([^"]+)"')

Text = dict[str, Any] | str
Writer = Callable[[str, str], Text]
"""Of a picture, by the hash of its bytes, and a question type: a draft, or whatever else a model may reply."""


def quiet(plan: Plan) -> None:
    del plan


def lot(*what: object) -> int:
    """The same number for the same things, like a number drawn for anything else."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, what)).encode()).digest()[:6])


@dataclass(frozen=True)
class Evening:
    """What a night came to."""

    night: Night
    generated: GenerateReport
    report: AppraisalReport
    published: PublishReport
    drafts: dict[str, Item]
    members: frozenset[str]
    """Of the dataset, after it."""
    scores: dict[str, dict[str, Any]]
    """The newest of each draft in this night."""

    def with_reason(self, reason: str) -> set[str]:
        return {item_id for item_id, row in self.scores.items() if reason in row["reasons"]}

    @property
    def accepted(self) -> set[str]:
        return {item_id for item_id, row in self.scores.items() if row["verdict"] == "accepted"}


@dataclass
class Ward:
    root: Path
    world: EmbeddedWorld
    scenes: dict[str, Scene]
    url: str
    script: dict[str, Writer] = field(default_factory=dict)
    """What the server writes now, under `write`."""

    @property
    def workspace(self) -> Workspace:
        return open_workspace(
            load_settings(
                {
                    "MEDGR2_STORAGE__ROOT": str(self.root),
                    "MEDGR2_COMPUTE__MODE": "inline",
                    "MEDGR2_COMPUTE__ATTEMPTS": "1",
                    "MEDGR2_PRIVACY__PATIENT_KEY": "0123456789abcdef0123456789abcdef",
                    "MEDGR2_GENERATOR__ENGINE": "openai",
                    "MEDGR2_GENERATOR__URL": self.url,
                    "MEDGR2_GENERATOR__MODEL": "one",
                    "MEDGR2_GENERATOR__IN_FLIGHT": "16",
                }
            )
        )

    def how(self, night: str, **more: Any) -> RefreshParameters:
        """Each night asks at a temperature of its own, so that its drafts are others."""
        return RefreshParameters.model_validate(
            {
                "dataset": "ds",
                "night": night,
                "generate": {"question_types": TYPES, "temperature": lot(night) % 1000 / 1000, "repairs": 0},
                "score": {"answers": 4, "audits": 60},
                "select": {"tau": 0.8},
                **more,
            }
        )

    def spend(
        self,
        night: str,
        write: Writer | None = None,
        ask: AskReviewer | None = None,
        parameters: RefreshParameters | None = None,
    ) -> Evening:
        """A night from its opening to its publish, with `write` as the generator. Without one it may not ask again."""
        how, workspace = parameters or self.how(night), self.workspace
        self.script["write"] = write or _nobody
        opened = open_night(workspace, how)
        images = images_of(workspace, opened)
        made = generate(workspace, how.generate, images, model=opened.generator, run=opened.run, announce=quiet)
        drafts = drafted(workspace, how.generate, images, model=opened.generator, run=opened.run)
        report = appraise(workspace, opened, how, ask, quiet)
        published = publish(workspace, opened, how)
        rows = workspace.lake.read("scores", where={"run": opened.run}).to_pylist()
        rows = [row for row in rows if row["item_id"] in {one.item_id for one in drafts}]
        version = published.version
        return Evening(
            opened,
            made,
            report,
            published,
            {one.item_id: one for one in drafts},
            frozenset(members(workspace.lake, version)) if version else frozenset(),
            {row["item_id"]: row for row in sorted(rows, key=lambda row: row["scored_at"])},
        )

    def oracle(self, requests: Any) -> list[dict[str, Any]]:
        return ask_reviewer(self.world, requests)

    def true(self, image: str, question_type: str, salt: str = "") -> dict[str, Any]:
        """A draft whose key is right."""
        asked = ask(self.scenes[image], question_type, np.random.default_rng(lot(image, question_type, salt)))
        return draft(asked.question, asked.options, asked.answer, asked.rationale)

    def false(self, image: str, question_type: str, salt: str = "") -> dict[str, Any]:
        """A draft that keys a rival and argues for it: nothing in its words tells it from a true one."""
        right = self.true(image, question_type, salt)
        wrong = [letter for letter in "ABCD" if letter != right["answer"]][lot("wrong", image, salt) % 3]
        return self.keyed(image, right, wrong)

    def keyed(self, image: str, right: dict[str, Any], letter: str) -> dict[str, Any]:
        """The same question with this key, and a reason that argues for it."""
        option, scene = right["options"]["ABCD".index(letter)], self.scenes[image]
        question_type = next(name for name in QUESTION_TYPES if right["question"] in TOPICS[name].phrasings)
        attribute = ATTRIBUTES[question_type]
        return right | {
            "answer": letter,
            "rationale": conclude(scene.model_copy(update={attribute: option}), question_type),
        }

    def honest(self, image: str, question_type: str, salt: str = "") -> dict[str, Any]:
        """What a fair generator writes: three in ten are wrong."""
        made = self.false if lot("wrong", image, question_type, salt) % 10 < 3 else self.true
        return made(image, question_type, salt)

    def precision(self, evening: Evening, item_ids: Collection[str]) -> float:
        """Share of these drafts of the night that are true; of those that are none of its drafts nothing is said."""
        own = [evening.drafts[one] for one in item_ids if one in evening.drafts]
        return sum(map(self.is_true, own)) / len(own)

    def is_true(self, item: Item) -> bool:
        return str(getattr(self.scenes[item.image_id], ATTRIBUTES[item.question_type.value])) == item.key_text


ATTRIBUTES = {
    "Modality Recognition": "modality",
    "Anatomy Identification": "anatomy",
    "Disease Diagnosis": "finding",
    "Lesion Grading": "grade",
    "Other Biological Attributes": "quadrant",
}


def draft(question: str, options: Collection[str], answer: str, rationale: str) -> dict[str, Any]:
    return {"question": question, "options": [*options], "answer": answer, "rationale": rationale}


def _nobody(_image: str, _type: str) -> Text:
    raise AssertionError("the generator was asked again")


def _reply(script: dict[str, Writer], body: dict[str, Any]) -> web.Response:
    content = body["messages"][-1]["content"]
    (url,) = (part["image_url"]["url"] for part in content if part["type"] == "image_url")
    (text,) = (part["text"] for part in content if part["type"] == "text")
    image = hashlib.sha256(base64.b64decode(url.partition(",")[2])).hexdigest()
    named = _TYPE.search(text)
    assert named is not None
    written = script["write"](image, named[1])
    if isinstance(written, str):
        return said(written)
    return said(json.dumps({"reflection": "The picture allows it.", "unsupported": False, **written}))


@pytest.fixture(scope="session")
def drawn_ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    folder = tmp_path_factory.mktemp("ward")
    world = EmbeddedWorld(folder / "hospital", folder / "truth.jsonl")
    subprocess.run(
        [sys.executable, "-m", "medgr2_phantoms.hospital", "--out", str(world.hospital), "--truth", str(world.truth),
         "--images", str(IMAGES), "--seed-qa", "40", "--heldout", "20", "--seed", "5"],
        check=True, capture_output=True, timeout=400,
    )  # fmt: skip
    rows = [json.loads(line) for line in world.truth.read_text().splitlines()]
    scenes = {row["image_sha256"]: Scene.model_validate(row["scene"]) for row in rows}
    script: dict[str, Writer] = {}

    async def answer(_: web.Request, body: dict[str, Any]) -> web.Response:
        return _reply(script, body)

    with serving(answer) as url:
        ward = Ward(folder / "root", world, scenes, url, script)
        take_in(
            ward.workspace,
            str(world.hospital),
            run="in",
            parameters=IntakeParameters(reports="keep"),
            seed=world.hospital / "seed_qa.jsonl",
            heldout=world.hospital / "heldout.jsonl",
            announce=quiet,
        )
        yield ward


@pytest.fixture
def fresh_ward(drawn_ward: Ward, tmp_path: Path) -> Ward:
    """Nobody has spent a night in it."""
    return copied(drawn_ward, tmp_path / "root")


@pytest.fixture(scope="session")
def honest_night(drawn_ward: Ward, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ward, Evening]:
    ward = copied(drawn_ward, tmp_path_factory.mktemp("honest") / "root")
    evening = ward.spend("one", ward.honest, ward.oracle)
    assert len(evening.members) > 80
    assert ward.precision(evening, evening.members) > 0.95
    return ward, evening


@pytest.fixture
def ward(honest_night: tuple[Ward, Evening], tmp_path: Path) -> Ward:
    """With one night behind it, of a fair generator, and audited."""
    return copied(honest_night[0], tmp_path / "root")


def copied(ward: Ward, root: Path) -> Ward:
    shutil.copytree(ward.root, root)
    return Ward(root, ward.world, ward.scenes, ward.url, ward.script)
