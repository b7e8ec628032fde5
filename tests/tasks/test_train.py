from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from medgr2.infra.artifacts import get_folder
from medgr2.infra.settings import TrainingSettings
from medgr2.models import prompts
from medgr2.models.grpo import GrpoSettings
from medgr2.models.registry import Registration, Registry, Source
from medgr2.models.sft import SftSettings
from medgr2.schemas.errors import DataError, UsageError
from medgr2.schemas.items import Draft
from medgr2.schemas.vocabulary import Role, Verdict
from medgr2.tasks import train
from medgr2.tasks.exercises import examples, key_first, rehearsals
from medgr2.tasks.lessons import judgements, read_lessons
from medgr2.tasks.train import WORKER, TrainPlan, registration, train_cell, train_recipe

SFT = TrainPlan(role=Role.POLICY, sft=SftSettings(steps=2, batch=2))
GRPO = TrainPlan(role=Role.POLICY, grpo=GrpoSettings(steps=2, prompts=2, generations=8, longest=16))


def lessons_of(room: Any, generated: int = 3, human: int = 1) -> tuple[Source, Source]:
    """A version of generated items and one of questions by people."""
    made = [room.item(room.picture(i), i) for i in range(generated)]
    asked = [room.item(room.picture(100 + i), 100 + i, "human") for i in range(human)]
    return room.source("nightly", made), room.source("seed", asked)


def test_trained_once_and_reused_from_then_on(room: Any) -> None:
    sources = lessons_of(room)
    recipe = train_recipe(SFT, room.base)
    cell = train_cell(recipe, room.lake, sources)
    first = room.run(recipe, WORKER, [cell])[cell.key]
    assert first.verdict is Verdict.ACCEPTED
    again = room.run(recipe, WORKER, [train_cell(recipe, room.lake, sources)])[cell.key]
    assert again == first
    assert [plan.split(": ")[1] for plan in room.plans] == [
        "1 new, 0 reused, 0 retried (1 in all)",
        "0 new, 1 reused, 0 retried (1 in all)",
    ]
    assert first.value is not None
    folder = get_folder(room.store, first.value["artifact"], room.settings.storage.cache_folder)
    assert json.loads((folder / "training.json").read_text()) == first.value["metrics"]
    assert not any(p.suffix in {".pt", ".pth", ".bin"} for p in folder.rglob("*"))


def test_a_damaged_picture_is_a_failure_that_can_be_mended(room: Any) -> None:
    """As a verdict on the data it would stand for ever, also when the picture is restored."""
    sources = lessons_of(room)
    (image,) = room.lake.read("items", ["image_id"], {"origin": "human"})["image_id"].to_pylist()
    path = room.images.path(image)
    kept = path.read_bytes()
    path.write_bytes(b"not a picture")
    recipe = train_recipe(SFT, room.base)
    cell = train_cell(recipe, room.lake, sources)
    assert room.run(recipe, WORKER, [cell])[cell.key].verdict is Verdict.FAILED
    path.write_bytes(kept)
    once_more = room.settings.compute.model_copy(update={"attempts": 2})
    room.settings = room.settings.model_copy(update={"compute": once_more})
    assert room.run(recipe, WORKER, [cell])[cell.key].verdict is Verdict.ACCEPTED


def test_a_note_in_the_cache_is_no_model_in_the_store(room: Any) -> None:
    sources = lessons_of(room)
    recipe = train_recipe(SFT, room.base)
    cell = train_cell(recipe, room.lake, sources)
    first = room.run(recipe, WORKER, [cell])[cell.key]
    (note,) = (room.settings.storage.cache_folder / "training").rglob("done.json")
    # A root begun afresh, or another store of the same name: the journal and the model are not there.
    shutil.rmtree(room.store.root / "journal")
    shutil.rmtree(room.store.root / "models" / first.value["artifact"])
    assert room.run(recipe, WORKER, [cell])[cell.key] == first
    assert get_folder(room.store, first.value["artifact"], room.settings.storage.cache_folder).is_dir()
    shutil.rmtree(room.store.root / "journal")
    note.write_text("")
    assert room.run(recipe, WORKER, [cell])[cell.key] == first


