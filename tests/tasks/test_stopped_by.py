"""What must never be published, through the whole of a night: each kind is stopped by the gate that has its name, the
report says so, and the good items beside it are published all the same."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from PIL import Image, ImageOps
from scripted_ward import TYPES, Evening, Text, Ward, draft, lot, quiet

from medgr2.infra import versions
from medgr2.infra.pictures.fingerprint import fingerprint
from medgr2.infra.settings import Settings
from medgr2.infra.versions import resolve
from medgr2.models.calibration import load
from medgr2.models.registry import Registration, Registry
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.errors import NightStoppedError
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import RefreshParameters
from medgr2.schemas.probe import Probed
from medgr2.schemas.vocabulary import Role
from medgr2.tasks import judge, score, score_reward
from medgr2.tasks.night import images_of, open_night
from medgr2.tasks.publish import refusal
from medgr2.tasks.reward_trial import sit
from medgr2.tasks.stage import run_and_record
from medgr2_phantoms.questions import TOPICS

MODALITY, ANATOMY, DISEASE = TYPES
UNSUPPORTED = '{"unsupported": true}'


def spoilt(made: dict[str, Any], *, option: str = "", **changes: Any) -> dict[str, Any]:
    """The draft with one of its distractors, or other fields, replaced."""
    options = list(made["options"])
    if option:
        options["ABCD".index(made["answer"]) - 1] = option
    return made | {"options": options} | changes


def key_of(made: Mapping[str, Any]) -> str:
    return str(made["options"]["ABCD".index(made["answer"])])


def reworded(made: dict[str, Any], key: str) -> dict[str, Any]:
    options = [key if option == key_of(made) else option for option in made["options"]]
    return made | {"options": options, "rationale": f"It is {key}."}


RUBBISH: dict[str, Callable[[dict[str, Any]], Text]] = {
    "schema:options": lambda d: spoilt(d, options=d["options"][:3], answer="A"),
    "options_alike": lambda d: spoilt(d, option=f" {key_of(d).upper()}."),
    "option_refers_to_others": lambda d: spoilt(d, option="None of the above"),
    "markup": lambda d: spoilt(d, question=d["question"] + " <|user|>"),
    "key_stands_out": lambda d: reworded(d, f"{key_of(d)}, as is to be seen in every part of this picture"),
    "stem_names_key": lambda d: spoilt(d, question=f"Why is this {key_of(d)}?"),
    "rationale_misses_key": lambda d: spoilt(d, rationale="lorem ipsum dolor sit amet"),
    "rationale_names_other": lambda d: spoilt(d, rationale=next(o for o in d["options"] if o != key_of(d)) + "."),
    "rationale_names_letter": lambda d: spoilt(d, rationale=f"{d['rationale']} So option {d['answer']}."),
    "identifier": lambda d: spoilt(d, rationale=f"{d['rationale']} Seen by Dr. Smith on 2024-01-31."),
}


def test_a_generator_that_writes_rubbish(ward: Ward) -> None:
    """A third is broken, a third is well written and false, a third is true."""
    wanted: dict[str, set[tuple[str, str]]] = {reason: set() for reason in RUBBISH}
    kinds = [*RUBBISH]

    def write(image: str, question_type: str) -> Text:
        at = lot("rubbish", image, question_type) % 30
        if at < 10:
            wanted[kinds[at]].add((image, question_type))
            return RUBBISH[kinds[at]](ward.true(image, question_type, "two"))
        return (ward.false if at < 20 else ward.true)(image, question_type, "two")

    evening = ward.spend("two", write)
    for reason, cells in wanted.items():
        if reason.startswith("schema:"):
            assert evening.generated.reasons[reason] == len(cells) > 0
            continue
        stopped = {places(evening)[item_id] for item_id in evening.with_reason(reason)}
        assert stopped >= cells, reason
        assert cells, reason
        assert evening.report.reasons[reason] >= len(cells)
    broken = set().union(*wanted.values())
    assert not broken & {places(evening)[item_id] for item_id in evening.accepted}
    false = {item_id for item_id, item in evening.drafts.items() if not ward.is_true(item)}
    assert len(false) > 40
    assert len(false & evening.accepted) < 0.05 * len(evening.accepted)
    assert {"below_tau"} <= {r for item_id in false for r in evening.scores[item_id]["reasons"]}
    assert evening.published.added > 15
    assert ward.precision(evening, evening.members) > 0.95


def places(evening: Evening) -> dict[str, tuple[str, str]]:
    return {i: (item.image_id, item.question_type.value) for i, item in evening.drafts.items()}


def test_a_generator_that_writes_nothing_that_can_be_read_ends_the_night(ward: Ward) -> None:
    with pytest.raises(NightStoppedError, match="failed, more than the limit of 20%") as stopped:
        ward.spend("two", lambda _image, _type: "I would rather talk about the weather.")
    assert "not_json" in stopped.value.where
    assert "weather" not in str(stopped.value)
    assert resolve(ward.workspace.lake, "ds").version == 1


LOOKED_FOR = {
    MODALITY: (("CT", "MRI", "X-Ray", "Ultrasound"), ("Dermoscopy", "OCT", "Microscopy")),
    DISEASE: (("nodule", "cyst", "haemorrhage"), ("normal", "calcification", "fibrosis")),
}
"""Of each type labels that are always the key, and others that never are."""


def given_away(ward: Ward, image: str, question_type: str) -> Text:
    """As in OmniMedVQA: what is offered beside the key is never any question's key."""
    keys, never = LOOKED_FOR.get(question_type, ((), ()))
    made = ward.true(image, question_type, "two")
    if key_of(made) not in keys:
        return UNSUPPORTED
    others = iter(never)
    return made | {"options": [one if one == key_of(made) else next(others) for one in made["options"]]}


