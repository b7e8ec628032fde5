"""The approvals desk: who was asked about a candidate, since when, and what was said. Each is written once.

approvals/<question>/asked.json    when it was asked first: the deadline runs from then, however often it is killed
approvals/<question>/form-<id>     a form that was put up; an answer to one whose process is gone still counts
approvals/<question>/said.json     the answer
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

from pydantic import ValidationError

from medgr2.infra.objects import ObjectStore
from medgr2.schemas.approvals import Approval
from medgr2.schemas.digest import digest_of
from medgr2.schemas.errors import DataError


class ApprovalDesk:
    """About one candidate and the champion that it would replace."""

    def __init__(self, store: ObjectStore, *, candidate: str, champion: str | None, heldout: str) -> None:
        self._store = store
        self.question = digest_of([candidate, champion, heldout])
        self._folder = f"approvals/{self.question}/"

    def asked_at(self) -> datetime:
        key = f"{self._folder}asked.json"
        self._store.create(key, json.dumps(datetime.now(UTC).isoformat()).encode())
        try:
            return datetime.fromisoformat(json.loads(self._store.get(key)))
        except (ValueError, TypeError):
            raise _damaged(key) from None

    def forms(self) -> list[str]:
        """Ids of the forms that were put up, of this try and of those that were killed."""
        begins = f"{self._folder}form-"
        return [o.key.removeprefix(begins) for o in self._store.list(begins)]

    def put_up(self, form: str) -> None:
        self._store.create(f"{self._folder}form-{form}", b"")

    def said(self) -> Approval | None:
        key = f"{self._folder}said.json"
        if not self._store.exists(key):
            return None
        try:
            return Approval.model_validate_json(self._store.get(key))
        except ValidationError:
            raise _damaged(key) from None

    def answer(self, approval: Approval) -> Approval:
        """The first answer holds."""
        if self._store.create(f"{self._folder}said.json", approval.model_dump_json().encode()):
            return approval
        return self.said() or approval


def _damaged(key: str) -> DataError:
    return DataError(
        "the record of an approval is damaged",
        where=key,
        kept="every model and every champion; nothing was promoted",
        next_command="bring the object back from a backup, or delete it: then the question is asked again",
    )
