"""What the reading process and its parent say to each other. The parent trusts no byte of an answer: a hijacked
decoder may have written it. So plain numbers, JSON checked against a model, and picture bytes; nothing is unpickled."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medgr2.infra.pictures.reading import BrokenError, Picture, Reading, RefusedError, UnreadableError
from medgr2.schemas.errors import MissingExtraError
from medgr2.schemas.intake import ReadingRules

REQUEST = struct.Struct("<IHI")
"""Sequence number, length of the suffix, length of the data; then both."""
ANSWER = struct.Struct("<III")
"""Sequence number, length of the JSON, length of the picture bytes; then both."""
READY = 0xFFFFFFFF
LONGEST_SUFFIX = 64
LONGEST_JSON = 4 << 20


class Garbled(Exception):
    """An answer that the program on the other side cannot have meant."""


class Opening(BaseModel):
    """First thing sent. The key goes this way because an environment can be read by others."""

    rules: ReadingRules
    key: str = Field(repr=False)


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")


class WirePicture(_Wire):
    length: int | None = Field(ge=0)
    """None: the bytes that were sent are fit to be stored as they are."""
    width: int = Field(ge=1)
    height: int = Field(ge=1)
    media_type: Literal["image/png", "image/jpeg"]
    part: str = Field(max_length=100)
    fingerprint: bytes = Field(max_length=65536)
    burned_in: Literal["unchecked", "none", "masked"]


class WireReading(_Wire):
    pictures: list[WirePicture] = Field(min_length=1)
    left_out: dict[str, int]
    modality: str | None
    anatomy: str | None
    patient: str
    number: str = ""
    study: str
    header: dict[str, Any]
    found: dict[str, int]


class WireAnswer(_Wire):
    reading: WireReading | None = None
    failure: Literal["refused", "broken", "missing_extra"] | None = None
    reason: str = ""
    detail: str = ""
    next_command: str = ""


Result = Reading | UnreadableError | MissingExtraError


class _Source(Protocol):
    def read(self, n: int, /) -> bytes: ...


def read_exactly(source: _Source, n: int) -> bytes:
    """EOFError when the other side has gone."""
    data = source.read(n)
    if len(data) != n:
        raise EOFError
    return data


def encode(sequence: int, result: Result, sent: bytes) -> list[bytes]:
    blobs: list[bytes] = []
    if isinstance(result, Reading):
        pictures = []
        for p in result.pictures:
            as_sent = p.data is sent
            if not as_sent:
                blobs.append(p.data)
            pictures.append(
                WirePicture(
                    length=None if as_sent else len(p.data),
                    width=p.width,
                    height=p.height,
                    media_type=p.media_type,  # type: ignore[arg-type]
                    part=p.part,
                    fingerprint=p.fingerprint,
                    burned_in=p.burned_in,  # type: ignore[arg-type]
                )
            )
        reading = WireReading(
            pictures=pictures,
            left_out=dict(result.left_out),
            modality=result.modality,
            anatomy=result.anatomy,
            patient=result.patient,
            number=result.number,
            study=result.study,
            header=result.header,
            found={k: n for k, n in result.found.items() if n},
        )
        answer = WireAnswer(reading=reading)
    elif isinstance(result, MissingExtraError):
        answer = WireAnswer(failure="missing_extra", reason=result.what, next_command=result.next_command)
    else:
        kind: Literal["refused", "broken"] = "refused" if isinstance(result, RefusedError) else "broken"
        answer = WireAnswer(failure=kind, reason=result.reason, detail=result.detail)
    text = answer.model_dump_json().encode()
    return [ANSWER.pack(sequence, len(text), sum(map(len, blobs))), text, *blobs]


def decode(text: bytes, blob: bytes, sent: bytes) -> Result:
    try:
        answer = WireAnswer.model_validate_json(text)
    except ValidationError as e:
        raise Garbled(f"{e.error_count()} fields are not as agreed") from None
    if answer.failure == "missing_extra":
        return MissingExtraError(answer.reason, next_command=answer.next_command)
    if answer.failure is not None:
        return (RefusedError if answer.failure == "refused" else BrokenError)(answer.reason, answer.detail)
    if answer.reading is None:
        raise Garbled("neither a reading nor a failure")
    pictures, at = [], 0
    for p in answer.reading.pictures:
        data = sent if p.length is None else blob[at : at + p.length]
        at += p.length or 0
        pictures.append(Picture(data, p.width, p.height, p.media_type, p.part, p.fingerprint, p.burned_in))
    if at != len(blob):
        raise Garbled("picture bytes of another length than announced")
    r = answer.reading
    return Reading(
        pictures, Counter(r.left_out), r.modality, r.anatomy, r.patient, r.study, r.header, Counter(r.found), r.number
    )