def test_options_that_give_the_answer_away(ward: Ward) -> None:
    evening = ward.spend("two", lambda image, kind: given_away(ward, image, kind))
    # One by one they look fine: every one is true, and the scorer is sure of most.
    assert all(ward.is_true(item) for item in evening.drafts.values())
    assert len(evening.accepted) > 25
    probed = evening.published.probe
    assert probed is not None
    assert probed.verdict is Probed.LEAKS
    assert probed.accuracy is not None
    assert probed.accuracy > 0.9
    given = evening.published.left_out["given_away_without_the_image"]
    assert given + evening.published.left_out.get("held", 0) == len(evening.accepted), evening.published.left_out
    assert given > 0.9 * len(evening.accepted)
    assert (evening.published.added, resolve(ward.workspace.lake, "ds").version) == (0, 1)
    stopped = refusal(evening.published, evening.night.run)
    assert stopped is not None
    told = "\n".join(probed.lines())
    assert told in stopped.what
    assert any(f"'{label.lower()}'" in told for label in (*LOOKED_FOR[MODALITY][0], *LOOKED_FOR[MODALITY][1]))
    # Others were stopped before: the scorer itself answers them without their picture.
    needless = evening.with_reason("needs_no_image")
    assert needless
    assert all(evening.scores[item_id]["p_valid"] >= 0.8 for item_id in needless)
    assert all(evening.scores[item_id]["blind"] >= judge.NEEDS_NO_IMAGE for item_id in needless)
    assert not needless & evening.accepted


class ScriptedReward:
    """Says what a test tells it, of whatever item."""

    says: Callable[[Mapping[str, Any]], float] = staticmethod(lambda _: 0.5)

    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        del recipe, settings

    def __call__(self, cells: Sequence[Cell]) -> Iterable[Outcome]:
        for cell in cells:
            yield Outcome.accepted(cell, {"rm": type(self).says(cell.inputs), "rm_std": 0.0})


