"""The tiny vision-language model: a real Idefics3 small enough for one CPU thread, its tokenizer and its processor."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from medgr2_phantoms.questions import (
    BALANCE,
    CAPTION_PROMPT,
    QUESTION_TYPES,
    TOPICS,
    ask,
    describe,
    explain,
    generating_prompt,
)
from medgr2_phantoms.reports import WRONG, write_report
from medgr2_phantoms.world import sample_scene

PATCH = 16
IMAGE = 32  # two patches a side, so that each image token is one quadrant
IMAGE_TOKENS = (IMAGE // PATCH) ** 2
CONTEXT = 512
SPREAD = 0.06  # at the usual 0.02 a model this narrow starts with nearly flat attention

PAD, END = "<pad>", "<end_of_utterance>"
SPECIAL = (PAD, END, "<image>", "<fake_token_around_image>", "<global-img>", "<|system|>", "<|user|>", "<|assistant|>")
# Plain (non-special) tokens: decoding must show them, since parsers read them.
MARKS = (
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    '{"question": "',
    '", "options": ["',
    '", "',
    '"], "answer": "',
    '", "rationale": "',
    '"}',
)
# The fixed wording between labels, spaces included: every label is one token right after the letter, or right before
# the mark, that refers to it, so one previous-token head serves both.
PIECES = (
    *(" A) ", " B) ", " C) ", " D) "),
    *("Question: ", " Options:", "Task: write one ", " question. Report: "),
    *(" of the ", " shows ", ", grade ", ", ", ", so ", ".</think><answer>"),
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<end_of_utterance>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def corpus(seed: int, scenes: int = 4000) -> Iterable[str]:
    """Every text format of the world, often enough that each of its words becomes one token."""
    rng = np.random.default_rng(seed)
    for _ in range(scenes):
        scene = sample_scene(rng)
        question_type = str(rng.choice(QUESTION_TYPES))
        question = ask(scene, question_type, rng)
        yield generating_prompt(question_type, write_report(scene, WRONG["clean"], rng) if rng.random() < 0.9 else "")
        yield from (CAPTION_PROMPT, describe(scene), question.prompt(), question.question, question.answer)
        yield from question.options
        yield from (json.dumps(list(question.options)), explain(scene, TOPICS[question_type].key(scene)))


def build_tokenizer(seed: int) -> Any:
    """A byte-level BPE, so any text round-trips exactly although the vocabulary is the world's."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4000,  # never reached: merging stops when every word of the corpus is one token
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=list(SPECIAL),
        show_progress=False,
    )
    core.train_from_iterator(corpus(seed), trainer)
    core.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in (*MARKS, *PIECES)])
    labels = sorted({label for _, choices in BALANCE.values() for label in choices})
    core.add_tokens([AddedToken(label, special=False, normalized=False, single_word=True) for label in labels])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[token for token in SPECIAL if token not in (PAD, END)],
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
        padding_side="left",
    )


def build_processor(tokenizer: Any) -> Any:
    """The family's own processor, on its Pillow back end so that torchvision is not needed."""
    from transformers import Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    images = Idefics3ImageProcessorPil(
        size={"longest_edge": IMAGE},
        max_image_size={"longest_edge": IMAGE},
        do_image_splitting=False,
    )
    return Idefics3Processor(images, tokenizer, image_seq_len=IMAGE_TOKENS, chat_template=CHAT_TEMPLATE)


def build_model(tokenizer: Any, seed: int) -> Any:
    """Idefics3ForConditionalGeneration with about 0.3 M parameters; vLLM's CPU build needs head_dim >= 32."""
    import torch
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    config = Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=pad,
        tie_word_embeddings=True,
        scale_factor=1,
        vision_config={
            "hidden_size": 64,
            "initializer_range": SPREAD,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": IMAGE,
            "patch_size": PATCH,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "initializer_range": SPREAD,
            "intermediate_size": 160,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "head_dim": 32,
            "rope_parameters": {"rope_type": "default", "rope_theta": 100.0},  # wavelengths up to the context, no more
            "max_position_embeddings": CONTEXT,
            "pad_token_id": pad,
            "bos_token_id": None,
            "eos_token_id": end,
            "tie_word_embeddings": True,
        },
    )
    torch.manual_seed(seed)
    model = Idefics3ForConditionalGeneration(config)
    model.generation_config.pad_token_id = pad
    model.generation_config.eos_token_id = end
    model.generation_config.bos_token_id = None
    return model
