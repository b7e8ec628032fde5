"""Refusals that no request is to blame for, and those that one request is: a gateway may forbid one prompt for good.

A server that has answered, or that lists the model to whoever has this key, is the right one: then the request is
tried again and fails by itself, unless so many others are refused too, in a row, that it is the server after all.
"""

from __future__ import annotations

import aiohttp

from medgr2.infra.settings import ServerSettings
from medgr2.models.engines.http_door import Door
from medgr2.models.engines.http_limits import OPENS_AFTER
from medgr2.models.engines.http_session import list_models
from medgr2.models.engines.seam import Request
from medgr2.schemas.errors import SettingsError


class Refusals:
    def __init__(self, settings: ServerSettings, model: str, door: Door, session: aiohttp.ClientSession) -> None:
        self._url = settings.url.rstrip("/")
        self._variable = settings.variable
        self._model = model
        self._door = door
        self._session = session
        self._refused: set[tuple[str, tuple[int, ...]]] = set()
        self._answered = 0
        """When the first of them was refused."""

    async def met(self, status: int, request: Request) -> None:
        """Raises what stops the stage, or returns: then this request is to blame, as far as can be told."""
        if self._answered != self._door.answered:
            self._answered = self._door.answered
            self._refused.clear()
        self._refused.add((request.text, request.seeds))
        if len(self._refused) >= OPENS_AFTER:
            raise self._error(status, await list_models(self._session, self._url))
        if not self._door.answered:
            listed = await list_models(self._session, self._url)
            if status != 403 or self._model not in listed:  # what forbids one prompt says 403
                raise self._error(status, listed)

    def _error(self, status: int, listed: list[str]) -> SettingsError:
        if status in (401, 403):
            what, then = (
                f"the server refuses the key (status {status})",
                f"set {self._variable('API_KEY')}, then the same command again",
            )
        elif status == 404:
            known = f"it lists: {', '.join(name[:80] for name in listed[:10])}" if listed else "it lists none"
            what, then = (
                f"the server knows no model {self._model!r} ({known})",
                f"set {self._variable('MODEL')} to one of them; the URL ends with /v1 as a rule",
            )
        else:
            what, then = (
                f"the server sends requests elsewhere (status {status}); they are not followed",
                f"set {self._variable('URL')} to where it answers itself",
            )
        return SettingsError(what, where=self._url, kept="every answer that came", next_command=then)