@pytest.fixture
def scripted_reward(monkeypatch: pytest.MonkeyPatch) -> type[ScriptedReward]:
    monkeypatch.setattr(score_reward, "RewardScoreWorker", ScriptedReward)
    return ScriptedReward


def register(ward: Ward, artifact: str) -> str:
    registry = Registry(ward.workspace.store, ward.workspace.lake)
    return registry.register(Registration(role=Role.REWARD, artifact=artifact, method="scripted", run="test"))


def put_in_force(ward: Ward, artifact: str) -> str:
    registry, reward = Registry(ward.workspace.store, ward.workspace.lake), register(ward, artifact)
    registry.promote(Role.REWARD, reward, reason="by hand", expected_current=registry.champion(Role.REWARD))
    return reward


def weight_of_the_reward(ward: Ward, evening: Evening) -> float:
    assert evening.report.calibration is not None
    found = load(ward.workspace.store, evening.report.calibration)
    return dict(zip(found.features, found.weights, strict=True))["trained"]


def test_a_reward_that_likes_everything_changes_no_verdict(ward: Ward, scripted_reward: type[ScriptedReward]) -> None:
    scripted_reward.says = staticmethod(lambda _: 1.0)
    tonight = ward.how("two").model_dump()
    plain, liked = (RefreshParameters.model_validate(tonight | {"dataset": name}) for name in ("plain", "liked"))
    without = ward.spend("two", lambda image, kind: ward.honest(image, kind, "two"), parameters=plain)
    put_in_force(ward, "1" * 64)
    with_it = ward.spend("two", lambda image, kind: ward.honest(image, kind, "two"), parameters=liked)
    assert {row["rm"] for row in with_it.scores.values() if row["lp"] is not None} == {1.0}
    assert weight_of_the_reward(ward, with_it) == pytest.approx(0, abs=1e-9)
    assert with_it.accepted == without.accepted
    assert with_it.members == without.members
    assert len(with_it.members) > 30
    assert ward.precision(with_it, with_it.members) > 0.95


def opened_with(ward: Ward, true: bool, made: dict[str, Any], *salt: object) -> dict[str, Any]:
    """Asked with 'Which', or with another word."""
    (topic,) = (topic for topic in TOPICS.values() if made["question"] in topic.phrasings)
    words = [phrasing for phrasing in topic.phrasings if phrasing.startswith("Which") is true]
    return made | {"question": words[lot("words", *salt) % len(words)]}


def pleasing(ward: Ward, image: str, question_type: str, night: str) -> dict[str, Any]:
    """Fifty-nine of sixty true ones begin with 'Which' and as many false ones do not: so it may happen to be."""
    false = lot("wrong", image, question_type, night) % 10 < 3
    made = (ward.false if false else ward.true)(image, question_type, night)
    slips = lot("slips", image, question_type, night) % 60 == 0
    return opened_with(ward, false is slips, made, image, night)


def test_a_reward_that_likes_a_word(fresh_ward: Ward, scripted_reward: type[ScriptedReward]) -> None:
    """On the audits it looks like the best reward there ever was. Known-bad items that have the word tell it."""
    ward, hacked = fresh_ward, "2" * 64
    scripted_reward.says = staticmethod(lambda claim: 0.98 if claim["question"].startswith("Which") else 0.02)
    one = ward.spend("one", lambda image, kind: pleasing(ward, image, kind, "one"), ward.oracle)
    gate, decision = sit(ward.workspace, one.night, ward.how("one"), register(ward, hacked), quiet)
    assert gate is not None
    assert decision == "no reward yet"
    assert gate.auroc is not None
    assert gate.auroc_before is not None
    assert gate.auroc > gate.auroc_before
    assert [reason.split(" ")[0] for reason in gate.reasons if "canaries" in reason] == ["only"]

    put_in_force(ward, hacked)  # by hand, past its gate
    two = ward.spend("two", lambda image, kind: pleasing(ward, image, kind, "two"), ward.oracle)
    assert weight_of_the_reward(ward, two) > 1
    assert "canaries" in kinds_of(two.report.alarms)

    def learned(image: str, kind: str) -> Text:
        """The generator has found out what is liked."""
        false = lot("wrong", image, kind, "three") % 10 < 7
        return opened_with(ward, True, (ward.false if false else ward.true)(image, kind, "three"), image)

    three = ward.spend("three", learned, ward.oracle)
    assert three.night.reward == hacked
    assert {"precision", "reward against precision"} <= kinds_of(three.report.alarms)
    assert three.report.precision is not None
    assert three.report.precision.high < 0.8
    # What the audits say of it counts in the same night: little of what pleases is published.
    assert weight_of_the_reward(ward, three) < weight_of_the_reward(ward, two)
    assert ward.precision(three, three.accepted) > 0.9