def test_anything_that_matters_makes_another_cell(room: Any) -> None:
    nightly, seed = lessons_of(room)
    recipe = train_recipe(SFT, room.base)
    keys = {train_cell(recipe, room.lake, [nightly, seed]).key}
    for plan in (SFT.model_copy(update={"human_share": 0.5}), GRPO):
        keys.add(train_cell(train_recipe(plan, room.base), room.lake, [nightly, seed]).key)
    keys.add(train_cell(train_recipe(SFT, "f" * 64), room.lake, [nightly, seed]).key)
    keys.add(train_cell(recipe, room.lake, [nightly]).key)
    more = room.source("nightly", [room.item(room.picture(50), 50)])
    keys.add(train_cell(recipe, room.lake, [more, seed]).key)
    assert len(keys) == 6


def test_a_policy_answers_and_a_generator_writes(room: Any) -> None:
    lessons = read_lessons(room.lake, lessons_of(room))
    lesson = next(lesson for lesson in lessons if lesson.human)

    def of(role: Role, name: str) -> dict[bool, Any]:
        made = examples(lessons, room.images, role=role, template=prompts.load_prompt(name), human_share=0.4)
        return {one.human: example for one, example in zip(lessons, made, strict=True)}

    policy = of(Role.POLICY, prompts.ANSWER)[True]
    assert policy.user == f"Question: {lesson.draft.question} Options: A) CT B) MRI C) OCT D) X-Ray"
    assert policy.assistant == "<think>It shows CT.</think><answer>A</answer>"
    writer = of(Role.GENERATOR, prompts.GENERATE_EMBEDDED)[True]
    assert writer.user == "Task: write one Modality Recognition question. Report: CT of the chest"
    assert prompts.parse_draft(writer.assistant) == lesson.draft
    # The report is the generator's alone: a policy that saw it would be marked for reading, not for looking.
    assert "chest" not in policy.user + policy.assistant


def test_people_get_their_share_however_few_they_are(room: Any) -> None:
    lessons = read_lessons(room.lake, lessons_of(room, generated=3, human=1))
    made = examples(lessons, room.images, role=Role.POLICY, template="{question}{options}", human_share=0.4)
    shares = [(lesson.human, example.weight) for lesson, example in zip(lessons, made, strict=True)]
    assert sum(w for human, w in shares if human) == pytest.approx(0.4)
    assert sum(w for human, w in shares if not human) == pytest.approx(0.6)
    alone = examples(
        [x for x in lessons if x.human], room.images, role=Role.POLICY, template="{question}{options}", human_share=0.0
    )
    assert [e.weight for e in alone] == [1.0]


def test_grpo_takes_the_band_of_the_newest_scores(room: Any) -> None:
    pictures = [room.picture(i) for i in range(5)]
    items = [room.item(picture, i) for i, picture in enumerate(pictures)]
    for item, agree in zip(items, (0.0, 0.5, 1.0, 0.5), strict=False):  # the fifth was never scored
        room.score(item, agree, 0.9)
    later = room.now + timedelta(days=1)
    room.score(items[3], 1.0, 0.95, later)  # it has become easy since
    lessons = read_lessons(room.lake, [room.source("nightly", items)])
    tried = rehearsals(lessons, judgements(room.lake, items), room.images, "{question}{options}", (0.1, 0.95))
    assert [(p.image.name, p.key, p.options, p.quality) for p in tried] == [(pictures[1], "B", 4, 0.9)]


def test_grpo_takes_measured_questions_by_people_but_no_item_that_was_not_judged(room: Any) -> None:
    asked = room.item(room.picture(1), 1, "human")
    made = room.item(room.picture(2), 2)
    for item in (asked, made):
        room.score(item, 0.5, None)
    lessons = read_lessons(room.lake, [room.source("both", [asked, made])])
    tried = rehearsals(lessons, judgements(room.lake, [asked, made]), room.images, "{question}{options}", (0.1, 0.95))
    assert [(p.key, p.quality) for p in tried] == [("B", 1.0)]


def test_grpo_runs_and_new_scores_are_a_new_training(room: Any) -> None:
    items = [room.item(room.picture(i), i) for i in range(3)]
    for item in items:
        room.score(item, 0.5, 0.9)
    source = room.source("nightly", items)
    recipe = train_recipe(GRPO, room.base)
    cell = train_cell(recipe, room.lake, [source])
    outcome = room.run(recipe, WORKER, [cell])[cell.key]
    assert outcome.value is not None, outcome
    assert outcome.value["metrics"]["prompts"] == 3
    room.score(items[0], 0.25, 0.9, room.now + timedelta(days=1))
    assert train_cell(recipe, room.lake, [source]).key != cell.key
    # A cell planned before the scores moved would train on what its key does not say.
    stale = recipe.cell(inputs=cell.inputs | {"run": "stale"})
    assert room.run(recipe, WORKER, [stale])[stale.key].reasons == ("ConflictError",)


