"""What the loop starts from here: the embedded base with words for the labels, and a writer that people taught."""

from __future__ import annotations

import json
from pathlib import Path

from realkit import kit
from realkit.hospital import Hospital
from realkit.words import with_words

from medgr2.infra.artifacts import put_folder
from medgr2.infra.workspace import Workspace
from medgr2.models import prompts
from medgr2.models.model_ref import EMBEDDED, ModelRef, materialise
from medgr2.models.sft import Example, SftSettings, train_sft


def base_with_words(workspace: Workspace, folder: Path) -> ModelRef:
    with_words(EMBEDDED, folder, [label for labels in kit.LABELS.values() for label in labels])
    return materialise(put_folder(workspace.store, folder), workspace.settings)


def writer(workspace: Workspace, base: ModelRef, hospital: Hospital, folder: Path, how: SftSettings) -> str:
    """Taught what people wrote, the key first: letters in any order are more than it can learn from so few."""
    template = prompts.load_prompt(prompts.GENERATE_EMBEDDED)
    examples = [
        Example(
            hospital.first / asked["file"],
            prompts.generating_text(template, asked["question_type"], hospital.reports[asked["file"]]),
            json.dumps({name: kit.key_first(asked)[name] for name in ("question", "options", "answer", "rationale")}),
        )
        for asked in hospital.written
    ]
    train_sft(base.folder, examples, folder, how)
    return put_folder(workspace.store, folder)