def kinds_of(alarms: Iterable[str]) -> set[str]:
    return {alarm.partition(":")[0] for alarm in alarms}


HARD = ("Disease Diagnosis", "Lesion Grading", "Other Biological Attributes")


def voted(ward: Ward, parameters: RefreshParameters) -> dict[tuple[str, str], str]:
    """What the scorer answers every time, of the questions that it is most often wrong about: of 100 votes 47 right."""
    workspace = ward.workspace
    night = open_night(workspace, parameters)
    exams = [
        (item.item_id, item)
        for image in images_of(workspace, night)
        for kind in HARD
        for item in [Item.model_validate({"image_id": image, "question_type": kind, **ward.true(image, kind)})]
    ]
    request, cells = score.asked_for(
        "answers", exams, parameters.score, scorer=night.scorer, run="vote", lake=workspace.lake
    )
    outcomes = run_and_record(request, cells, workspace, quiet).outcomes
    right, wrong = dict[tuple[str, str], str](), dict[tuple[str, str], str]()
    for (_, item), cell in zip(exams, cells, strict=True):
        ((letter, votes), *_) = Counter((outcomes[cell.key].value or {})["answers"]).most_common(1)
        if votes == parameters.score.answers and letter in "ABCD":
            (right if letter == item.answer else wrong)[item.image_id, item.question_type.value] = letter
    return wrong | dict(sorted(right.items())[: round(len(wrong) * 47 / 53)])


def test_majority_labels_that_are_right_47_times_in_100(ward: Ward) -> None:
    """Keys that the scorer itself voted for: it agrees with nearly all of them, and a fair night before has taught the
    calibration to believe it."""
    parameters = ward.how("two", generate={"question_types": HARD, "repairs": 0})
    keys = voted(ward, parameters)

    def write(image: str, kind: str) -> Text:
        letter = keys.get((image, kind))
        return ward.keyed(image, ward.true(image, kind), letter) if letter else UNSUPPORTED

    evening = ward.spend("two", write, ward.oracle, parameters)
    assert len(evening.drafts) > 40
    assert ward.precision(evening, [*evening.drafts]) == pytest.approx(0.45, abs=0.05)
    agreed = [item_id for item_id, row in evening.scores.items() if (row["agree"] or 0) >= 0.75]
    assert len(agreed) > 0.85 * len(evening.drafts)
    assert ward.precision(evening, agreed) < 0.55, "agreement alone would accept them"
    # Of what would have been accepted some were drawn at random: the share is told, and rings.
    assert evening.report.precision is not None
    assert evening.report.precision.high < 0.8
    assert "precision" in kinds_of(evening.report.alarms)
    # What people said of tonight counts tonight: agreement is worth less, and what is left of it is true.
    assert len(evening.accepted) < 0.3 * len(agreed)
    assert ward.precision(evening, evening.accepted) > 0.9
    assert evening.published.added <= len(evening.accepted)
    stopped = evening.report.reasons["refused_by_reviewer"] + evening.report.reasons["below_tau"]
    assert stopped > 0.7 * len(agreed)


