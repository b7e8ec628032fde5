"""From good items bad ones: wrong in the way that is said, never right by accident, the same whatever the order."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgr2.models.canaries import KINDS, canaries
from medgr2.models.perturbation_pool import Pool
from medgr2.models.perturbation_words import (
    ANSWERS,
    FLIPS,
    changes_meaning,
    flips,
    guarded,
    same_answer,
    same_words,
    synonyms,
)
from medgr2.models.perturbations import GRADES, graded, perturb, perturbations
from medgr2.models.texts import plain
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.items import Item
from medgr2.schemas.vocabulary import LETTERS, Flaw
from medgr2_phantoms.questions import QUESTION_TYPES, ask, fixed_label
from medgr2_phantoms.world import Scene, sample_scene

REAL = json.loads(Path(__file__).with_name("realistic_items.json").read_text(encoding="utf-8"))


def picture(name: object) -> str:
    return sha256_hex(str(name).encode())


def real_items() -> tuple[list[Item], dict[str, str]]:
    items, modality = [], {}
    for number, row in enumerate(REAL):
        options = Random(number).sample([row["key"], *row["distractors"]], 4)
        image = picture(("real", number))
        modality[image] = row["modality"]
        fields = {name: row[name] for name in ("question_type", "question", "rationale")}
        answer = LETTERS[options.index(row["key"])]
        items.append(Item(image_id=image, options=tuple(options), answer=answer, **fields))
    return items, modality


def embedded_items(count: int) -> tuple[list[Item], dict[str, Scene]]:
    rng, items, scenes = np.random.default_rng(5), [], {}
    for number in range(count):
        kind = QUESTION_TYPES[number % 5]
        scene = sample_scene(rng, **fixed_label(kind, rng))
        asked = ask(scene, kind, rng)
        image = picture(number)
        scenes[image] = scene
        fields = {k: getattr(asked, k) for k in ("question_type", "question", "options", "answer", "rationale")}
        items.append(Item(image_id=image, **fields))
    return items, scenes


EMBEDDED, SCENES = embedded_items(200)
ITEMS, MODALITY = real_items()
POOLS = {
    "embedded": Pool(EMBEDDED, {image: scene.modality for image, scene in SCENES.items()}),
    "real": Pool(ITEMS, MODALITY),
}
ALL = [(item, POOLS["embedded"]) for item in EMBEDDED] + [(item, POOLS["real"]) for item in ITEMS]


def one(asked: str, **changes: object) -> Item:
    item = next(item for item in ITEMS if item.question == asked)
    return item.model_copy(update=changes)


def made(item: Item, kind: Flaw, pool: Pool = POOLS["real"], seeds: int = 20, certain: bool = False) -> list[Item]:
    found = (perturb(item, kind, pool, seed, certain=certain) for seed in range(seeds))
    return list({one.item.item_id: one.item for one in found if one is not None}.values())


def test_every_kind_is_made_and_no_made_item_is_a_good_one() -> None:
    good = {item.item_id for item, _ in ALL}
    seen: Counter[Flaw] = Counter()
    for item, pool in ALL:
        for bad in perturbations(item, pool):
            seen[bad.kind] += 1
            assert bad.of == item.item_id
            assert bad.item.item_id not in good
            assert Item.model_validate(bad.item.model_dump()) == bad.item
            assert len({plain(option) for option in bad.item.options}) == len(bad.item.options)
    assert set(seen) == set(Flaw), seen
    assert all(seen[kind] == len(ALL) for kind in (Flaw.WRONG_KEY_PLAIN, Flaw.PERMUTED))


def test_a_wrong_key_is_argued_for_or_not() -> None:
    for item, pool in ALL:
        plainly = perturb(item, Flaw.WRONG_KEY_PLAIN, pool)
        assert plainly is not None
        assert plainly.item == item.model_copy(update={"answer": plainly.item.answer})
        assert not same_answer(plainly.item.key_text, item.key_text)
        argued = perturb(item, Flaw.WRONG_KEY, pool)
        if argued is not None:
            assert plain(argued.item.key_text) in plain(argued.item.rationale)
            assert argued.item.options == item.options


def test_the_article_follows_the_new_key_and_a_rejected_option_changes_places_with_it() -> None:
    item = one(
        "Which modality was used?", rationale="This is a CT rather than an MRI.", options=("CT", "MRI"), answer="A"
    )
    assert made(item, Flaw.WRONG_KEY)[0].rationale == "This is an MRI rather than a CT."


def test_a_rationale_that_never_names_its_key_can_not_be_rewritten() -> None:
    item = one("Which plane is shown?", rationale="The vertebra is cut across.")
    assert made(item, Flaw.WRONG_KEY) == []
    assert made(item, Flaw.WRONG_KEY_PLAIN) != []


@pytest.mark.parametrize("twin", ["computed tomography", "CT scan", "a CT"])
def test_the_key_is_never_moved_to_a_synonym_of_itself(twin: str) -> None:
    item = one("Which modality was used?", options=("CT", twin), answer="A", rationale="This is a CT.")
    for kind in (Flaw.WRONG_KEY, Flaw.WRONG_KEY_PLAIN, Flaw.PERMUTED):
        assert made(item, kind) == []


@pytest.mark.parametrize(
    ("one_name", "other", "same"),
    [
        ("lung", "left lung", True),
        ("Benign lesion", "benign breast lesion", True),
        ("tumour", "no tumour", False),
        ("proliferative", "non-proliferative", False),
        ("left lung", "right lung", False),
        ("No finding", "normal", True),
        ("upper left", "left upper", True),
        ("naevus", "Nevus", True),
        ("mild", "severe", False),
    ],
)  # fmt: skip
def test_what_may_both_be_true(one_name: str, other: str, same: bool) -> None:
    assert same_answer(one_name, other) is same is same_answer(other, one_name)


def test_permuted_options_are_the_same_ones_under_another_key() -> None:
    for item, pool in ALL:
        bad = perturb(item, Flaw.PERMUTED, pool)
        assert bad is not None
        assert sorted(bad.item.options) == sorted(item.options)
        assert (bad.item.answer, bad.item.rationale) == (item.answer, item.rationale)
        assert bad.item.key_text != item.key_text


def test_a_synonymous_distractor_makes_two_options_true() -> None:
    found = 0
    for item, pool in ALL:
        bad = perturb(item, Flaw.SYNONYM_DISTRACTOR, pool)
        if bad is not None:
            found += 1
            assert bad.item.key_text == item.key_text
            true = [option for option in bad.item.options if same_answer(option, item.key_text)]
            assert len(true) == 2, bad.item.options
    assert found >= 210
    assert made(one("How many white cells are seen?"), Flaw.SYNONYM_DISTRACTOR) == []


def test_a_swapped_picture_is_known_not_to_show_the_key() -> None:
    for item in EMBEDDED:
        bad = perturb(item, Flaw.IMAGE_SWAP, POOLS["embedded"])
        assert bad is not None
        scene, attribute = SCENES[bad.item.image_id], truth_of(item)
        assert item.key_text != getattr(scene, attribute)
        assert bad.item == item.model_copy(update={"image_id": bad.item.image_id})


def truth_of(item: Item) -> str:
    return dict(zip(QUESTION_TYPES, ("modality", "anatomy", "finding", "grade", "quadrant"), strict=True))[
        item.question_type
    ]


def test_the_swap_takes_the_nearest_look_and_else_the_same_modality() -> None:
    rng = np.random.default_rng(0)
    looks = {image: rng.normal(size=4) for image in SCENES}
    item = EMBEDDED[2]
    wrong = [image for image, scene in SCENES.items() if scene.finding != item.key_text]
    order = sorted(wrong, key=lambda image: float(np.linalg.norm(looks[image] - looks[item.image_id])))
    pool = Pool(EMBEDDED, looks=looks)
    taken = {bad.image_id for bad in made(item, Flaw.IMAGE_SWAP, pool)}
    denied = Pool(EMBEDDED)._denied_by[item.question_type, "", plain(item.key_text)]
    assert taken <= set([image for image in order if image in denied][:5])
    assert {SCENES[bad.image_id].modality for bad in made(item, Flaw.IMAGE_SWAP, POOLS["embedded"])} == {
        SCENES[item.image_id].modality
    }


def test_no_swap_where_nothing_is_known_of_other_pictures() -> None:
    item = one("How many white cells are seen?")
    elsewhere = one("How large is the lesion?", question="How many lesions are seen?", options=("1", "3"), answer="B")
    assert made(item, Flaw.IMAGE_SWAP, Pool([item, elsewhere])) == []
    assert made(item, Flaw.IMAGE_SWAP, Pool([item])) == []
    same = one("How large is the lesion?", question=item.question, options=("1", "3"), answer="B")
    assert made(item, Flaw.IMAGE_SWAP, Pool([item, same])) != []
    negated = one("Which finding is not seen?")
    assert made(negated, Flaw.IMAGE_SWAP) == []


@pytest.mark.parametrize(
    ("kind", "question", "key", "flipped"),
    [
        (Flaw.LATERALITY, "Where is the effusion?", "left lower zone", "left upper zone"),
        (Flaw.NEGATION, "Which finding is present?", "No finding", "Finding"),
        (Flaw.NUMBER, "How large is the lesion?", "2.5 cm", "5.0 cm"),
        (Flaw.NUMBER, "How many white cells are seen?", "1", "2"),
        (Flaw.OPPOSITE, "What is the most likely diagnosis?", "Benign lung nodule", "Malignant lung nodule"),
        (Flaw.OPPOSITE, "What is the most likely diagnosis?", "Malignant lung tumour", "Benign lung tumour"),
        (Flaw.OPPOSITE, "How does the lesion reflect sound?", "hypoechoic", "hyperechoic"),
    ],
)  # fmt: skip
def test_flips_of_the_key_are_argued_for(kind: Flaw, question: str, key: str, flipped: str) -> None:
    item = next(item for item in ITEMS if item.question == question and item.key_text == key)
    bad = [one for one in made(item, kind, certain=True) if one.key_text == flipped]
    assert bad, [one.key_text for one in made(item, kind, certain=True)]
    assert plain(flipped) in plain(bad[0].rationale)


def test_a_flip_changes_the_meaning_of_one_part() -> None:
    for item, pool in ALL:
        for kind in (Flaw.LATERALITY, Flaw.NEGATION, Flaw.NUMBER, Flaw.OPPOSITE):
            for bad in made(item, kind, pool, seeds=3):
                pairs = ((item.question, bad.question), (item.key_text, bad.key_text), (item.rationale, bad.rationale))
                assert any(guarded(before) != guarded(after) for before, after in pairs)


def test_what_has_nothing_to_flip_is_left_alone() -> None:
    item = one("Which organ is imaged?", question="Which organ is it?")
    for kind in (Flaw.LATERALITY, Flaw.NEGATION, Flaw.NUMBER, Flaw.OPPOSITE):
        assert made(item, kind) == []
    covid = one("Which disease explains the picture?", rationale="Typical of COVID-19 on T2 images.")
    assert made(covid, Flaw.NUMBER) == []


def test_the_opposite_of_an_exception_is_not_surely_wrong() -> None:
    item = one("Which finding is not seen?")
    assert made(item, Flaw.LATERALITY) != []
    assert made(item, Flaw.LATERALITY, certain=True) == []


def test_off_topic_shares_no_answer_with_what_it_was_taken_from() -> None:
    for item, pool in ALL:
        bad = perturb(item, Flaw.OFF_TOPIC, pool, certain=True)
        assert bad is not None
        changed = [f for f in ("question", "rationale") if getattr(bad.item, f) != getattr(item, f)]
        assert len(changed) == 1
        source = next(o for o in pool.items if getattr(o, changed[0]) == getattr(bad.item, changed[0]))
        assert source.question_type != item.question_type


SWAPS_REFUSED = [
    ("left lung", "right lung"), ("upper lobe", "lower lobe"), ("anterior wall", "posterior wall"),
    ("medial border", "lateral border"), ("proximal femur", "distal femur"), ("unilateral", "bilateral"),
    ("superior field", "inferior field"), ("ventral horn", "dorsal horn"), ("ipsilateral", "contralateral"),
    ("cranial", "caudal"), ("central", "peripheral"), ("superficial", "deep"), ("inner ear", "outer ear"),
    ("no effusion", "effusion"), ("without contrast", "with contrast"), ("present", "absent"),
    ("positive", "negative"), ("not enlarged", "enlarged"), ("non-enhancing", "enhancing"), ("normal", "abnormal"),
    ("unremarkable", "remarkable"), ("free of disease", "full of disease"), ("excluded", "included"),
    ("2.5 cm", "3.5 cm"), ("2.5 cm", "25 cm"), ("2.5 cm", "2.5 mm"), ("3 nodules", "4 nodules"),
    ("two nodules", "three nodules"), ("one lesion", "two lesions"), ("grade II", "grade III"), ("T1", "T2"),
    ("> 5 mm", "< 5 mm"), ("at least 5", "at most 5"), ("first rib", "second rib"), ("-3 dioptres", "3 dioptres"),
    ("mild", "severe"), ("mild", "moderate"), ("mildly", "markedly"), ("slight", "marked"), ("minimal", "massive"),
    ("subtle", "gross"), ("early", "advanced"), ("small", "large"), ("tiny", "huge"), ("increased", "decreased"),
    ("elevated", "reduced"), ("benign", "malignant"), ("acute", "chronic"), ("acute", "subacute"),
    ("hyperdense", "hypodense"), ("hypoechoic", "hyperechoic"), ("hyperintense", "hypointense"),
    ("hypertension", "hypotension"), ("focal", "diffuse"), ("single", "multiple"), ("cystic", "solid"),
    ("symmetric", "asymmetric"), ("regular", "irregular"), ("primary", "metastatic"), ("arterial", "venous"),
    ("systolic", "diastolic"), ("axial", "sagittal"), ("male", "female"), ("improving", "worsening"),
    ("stable", "progressive"), ("new", "old"), ("possible", "definite"), ("likely", "unlikely"),
    ("suspicious for", "diagnostic of"), ("all lobes", "some lobes"), ("both lungs", "either lung"),
    ("intra-axial", "extra-axial"), ("invasive", "in situ"), ("before contrast", "after contrast"),
    ("nasal", "temporal"), ("frontal lobe", "parietal lobe"), ("artery", "vein"), ("ulna", "radius"),
    ("abduction", "adduction"), ("ileum", "ilium"), ("peroneal", "perineal"), ("cyst", "nodule"),
    ("glioma", "meningioma"), ("fracture", "dislocation"), ("mass", "cyst"), ("infarct", "haemorrhage"),
    ("left nodule and right cyst", "right nodule and left cyst"),
    ("nodule on the left, cyst on the right", "cyst on the left, nodule on the right"),
    ("no nodule but a cyst", "nodule but no cyst"), ("shows fibrosis", "shows no fibrosis"),
]  # fmt: skip
SWAPS_FINE = [
    ("the image shows a cyst", "the picture displays a cyst"), ("tumour in the left lung", "tumor in the left lung"),
    ("mild oedema", "mild edema"), ("no haemorrhage is seen", "no hemorrhage is observed"),
    ("a 2.5 cm naevus", "a 2.5 cm nevus"), ("so it is benign", "hence it is benign"),
    ("compatible with pneumonia", "in keeping with pneumonia"), ("a smooth border", "the smooth edge"),
    ("located in the right lobe", "situated in the right lobe"), ("due to acute ischaemia", "owing to acute ischemia"),
    ("CT of the chest", "CT of the  chest."), ("grey matter", "Gray matter"),
    ("severe; therefore surgical", "severe, thus surgical"),
    ("the tumours are typical of NF2", "tumors are characteristic of NF2"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), SWAPS_REFUSED)
def test_a_swap_of_what_matters_is_refused(before: str, after: str) -> None:
    assert changes_meaning(before, after)
    assert changes_meaning(after, before)
    assert changes_meaning(f"The scan has {before} here.", f"The scan has {after} here.")


@pytest.mark.parametrize(("before", "after"), SWAPS_FINE)
def test_other_words_for_the_same_are_fine(before: str, after: str) -> None:
    assert not changes_meaning(before, after)
    assert not changes_meaning(after, before)


def test_the_vetted_words_keep_what_is_guarded_and_each_is_in_one_group() -> None:
    for kind in ("words", "labels", "parts"):
        for phrase, group in synonyms(kind).items():
            assert plain(phrase) == phrase
            assert all(synonyms(kind)[other] == group for other in group)
            assert kind != "words" or not any(changes_meaning(phrase, other) for other in group)
            assert all(same_answer(phrase, other) for other in group), phrase


def test_a_spoilt_word_list_would_be_noticed() -> None:
    """No two answers that are opposites of each other are synonyms."""
    for phrase in (*synonyms("labels"), *synonyms("parts")):
        for kind in FLIPS:
            assert not [new for new in flips(phrase, kind) if same_words(new, ANSWERS) == same_words(phrase, ANSWERS)]


def test_the_graded_rewrites_are_those_of_the_paper() -> None:
    seen: Counter[float] = Counter()
    for item, pool in ALL:
        rewrites = graded(item, pool)
        assert rewrites[0] == (item, 10.0)
        assert len({one.item_id for one, _ in rewrites}) == len(rewrites)
        assert {grade for _, grade in rewrites} <= set(GRADES.values())
        for rewrite, grade in rewrites:
            seen[grade] += 1
            if grade == 6.0:
                assert not changes_meaning(item.question, rewrite.question)
                assert not changes_meaning(item.rationale, rewrite.rationale)
                assert (rewrite.options, rewrite.answer) == (item.options, item.answer)
                assert (plain(item.key_text) in plain(item.rationale)) == (
                    plain(item.key_text) in plain(rewrite.rationale)
                )
            if grade == 0.0:
                assert sorted(rewrite.rationale.split()) == sorted(item.rationale.split())
    assert seen[10.0] == seen[0.0] == seen[-6.0] == len(ALL)
    assert seen[6.0] >= 0.9 * len(ALL)


def test_neither_order_nor_repetition_matter() -> None:
    turned = Pool([*reversed(ITEMS), *ITEMS], MODALITY)
    for item in ITEMS:
        assert perturbations(item, POOLS["real"], 3) == perturbations(item, turned, 3)
        assert graded(item, POOLS["real"], 3) == graded(item, turned, 3)
    assert canaries(ITEMS, 20, 1) == canaries([*reversed(ITEMS), *ITEMS], 20, 1)


def test_another_seed_makes_others() -> None:
    first, second = ([one.item.item_id for one in canaries(EMBEDDED, 30, seed)] for seed in (1, 2))
    assert len(set(first) & set(second)) < 15


def test_canaries_are_spread_over_kinds_types_and_modalities() -> None:
    found = canaries(EMBEDDED, 70, 1, POOLS["embedded"])
    assert len(found) == len({one.item.item_id for one in found}) == len({one.of for one in found}) == 70
    assert all(one.certain and one.kind in KINDS for one in found)
    kinds = Counter(one.kind for one in found)
    assert set(kinds) == set(KINDS) - {Flaw.NUMBER, Flaw.OPPOSITE}  # nothing in the embedded keys has either
    assert max(kinds.values()) - min(kinds.values()) <= 4
    assert min(Counter(one.item.question_type for one in found).values()) >= 8
    assert len({SCENES[one.item.image_id].modality for one in found}) == 8


def test_more_canaries_than_items_reuse_them_and_end() -> None:
    few = EMBEDDED[:5]
    found = canaries(few, 1000, 1, POOLS["embedded"])
    assert 5 < len(found) <= 5 * len(KINDS)
    assert canaries([], 10, 1) == []
    assert canaries(EMBEDDED, 0, 1) == []


def test_the_oracle_refuses_every_canary_and_passes_what_they_were_made_of(tmp_path: Path) -> None:
    truth = tmp_path / "truth.jsonl"
    rows = ({"image_sha256": image, "scene": scene.model_dump()} for image, scene in SCENES.items())
    truth.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    bad = [one.item for one in canaries(EMBEDDED, 400, 1, POOLS["embedded"])]
    asked = [
        json.dumps({**item.model_dump(mode="json"), "item_id": item.item_id, "image_sha256": item.image_id})
        for item in [*EMBEDDED, *bad]
    ]
    command = [sys.executable, "-m", "medgr2_phantoms.oracle", "--truth", str(truth)]
    told = subprocess.run(command, input="\n".join(asked), capture_output=True, text=True, timeout=400, check=True)
    valid = [json.loads(line)["valid"] for line in told.stdout.splitlines()]
    assert len(bad) == 400
    assert all(valid[: len(EMBEDDED)])
    assert not any(valid[len(EMBEDDED) :])


WORDS = st.sampled_from(
    [
        "left",
        "right",
        "upper",
        "lower",
        "no",
        "not",
        "without",
        "mild",
        "severe",
        "2.5",
        "cm",
        "3",
        "acute",
        "benign",
        "hyperdense",
        "shows",
        "image",
        "tumour",
        "so",
        "thus",
        "seen",
        "oedema",
        "lesion",
        "lung",
        "border",
        "because",
        "due",
        "to",
        "consistent",
        "with",
        "located",
        "possible",
        "bilateral",
        "cyst",
        "of",
        "the",
        "a",
        "is",
    ]
)


@settings(max_examples=150)
@given(st.lists(WORDS, min_size=1, max_size=25), st.integers(0, 9))
def test_no_paraphrase_touches_what_matters(said: list[str], seed: int) -> None:
    item = one("Which plane is shown?", rationale=" ".join(said))
    for rewrite, grade in graded(item, POOLS["real"], seed):
        if grade == 6.0:
            assert rewrite.rationale != item.rationale or rewrite.question != item.question
            assert guarded(rewrite.rationale) == guarded(item.rationale)
            assert not changes_meaning(item.rationale, rewrite.rationale)


@settings(max_examples=150)
@given(st.lists(WORDS, min_size=1, max_size=25), st.sampled_from(list(Flaw)), st.integers(0, 9))
def test_whatever_is_made_is_another_valid_item(said: list[str], kind: Flaw, seed: int) -> None:
    item = one("Which plane is shown?", rationale=" ".join(said))
    bad = perturb(item, kind, POOLS["real"], seed)
    assert bad is None or (bad.item.item_id != item.item_id and Item.model_validate(bad.item.model_dump()))
    assert bad == perturb(item, kind, POOLS["real"], seed)


def test_a_rewritten_reason_reads_like_the_good_one() -> None:
    """Capitals and articles may not betray what was made."""
    item = one("What is the tumour type?", options=("Glioma", "Pituitary tumour"), answer="A")
    reason = item.model_copy(update={"rationale": "The oedema suggests a glioma. Glioma is frequent."})
    assert [bad.rationale for bad in made(reason, Flaw.WRONG_KEY)] == [
        "The oedema suggests a pituitary tumour. Pituitary tumour is frequent."
    ]
    assert set(flips("There is an increased density.", Flaw.OPPOSITE)) == {"There is a decreased density."}


def test_what_could_be_true_either_way_is_not_flipped() -> None:
    assert flips("The heart is not enlarged.", Flaw.OPPOSITE) == ()
    assert flips("The left and right ventricles are wide.", Flaw.LATERALITY) == ()
    assert flips("no left effusion", Flaw.LATERALITY) == ()
    assert flips("There is no mass.", Flaw.NEGATION) == ("There is mass.",)
