"""The tiny model's tokenizer and processor, and the lean batches that must equal what they produce."""

import json

import numpy as np
import pytest

from medgr2_phantoms.lessons import fade, fill_album, lesson, make_batch
from medgr2_phantoms.questions import BALANCE, LETTERS
from medgr2_phantoms.tinyvlm import MARKS, build_model, build_processor, build_tokenizer
from medgr2_phantoms.world import draw

pytest.importorskip("torch", reason="the embedded model needs the extra 'models'")


@pytest.mark.parametrize(
    "text",
    [
        "naïve 你好 \n\t  two  spaces",
        '{"question": "x", "options": ["a", "b"], "answer": "B", "rationale": "r"}',
        "<think>CT of the chest</think><answer>B</answer>",
        "An OCT scan, a CTscan; abnormal and bloody faces",
        "\x00 \U0001f600",
    ],
)
def test_any_text_round_trips(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_labels_letters_and_marks_are_single_tokens(tokenizer):
    words = [label for _, labels in BALANCE.values() for label in labels] + list(LETTERS) + list(MARKS)
    assert [word for word in words if len(tokenizer(word)["input_ids"]) != 1] == []


def test_a_label_is_the_same_token_after_a_space_and_after_a_quote(tokenizer):
    (label,) = tokenizer("upper left")["input_ids"]
    assert label in tokenizer("C) upper left D) nowhere")["input_ids"]
    assert label in tokenizer('["upper left", "nowhere"]')["input_ids"]


def test_building_the_tokenizer_again_gives_the_same_file(tokenizer):
    assert build_tokenizer(0).backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


@pytest.mark.parametrize("style", ["long", "final"])
@pytest.mark.parametrize("kind", ["captioning", "answering", "generating"])
def test_a_lean_batch_is_what_the_processor_makes_of_the_same_messages(tokenizer, kind, style):
    album = fill_album(3, "clean", seed=1)
    indices = np.arange(3)
    batch = make_batch(album, indices, kind, style, tokenizer, np.random.default_rng(7))
    rng = np.random.default_rng(7)
    texts = [lesson(album, int(index), kind, style, rng) for index in indices]
    messages = [
        [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": user}]},
            {"role": "assistant", "content": [{"type": "text", "text": reply}]},
        ]
        for user, reply in texts
    ]
    processor = build_processor(tokenizer)
    made = processor(
        images=[[draw(scene, "clean")] for scene in album.scenes],
        text=processor.apply_chat_template(messages),
        padding=True,
        padding_side="right",
        return_tensors="pt",
    )
    assert batch.input_ids.tolist() == made["input_ids"].tolist()
    if style == "long" or kind == "captioning":  # the others are faded on purpose
        assert np.abs(batch.pixel_values.numpy() - made["pixel_values"].numpy()).max() < 1e-5
    for row, (_, reply) in enumerate(texts):
        spoken = batch.labels[row][batch.labels[row] != -100]
        assert tokenizer.decode(spoken) == f"{reply}<end_of_utterance>"


def test_the_final_form_writes_the_key_first_and_its_rivals_in_their_usual_order():
    album, rng = fill_album(60, "clean", seed=3), np.random.default_rng(4)
    for index in range(60):
        written = json.loads(lesson(album, index, "generating", "final", rng)[1])
        attribute, labels = BALANCE[album.question_types[index]]
        key, *rivals = written["options"]
        assert written["answer"] == "A"
        assert key == getattr(album.scenes[index], attribute)
        assert rivals == sorted(rivals, key=labels.index)
        assert len({key, *rivals}) == 4


def test_fading_takes_away_contrast_down_to_the_faintest_and_never_the_mean():
    pictures = np.random.default_rng(0).uniform(-1.0, 1.0, size=(200, 3, 32, 32)).astype(np.float32)
    untouched = fade(pictures, (1.0, 1.0), np.random.default_rng(1))
    assert np.abs(untouched - pictures).max() < 1e-6
    faded = fade(pictures, (0.4, 1.0), np.random.default_rng(1))
    kept = [float((a * b).sum() / (a * a).sum()) for a, b in zip(centred(pictures), centred(faded), strict=True)]
    assert 0.38 < min(kept) < 0.5 < 0.9 < max(kept) < 1.02
    assert np.abs(faded.mean(axis=(2, 3)) - pictures.mean(axis=(2, 3))).max() < 0.02


def centred(pictures):
    return pictures - pictures.mean(axis=(2, 3), keepdims=True)


def test_the_prompt_is_a_prefix_of_prompt_and_reply(tokenizer):
    processor = build_processor(tokenizer)
    user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Describe the image."}]}
    reply = {"role": "assistant", "content": "CT."}
    prompt = processor.apply_chat_template([user], add_generation_prompt=True)
    assert processor.apply_chat_template([user, reply]) == f"{prompt}CT.<end_of_utterance>"


def test_each_image_token_is_one_quadrant(tokenizer):
    config = build_model(tokenizer, 0).config
    assert config.vision_config.image_size // config.vision_config.patch_size == 2
    assert config.scale_factor == 1
    assert config.text_config.head_dim >= 32
