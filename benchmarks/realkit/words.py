"""The embedded base with a word for every label of the kit: one token each, as its own labels are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

SEED = 0


def with_words(base: Path, out: Path, labels: Iterable[str]) -> list[str]:
    """Writes the model into the folder. New words lie where some of the base's
    own labels lie, and as far apart as those."""
    import torch
    from tokenizers import AddedToken
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(base, local_files_only=True)
    model: Any = AutoModelForImageTextToText.from_pretrained(base, local_files_only=True, dtype="float32")
    tokenizer = processor.tokenizer
    known = set(tokenizer.get_vocab())
    new = [label for label in labels if label not in known]
    own = [tokenizer.convert_tokens_to_ids(label) for label in ("haemorrhage", "cyst", "nodule", "fibrosis", "brain")]
    tokenizer.add_tokens([AddedToken(label, special=False, normalized=False, single_word=True) for label in new])
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        weight = model.get_input_embeddings().weight
        middle, spread = weight[own].mean(0), weight[own].std(0)
        for label in new:
            place = torch.randn(middle.shape, generator=generator) * spread
            weight[tokenizer.convert_tokens_to_ids(label)] = middle + place
    processor.save_pretrained(out)
    model.save_pretrained(out)
    return new
