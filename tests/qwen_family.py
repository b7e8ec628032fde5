"""A tiny model of the Qwen2.5-VL family, drawn at random: its tokens have positions on three axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

BASE = Path(__file__).parents[1] / "models" / "base"
MARKS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def processor() -> Any:
    """Its processor without the part for videos, which asks for torchvision."""
    from transformers import PreTrainedTokenizerFast, Qwen2_5_VLProcessor, Qwen2VLImageProcessorPil

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(BASE / "tokenizer.json"), eos_token="<end_of_utterance>", pad_token="<pad>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(MARKS)})

    class WithoutVideos(Qwen2_5_VLProcessor):
        def save_pretrained(self, folder: str, **_: Any) -> None:
            self.tokenizer.save_pretrained(folder)

    made = object.__new__(WithoutVideos)
    made.image_processor = Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=28 * 28 * 8)
    made.tokenizer, made.video_processor = tokenizer, None
    turns = (BASE / "chat_template.jinja").read_text()
    made.chat_template = turns.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>")
    made.image_token, made.video_token = "<|image_pad|>", "<|video_pad|>"
    made.image_token_id, made.video_token_id = map(tokenizer.convert_tokens_to_ids, MARKS[2:])
    made.image_ids, made.video_ids = [made.image_token_id], [made.video_token_id]
    return made


def save_model(folder: Path) -> None:
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokenizer = processor().tokenizer
    start, end, image, video = map(tokenizer.convert_tokens_to_ids, MARKS)
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 2, "vocab_size": len(tokenizer), "max_position_embeddings": 512,
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10000.0},
            "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
        },
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 64,
            "fullatt_block_indexes": [1], "window_size": 56,
        },
        image_token_id=image, video_token_id=video, vision_start_token_id=start, vision_end_token_id=end,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config)
    for weights in model.parameters():
        if weights.ndim > 1:
            torch.nn.init.normal_(weights, 0, 0.3)  # as it is drawn, it says one word for ever
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 1, 0
    model.save_pretrained(folder)
