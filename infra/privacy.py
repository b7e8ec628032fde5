"""Patients leave the source as keyed hashes. Without the key nobody can tell who a hash is, or test a guess."""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from medgr2.infra.settings import Settings
from medgr2.schemas.errors import SettingsError, StorageError

KEY_FILE = "secrets/patient.key"


def patient_hasher(settings: Settings) -> Callable[[str, str], str]:
    """A function (source, patient id) -> 64 hex digits."""
    key = patient_secret(settings)

    def hashed(source: str, patient: str) -> str:
        return hmac.digest(key, f"{source}\0{patient}".encode("utf-8", "surrogateescape"), "sha256").hex()

    return hashed


def patient_secret(settings: Settings) -> bytes:
    """The key itself: for what has to hash or shift in a process of its own."""
    given = settings.privacy.patient_key
    if given is not None:
        if len(given.get_secret_value()) < 16:
            raise SettingsError(
                "MEDGR2_PRIVACY__PATIENT_KEY is shorter than 16 characters",
                next_command="openssl rand -hex 32  makes one",
            )
        return given.get_secret_value().encode()
    if settings.storage.is_s3:
        # A key beside the data it protects protects nothing; in a bucket it would be.
        raise SettingsError(
            "an s3:// root needs MEDGR2_PRIVACY__PATIENT_KEY",
            where=settings.storage.root,
            next_command="export MEDGR2_PRIVACY__PATIENT_KEY=$(openssl rand -hex 32)  and keep it in your secret store",
        )
    path = Path(settings.storage.root) / KEY_FILE
    try:
        return _local_key(path)
    except OSError as e:
        raise StorageError(
            f"the patient key cannot be kept: {e.strerror}",
            where=str(path),
            next_command="set MEDGR2_STORAGE__ROOT to a folder that can be written, or MEDGR2_PRIVACY__PATIENT_KEY",
        ) from None


def _local_key(path: Path) -> bytes:
    """For a folder root on one's own machine: made once, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as f:
            f.write(secrets.token_hex(32))
            f.flush()
            os.fsync(f.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # of two first runs at once, one key wins for both
        draft.unlink()
    return path.read_text().strip().encode()
