"""The embedded world's own questions pass the blind probe of the product; asked of scenes as they come, they do not."""

import hashlib

import numpy as np

from medgr2.models.blind_probe import probe
from medgr2.schemas.items import Item
from medgr2.schemas.probe import Probed
from medgr2_phantoms.questions import QUESTION_TYPES, ask, fixed_label
from medgr2_phantoms.world import sample_scene


def items(count, *, even):
    rng = np.random.default_rng(5)
    for at in range(count):
        question_type = QUESTION_TYPES[at % len(QUESTION_TYPES)]
        labels = fixed_label(question_type, rng) if even else {"finding": "normal"} if rng.random() < 0.7 else {}
        question = ask(sample_scene(rng, **labels), question_type, rng)
        yield Item(
            image_id=hashlib.sha256(str(at).encode()).hexdigest(),
            question_type=question_type,
            question=question.question,
            options=question.options,
            answer=question.answer,
            rationale=question.rationale,
        )


def test_even_keys_tell_nothing():
    found = probe(items(1500, even=True))
    assert found.verdict is Probed.PASSES, found.line()


def test_a_ward_where_most_are_well_gives_its_keys_away():
    found = probe(items(1500, even=False))
    assert found.verdict is Probed.LEAKS, found.line()
    assert any(word in "\n".join(found.lines()) for word in ("'normal'", "'absent'", "'nowhere'"))
