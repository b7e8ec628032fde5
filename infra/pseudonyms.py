"""Names that stand for real ones: the same for the same input, and never reversible or guessable without the key."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

LONGEST_SHIFT_DAYS = 3650


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Made from the secret key that also hashes the patients; every use of the key is told apart by its purpose."""

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) < 16:
            raise ValueError("a pseudonym key needs at least 16 bytes")

    def uid(self, uid: str) -> str:
        """A valid DICOM UID under 2.25. for any UID: references between files stay references."""
        return f"2.25.{int.from_bytes(self._digest('uid', uid)[:16], 'big')}"

    def days(self, patient: str) -> int:
        """By how many days the dates of a patient are moved, always back: -1 to -3650."""
        return -1 - int.from_bytes(self._digest("days", patient)[:8], "big") % LONGEST_SHIFT_DAYS

    def code(self, kind: str, value: str) -> str:
        return self._digest(f"code:{kind}", value).hex()[:16]

    def label(self, number: str) -> str:
        """The key that labels without a source give this patient number: see patient_hasher."""
        return hmac.digest(self.key, b"\0" + number.encode("utf-8", "surrogateescape"), "sha256").hex()

    def _digest(self, purpose: str, value: str) -> bytes:
        own = hmac.new(self.key, b"medgr2/pseudonyms/" + purpose.encode(), hashlib.sha256).digest()
        return hmac.new(own, value.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