def test_the_surer_of_an_item_the_more_often_it_is_visited(room: Any) -> None:
    human = room.item(room.picture(9), 9, "human")
    made = [room.item(room.picture(i), i) for i in range(4)]
    for item, p_valid in zip(made, (0.9, 0.6, None), strict=False):
        room.score(item, 0.5, p_valid)
    lessons = read_lessons(room.lake, [room.source("both", [human, *made])])

    def shares(judged: Any) -> dict[str, float]:
        found = examples(
            lessons, room.images, role=Role.POLICY, template="{question}{options}", human_share=0.4, judged=judged
        )
        return {example.item: round(example.weight, 6) for example in found}

    assert shares(None) == {human: 0.4} | dict.fromkeys(made, 0.15)
    # One without a p(valid), or that was never judged, is not visited; the share of people stays what it is.
    weighed = shares(judgements(room.lake, [human, *made]))
    assert weighed == {human: 0.4, made[0]: 0.36, made[1]: 0.24, made[2]: 0.0, made[3]: 0.0}


def test_labels_are_visited_alike_but_a_rare_one_no_more_than_three_times_as_often(room: Any) -> None:
    human = room.item(room.picture(19), 19, "human")
    made = [room.item(room.picture(i), i) for i in range(9)]
    keys = ["nodule"] * 6 + ["cyst"] * 2 + ["fibrosis"]
    lessons = [
        lesson if lesson.human else replace(lesson, draft=lesson.draft.model_copy(
            update={"options": (keys[made.index(lesson.item_id)], "p", "q", "r"), "answer": "A"}
        ))
        for lesson in read_lessons(room.lake, [room.source("both", [human, *made])])
    ]  # fmt: skip
    found = {
        x.item: x.weight
        for x in examples(
            lessons, room.images, role=Role.POLICY, template="{question}{options}", human_share=0.4, evened=True
        )
    }
    by_key = {key: sum(found[i] for i, k in zip(made, keys, strict=True) if k == key) for key in set(keys)}
    assert found[human] == pytest.approx(0.4)
    assert by_key["nodule"] == pytest.approx(by_key["cyst"]) == pytest.approx(2 * by_key["fibrosis"])
    assert sum(by_key.values()) == pytest.approx(0.6)


def test_a_generator_learns_to_write_its_key_first() -> None:
    draft = Draft(question="Which is it?", options=("c", "a", "key", "b"), answer="C", rationale="It is key.")
    assert key_first(draft) == draft.model_copy(update={"options": ("key", "a", "b", "c"), "answer": "A"})


def test_weights_by_judgement_are_part_of_what_was_trained(room: Any) -> None:
    items = [room.item(room.picture(i), i) for i in range(3)]
    for item in items:
        room.score(item, 0.5, 0.9)
    source = room.source("nightly", items)
    equal, weighed = (
        train_recipe(SFT.model_copy(update={"weighting": kind}), room.base) for kind in ("equal", "p_valid")
    )
    before = {recipe.digest: train_cell(recipe, room.lake, [source]) for recipe in (equal, weighed)}
    outcome = room.run(weighed, WORKER, [before[weighed.digest]])[before[weighed.digest].key]
    assert outcome.verdict is Verdict.ACCEPTED, outcome
    room.score(items[0], 0.5, 0.8, room.now + timedelta(days=1))
    assert train_cell(equal, room.lake, [source]).key == before[equal.digest].key
    assert train_cell(weighed, room.lake, [source]).key != before[weighed.digest].key


@pytest.mark.parametrize(
    ("style", "reply"),
    [
        ("think", "<think>It shows CT.</think><answer>A</answer>"),
        ("no-think", "<answer>A</answer>"),
        ("think-after", "<answer>A</answer><think>It shows CT.</think>"),
    ],
)
def test_each_form_of_an_answer_is_taught_as_such(room: Any, style: Any, reply: str) -> None:
    lessons = read_lessons(room.lake, [room.source("nightly", [room.item(room.picture(0), 0)])])
    (example,) = examples(
        lessons, room.images, role=Role.POLICY, template="{question}{options}", human_share=0.3, style=style
    )
    assert example.assistant == reply


