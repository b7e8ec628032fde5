"""The blind probe: batches that give their keys away are seen, by the words that do it; clean and small ones pass."""

from __future__ import annotations

import random

from leaky_batches import FINDINGS, STEMS, batch

from medgr2.models.blind_probe import probe
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.probe import BlindProbe, Probed


def told(found: BlindProbe) -> str:
    return "\n".join(cue.told for cue in found.cues)


def test_a_clean_batch_passes_at_chance() -> None:
    for seed in range(3):
        found = probe(batch(600, seed=seed))
        assert found.verdict is Probed.PASSES, found
        assert found.chance == 0.25
        assert abs((found.accuracy or 0) - 0.25) < 0.05
        assert found.cues == ()


def test_chance_is_told_by_the_options_of_each_item() -> None:
    found = probe([*batch(300), *batch(300, options=3, seed=4), *batch(300, options=5, seed=5, places=(1,) * 5)])
    assert found.chance == round((1 / 4 + 1 / 3 + 1 / 5) / 3, 4)
    assert found.verdict is Probed.PASSES


def test_a_majority_label_is_a_leak_and_is_named() -> None:
    found = probe(batch(600, prior=(14, 1, 1, 1, 1, 1)))
    assert found.verdict is Probed.LEAKS
    assert (found.accuracy or 0) > 0.6
    assert "'normal'" in found.cues[0].told
    assert found.cues[0].keyed > 2 * found.cues[0].expected
    assert found.cues[0].weight > 0


def test_majority_labels_at_47_percent_right_are_a_leak() -> None:
    found = probe(batch(800, prior=(4, 1, 1, 1, 1, 1)))
    assert found.verdict is Probed.LEAKS
    assert 0.35 < (found.accuracy or 0) < 0.6


def test_a_key_that_is_worded_at_length_is_a_leak() -> None:
    def write(key: str, rivals: list[str], rng: random.Random) -> tuple[str, list[str]]:
        return f"{key} {rng.choice(('of uneven', 'with sharp', 'and smooth'))} {rng.choice(('edge', 'rim'))}", rivals

    found = probe(batch(300, write=write))
    assert found.verdict is Probed.LEAKS
    assert (found.accuracy or 0) > 0.95
    assert "longest" in told(found)


def test_a_word_that_only_keys_have_is_a_leak() -> None:
    def write(key: str, rivals: list[str], rng: random.Random) -> tuple[str, list[str]]:
        odd = ["possible " + rival for rival in rivals]
        return ("likely " + key if rng.random() < 0.5 else "possible " + key), odd

    found = probe(batch(600, write=write))
    assert found.verdict is Probed.LEAKS
    assert "'likely'" in told(found)


def test_an_option_that_is_never_the_key_is_a_leak() -> None:
    def write(key: str, rivals: list[str], rng: random.Random) -> tuple[str, list[str]]:
        return key, [*rivals[:2], "artefact"]

    found = probe(batch(1600, write=write))
    assert found.verdict is Probed.LEAKS
    assert 0.3 < (found.accuracy or 0) < 0.4
    cue = next(cue for cue in found.cues if "'artefact'" in cue.told)
    assert (cue.keyed, cue.weight < 0) == (0, True)


def test_a_letter_that_is_keyed_too_often_is_a_leak() -> None:
    found = probe(batch(800, places=(3, 1, 1, 1)))
    assert found.verdict is Probed.LEAKS
    assert found.cues[0].told == "letter A"


def test_rivals_that_depend_on_the_key_are_a_leak() -> None:
    """Each option is the key as often as chance wants; only what stands beside it tells."""
    ring = {finding: FINDINGS[(at + 1) % 6] for at, finding in enumerate(FINDINGS)}

    def write(key: str, rivals: list[str], rng: random.Random) -> tuple[str, list[str]]:
        return key, [ring[key], *rng.sample([f for f in FINDINGS if f not in (key, ring[key])], 2)]

    found = probe(batch(800, write=write))
    assert found.verdict is Probed.LEAKS
    assert "beside" in told(found)


def test_a_question_that_names_a_class_of_keys_is_a_leak_that_does_not_quote_it() -> None:
    items = batch(800)
    tied = {finding: f"What would the zebra{at} say?" for at, finding in enumerate(FINDINGS)}
    found = probe([item.model_copy(update={"question": tied[item.key_text]}) for item in items])
    assert found.verdict is Probed.LEAKS
    assert (found.accuracy or 0) > 0.9
    assert "after certain questions" in told(found)
    assert "zebra" not in told(found)


def test_an_image_is_never_on_both_sides() -> None:
    """Each image has a key of its own that its other questions repeat: no rule holds for the next image."""

    def write(key: str, rivals: list[str], rng: random.Random) -> tuple[str, list[str]]:
        return key, rivals

    items = []
    for at in range(150):
        one = batch(1, write=write, seed=at)[0]
        named = [f"{option} {at}" for option in one.options]
        for stem in STEMS:
            items.append(one.model_copy(update={
                "image_id": sha256_hex(f"image {at}".encode()), "question": stem, "options": tuple(named),
            }))  # fmt: skip
    found = probe(items)
    assert found.verdict is not Probed.LEAKS
    assert (found.accuracy or 0) < 0.4


def test_a_small_lucky_batch_is_not_refused_but_said_to_be_too_small() -> None:
    verdicts = [probe(batch(40, seed=seed)).verdict for seed in range(20)]
    assert Probed.PASSES not in verdicts
    assert verdicts.count(Probed.LEAKS) <= 1
    found = probe(batch(40))
    assert (found.limit or 0) > 0.35
    assert "too few" in found.line()


def test_a_small_batch_that_gives_itself_away_outright_is_refused() -> None:
    def write(key: str, rivals: list[str], rng: random.Random) -> tuple[str, list[str]]:
        return "right " + key, ["wrong " + rival for rival in rivals]

    assert probe(batch(40, write=write)).verdict is Probed.LEAKS


def test_words_below_few_images_are_not_told() -> None:
    def write(key: str, rivals: list[str], rng: random.Random) -> tuple[str, list[str]]:
        return "jane " + key, rivals

    few, many = probe(batch(16, write=write)), probe(batch(60, write=write))
    assert few.verdict is many.verdict is Probed.LEAKS
    assert "jane" in told(many)
    assert "jane" not in told(few)
    assert "longest" in told(few)


def test_nothing_to_learn_from() -> None:
    for items in ([], batch(1), batch(2)):
        found = probe(items)
        assert (found.verdict, found.accuracy) == (Probed.TOO_FEW, None)
        assert "too few" in found.line()


def test_the_order_of_the_items_changes_nothing() -> None:
    items = batch(200, prior=(5, 1, 1, 1, 1, 1))
    once = probe(items)
    random.Random(1).shuffle(items)
    assert probe(items) == once


def test_more_options_than_letters() -> None:
    item = batch(1)[0]
    many = [
        item.model_copy(update={"image_id": sha256_hex(str(n).encode()), "options": tuple("stuvwxyz")})
        for n in range(4)
    ]
    assert probe(many).chance == 0.125
