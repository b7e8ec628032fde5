"""What prompts share is read once, and what each gets is what it would get alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medgr2.models.engines.seam import Exchange, Request
from medgr2.models.engines.stems import Stem, cut, in_order, spares, stems_of
from medgr2.models.engines.transformers import Examined, TransformersEngine
from medgr2.models.prompts import ANSWER, answering_text, load_prompt, reply_text

BASE = Path(__file__).parents[3] / "models" / "base"
PLACES = ("upper left", "upper right", "lower left", "nowhere", "a fifth place")


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return TransformersEngine(BASE)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(3)
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, size=(64, 64, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return sorted(folder.iterdir())


def asking(image: Path, question: str, first: int, seeds: Sequence[int], **more: Any) -> Request:
    options = (*PLACES[first:], *PLACES[:first])[: 4 + first % 2]
    return Request(image, answering_text(load_prompt(ANSWER), question, options), tuple(seeds), **more)


@contextmanager
def readings(engine: TransformersEngine) -> Iterator[list[tuple[int, int, bool]]]:
    """Rows and tokens of each call of the model, and whether it saw pictures."""
    calls: list[tuple[int, int, bool]] = []

    def note(_: Any, __: Any, given: dict[str, Any]) -> None:
        calls.append((*given["input_ids"].shape, given.get("pixel_values") is not None))

    hook = engine.model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield calls
    finally:
        hook.remove()


def test_a_stem_ends_where_the_first_prompt_goes_another_way() -> None:
    ids = [[1, 2, 3, 4], [9, 2, 3], [1, 2, 5], [1, 2, 3, 4]]
    (one, other) = stems_of(["a", "b", "a", "a"], ids)
    assert one == Stem((0, 2, 3), ((3, 4), (5,), (3, 4)))
    assert other == Stem((1,), ((3,),))  # something is left to read on, for whoever is read beside it
    assert in_order([one, other]) == ([0, 1, 0, 0], [(3, 4), (3,), (5,), (3, 4)])
    assert stems_of(["a", "a"], [[1, 2, 3], [1, 2]]) == [Stem((0, 1), ((2, 3), (2,)))]


def test_stems_are_used_where_less_is_read_that_way() -> None:
    alike = [[*range(20), n] for n in range(4)]
    assert spares(stems_of("aaaa", alike), alike)
    assert not spares(stems_of("abcd", alike), alike)
    apart = [*alike[:2], [30] * 21, [31] * 21]
    assert spares(stems_of("aabc", apart), apart)
    early = [[0, *range(n, n + 20)] for n in (50, 90)] + apart[2:]
    assert not spares(stems_of("aabc", early), early)  # the padding would be more than what is shared


def test_prompts_about_one_picture_get_what_they_would_get_alone(
    engine: TransformersEngine, images: list[Path]
) -> None:
    """Of several lengths, hot and cold, with a reply to judge and without, and one with an earlier exchange."""
    asked = [
        Examined(
            asking(images[i % 2], "Where is it?", i % 5, (i, i + 1), temperature=float(i % 3 > 0)),
            reply_text("CT shows" * (1 + i % 3), "B") if i % 2 else None,
        )
        for i in range(12)
    ]
    earlier = (Exchange(asked[0].request.text, "B"),)
    asked.append(Examined(Request(images[0], "Why?", (5,), earlier=earlier)))
    with readings(engine) as calls:
        together = engine.examine(asked)
    assert sum(rows for rows, _, pictures in calls if pictures) <= 4  # two pictures, in two groups at most
    for one, found in zip(asked, together, strict=True):
        (alone,) = engine.examine([one])
        assert alone.completions == found.completions
        assert (alone.logprob is None) == (found.logprob is None)
        if alone.logprob is not None and found.logprob is not None:
            assert alone.logprob.tokens == found.logprob.tokens
            assert alone.logprob.total == pytest.approx(found.logprob.total, abs=1e-9)


def test_the_stem_is_read_once(engine: TransformersEngine, images: list[Path]) -> None:
    asked = [asking(images[n], "Where is it?", by, ()) for n in range(3) for by in (0, 2, 4)]
    with readings(engine) as calls:
        engine.complete(asked)
    (stems, pictures), (rest, more) = ((rows, seen) for rows, _, seen in calls)
    assert (stems, pictures, rest, more) == (3, True, 9, False)
    with readings(engine) as apart:
        for one in asked[:3]:
            engine.complete([one])
    whole = [width for _, width, _ in apart]
    assert len(whole) == 3
    assert calls[0][1] + calls[1][1] == max(whole)
    assert calls[0][1] > 0.4 * max(whole)


def test_pictures_that_stand_alone_are_read_whole(engine: TransformersEngine, images: list[Path]) -> None:
    with readings(engine) as calls:
        engine.complete([asking(image, "Where is it?", 0, ()) for image in images])
    assert [(rows, seen) for rows, _, seen in calls] == [(4, True)]


def test_a_processor_that_writes_something_after_the_picture_is_not_cut(
    engine: TransformersEngine, images: list[Path]
) -> None:
    """Where the end of a reading is not that of its words, nobody knows what belongs to the stem."""
    texts = [engine._chats.write(asking(images[0], "Where is it?", by, ())) for by in (0, 1)]
    ids = engine.processor.tokenizer(texts, add_special_tokens=False)["input_ids"]
    (stem,) = stems_of("aa", ids)
    inputs = engine._inputs(texts[:1], images[:1])
    assert cut(inputs, ids[:1], [stem], 0)["input_ids"].shape[1] < inputs["input_ids"].shape[1]
    assert cut(inputs, [[*ids[0][:-1], ids[0][-1] + 1]], [stem], 0) == {}