def test_items_that_were_erased_are_told_by_version(room: Any) -> None:
    nightly, seed = lessons_of(room)
    lost = room.lake.read("items", ["item_id"], {"origin": "generated"})["item_id"].to_pylist()[:2]
    with room.lake.state("items", write=True) as delta:
        delta.delete(" or ".join(f"item_id = '{item}'" for item in lost))
    with pytest.raises(DataError, match=r"erased or lost: 2 of 3 of nightly@1\n") as refused:
        read_lessons(room.lake, [nightly, seed])
    assert "medgr2 versions nightly" in refused.value.next_command


def test_what_can_not_be_trained_is_rejected_with_the_reason(room: Any) -> None:
    items = [room.item(room.picture(i), i) for i in range(2)]
    source = room.source("nightly", items)
    room.score(items[0], 1.0, 0.9)
    recipe = train_recipe(GRPO, room.base)
    cell = train_cell(recipe, room.lake, [source])
    easy = room.run(recipe, WORKER, [cell])[cell.key]
    assert (easy.verdict, easy.reasons) == (Verdict.REJECTED, ("not_trainable",))
    assert easy.detail == "none of 2 items has a pass rate between 0.1 and 0.95"
    alone = train_recipe(TrainPlan(role=Role.GENERATOR, sft=SftSettings(steps=1, batch=1)), room.base)
    cell = train_cell(alone, room.lake, [source])
    assert "no question by people" in room.run(alone, WORKER, [cell])[cell.key].detail


def test_heldout_images_and_changed_versions_never_reach_training(room: Any) -> None:
    good = room.item(room.picture(1), 1)
    leaked = room.item(room.picture(2, split="heldout"), 2)
    source = room.source("nightly", [good])
    with pytest.raises(DataError, match="recorded"):
        read_lessons(room.lake, [source.model_copy(update={"digest": "0" * 64})])
    with pytest.raises(DataError, match="1 of 2 items are about held-out images"):
        read_lessons(room.lake, [room.source("nightly", [leaked])])


def test_lineage_is_registered_and_a_generator_comes_from_the_base(room: Any) -> None:
    sources = lessons_of(room)
    registry = Registry(room.store, room.lake)
    base = registry.model(registry.register(Registration(role=Role.BASE, artifact=room.base, method="shipped")))
    plan = TrainPlan(role=Role.GENERATOR, sft=SftSettings(steps=1, batch=2))
    recipe = train_recipe(plan, room.base)
    cell = train_cell(recipe, room.lake, sources)
    outcome = room.run(recipe, WORKER, [cell])[cell.key]
    entry = registration(cell, recipe, outcome, parent=base, metrics={"held": 1}, run="r")
    row = registry.model(registry.register(entry))
    assert (row["parent"], row["dataset"], row["method"], row["recipe"]) == (
        base["model_id"], "nightly", "sft", recipe.digest,
    )  # fmt: skip
    assert row["metrics"]["held"] == 1
    assert row["metrics"]["training"]["examples"] == 4
    assert registry.taught(row["model_id"]) == sources
    with pytest.raises(UsageError, match="not from a policy"):
        registration(cell, recipe, outcome, parent=base | {"role": "policy"}, metrics={}, run="r")
    with pytest.raises(UsageError, match="began from"):
        registration(cell, recipe, outcome, parent=base | {"artifact": "f" * 64}, metrics={}, run="r")


@pytest.mark.parametrize(
    "bad",
    [
        {"role": "policy"},
        {"role": "policy", "sft": {}, "grpo": {}},
        {"role": "generator", "grpo": {}},
        {"role": "generator", "sft": {}, "human_share": 0.1},
        {"role": "reward", "sft": {}},
    ],
)
def test_plans_that_make_no_sense_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainPlan.model_validate(bad)


def test_how_often_checkpoints_are_written_reaches_a_training_and_no_key(
    room: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = lessons_of(room)
    recipe = train_recipe(SFT, room.base)
    cell = train_cell(recipe, room.lake, sources)
    assert recipe.parameters["sft"]["checkpoint_every"] == TrainingSettings().checkpoint_every  # type: ignore[index,call-overload]
    seen: list[int] = []

    def watch(base: Path, examples: Any, out: Path, settings: SftSettings) -> dict[str, Any]:
        del base, examples
        out.mkdir(parents=True)
        (out / "config.json").write_text("{}")
        seen.append(settings.checkpoint_every)
        return {}

    monkeypatch.setattr(train, "train_sft", watch)
    settings = room.settings.model_copy(update={"training": TrainingSettings(checkpoint_every=7)})
    (outcome,) = train.TrainWorker(recipe, settings)([cell])
    assert (outcome.verdict, seen) == (Verdict.ACCEPTED, [7])
