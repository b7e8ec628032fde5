"""Styles: the ways in which a generator is asked, each a versioned prompt file and the form of its reply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any

from medgr2.models.prompts import GENERATE_EMBEDDED, load_prompt
from medgr2.schemas.errors import UsageError
from medgr2.schemas.parameters import GenerateParameters

EMBEDDED_TOKENS = 128
TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Style:
    name: str
    prompt: str
    """Name of its prompt file."""
    thinking: str = ""
    """Field in which the model thinks before it writes; dropped when the reply is read."""
    strict: bool = False
    """Whether the reply is the draft and nothing else, as a model writes that was taught just this."""
    max_new_tokens: int = TOKENS

    @property
    def form(self) -> Mapping[str, Any] | None:
        """JSON schema of the reply. Flat, and with all fields required: what every server's structured output knows."""
        if self.strict:
            return None
        text = {"type": "string"}
        fields: dict[str, Any] = {self.thinking: text} if self.thinking else {}
        fields |= {
            "unsupported": {"type": "boolean"},
            "question": text,
            "options": {"type": "array", "items": text, "minItems": 4, "maxItems": 4},
            "answer": {"type": "string", "enum": ["A", "B", "C", "D"]},
            "rationale": text,
        }
        return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


EMBEDDED = Style("embedded", GENERATE_EMBEDDED, strict=True, max_new_tokens=EMBEDDED_TOKENS)
STYLES = {
    style.name: style
    for style in (
        EMBEDDED,
        Style("direct", "generate.direct.v2"),
        Style("step-by-step", "generate.step-by-step.v1", thinking="reasoning"),
        Style("meta-cognitive", "generate.meta-cognitive.v1", thinking="reflection"),
    )
}
DEFAULT = STYLES["meta-cognitive"]
THINKING = frozenset(style.thinking for style in STYLES.values() if style.thinking)


def style_for(parameters: GenerateParameters, *, base_is_embedded: bool) -> Style:
    """The embedded base knows the words that it was taught, and no others."""
    if not base_is_embedded:
        return STYLES[parameters.style] if parameters.style else DEFAULT
    if parameters.style is not None:
        raise UsageError(
            f"the embedded model cannot be asked in the style {parameters.style!r}: it knows only its own words",
            where="--style",
            next_command="leave the style out, set MEDGR2_MODELS__BASE to a model of your own, or ask a served one",
        )
    return EMBEDDED


def fields_of(template: str) -> tuple[str, ...]:
    """What a prompt names, each once: all that may reach it, and so all that may change its cells' keys."""
    return tuple(dict.fromkeys(name for _, name, _, _ in Formatter().parse(template) if name))


def prompt_of(style: Style) -> str:
    return load_prompt(style.prompt)