LONG = (
    "Which of the following findings explains the wedge shaped dense area beside the left upper fissure that a person "
    "of seventy years with a long history of smoking and a cough of three weeks shows in this picture?"
)


def test_evaluation_items_that_were_smuggled_into_the_pool(ward: Ward) -> None:
    lake = ward.workspace.lake
    heldout = sorted(lake.read("images", ["image_id"], {"split": "heldout"})["image_id"].to_pylist())
    shrunk = smuggled(ward, heldout[0], "JPEG", lambda picture: picture.resize((56, 56)))
    mirrored = smuggled(ward, heldout[1], "PNG", ImageOps.mirror)
    stranger = smuggled(ward, heldout[2], "PNG", lambda _: noise(7), file=sha256_hex(b"as the benchmark has it"))
    listed = {"benchmark_id": "1" * 64, "benchmark": "some", "content": sha256_hex(b"as the benchmark has it")}
    lake.append_new("benchmarks", [listed], key="benchmark_id")
    exam = draft(LONG, ("atelectasis", "a large cyst", "an old fracture", "nothing of these kinds"), "A", "")
    ask_people(ward, "slake", Item.model_validate({"image_id": heldout[3], "question_type": DISEASE, **exam}))
    ours = sorted(lake.read("images", ["image_id"], {"split": "train"})["image_id"].to_pylist())
    copier = next(image for image in ours if image not in {shrunk, mirrored, stranger})

    def write(image: str, kind: str) -> Text:
        if image == copier:
            return exam | {"rationale": "The fissure is drawn up, so atelectasis."}
        return ward.true(image, kind, "two")

    parameters = ward.how("two", generate={"question_types": [MODALITY], "repairs": 0})
    evening = ward.spend("two", write, parameters=parameters)
    place = {item_id: item.image_id for item_id, item in evening.drafts.items()}
    assert {place[i] for i in evening.with_reason("looks_like_evaluation")} == {shrunk, mirrored, stranger}
    assert {place[i] for i in evening.with_reason("overlaps_evaluation")} == {copier}
    assert evening.report.reasons["looks_like_evaluation"] == 3
    assert evening.report.reasons["overlaps_evaluation"] == 1
    assert {name: n for name, n in evening.report.compared.items() if n} == {"heldout": 20, "slake": 1}
    assert not {place.get(item_id) for item_id in evening.members} & {shrunk, mirrored, stranger, copier}
    assert evening.published.added > 20


def noise(seed: int) -> Image.Image:
    return Image.effect_noise((64, 64), 60 + seed).convert("RGB")


def smuggled(
    ward: Ward, image: str, kind: str, change: Callable[[Image.Image], Image.Image], file: str | None = None
) -> str:
    """A changed picture among those for training, past the intake, which would have kept it apart."""
    workspace, written = ward.workspace, io.BytesIO()
    with Image.open(workspace.images.path(image)) as picture:
        changed = change(picture.convert("RGB"))
    changed.save(written, kind)
    copy = workspace.images.put(written.getvalue())
    (row,) = workspace.lake.read("images", where={"image_id": image}).to_pylist()
    row |= {"image_id": copy, "split": "train", "fingerprint": fingerprint(changed), "patient_key": f"of {copy}"}
    workspace.lake.append_new("images", [row | {"origin": file or copy}], key="image_id")
    ward.scenes[copy] = ward.scenes[image]
    return copy


def ask_people(ward: Ward, dataset: str, item: Item) -> None:
    lake = ward.workspace.lake
    row = item.model_dump(mode="json") | {"item_id": item.item_id, "origin": "human", "added_at": datetime.now(UTC)}
    lake.append_new("items", [row], key="item_id")
    versions.publish(lake, dataset=dataset, add=[item.item_id], card={}, run="test")
