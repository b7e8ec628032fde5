"""The bytes of a labels file: their hash, and whether they are text."""

from __future__ import annotations

import codecs
import hashlib
from pathlib import Path
from typing import NoReturn

from medgr2.schemas.errors import DataError
from medgr2.tasks.intake.columns import NOTHING

_CHUNK = 1 << 22


def file_digest(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def text_digest(path: Path) -> str:
    """One pass over the bytes: their hash, and that they are UTF-8 without a zero byte."""
    digest, done = hashlib.sha256(), 0
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as f:
        while True:
            data = f.read(_CHUNK)
            if not done and data[:2] in (b"\xff\xfe", b"\xfe\xff"):
                _not_utf8(path, 0, "they are UTF-16, which Excel calls 'Unicode text'")
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(data, final=not data)
            except UnicodeDecodeError as e:
                _not_utf8(path, done - pending + e.start, "")
            if (zero := data.find(b"\0")) >= 0:
                _not_utf8(path, done + zero, "a zero byte")
            if not data:
                return digest.hexdigest()
            digest.update(data)
            done += len(data)


def _not_utf8(path: Path, byte: int, why: str) -> NoReturn:
    raise DataError(
        f"the labels are not UTF-8 text{': ' + why if why else ''}", where=f"{path}, byte {byte}", kept=NOTHING,
        next_command="save them as 'CSV UTF-8', or: iconv -f CP1252 -t UTF-8 FILE > FILE.utf8.csv",
    ) from None  # fmt: skip
