"""What `medgr2 doctor` asks of a server: whether it is there, what it has, and, when told to, one real question."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import aiohttp
from pydantic import BaseModel, ConfigDict
from pydantic_core import from_json

from medgr2.infra.settings import ServerSettings
from medgr2.models.engines.http_safety import checked_url
from medgr2.models.engines.http_session import list_models, open_session
from medgr2.schemas.errors import NightStoppedError, SettingsError

PATIENCE_SECONDS = 15.0
_FORM = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["red", "green", "blue"]}},
    "required": ["colour"],
    "additionalProperties": False,
}


class Greeting(BaseModel):
    """What the server said without being asked anything."""

    model_config = ConfigDict(frozen=True)

    models: tuple[str, ...]
    milliseconds: float


class Answer(BaseModel):
    """What came of one real question about a green square."""

    model_config = ConfigDict(frozen=True)

    text: str
    in_form: bool
    """The reply has the JSON form that was asked for, from the server's hold or the model's own skill."""
    seconds: float


def greet(settings: ServerSettings) -> Greeting:
    """Free of charge: the list of models, which may be empty where a server keeps none."""
    url = checked_url(settings)

    async def ask() -> Greeting:
        async with open_session(settings) as session:
            began = time.perf_counter()
            async with session.get(f"{url}/models", allow_redirects=False) as reply:
                status = reply.status
                await reply.read()
            if status in (401, 403):
                raise SettingsError(
                    f"the server refuses the key (status {status})",
                    where=f"{url}/models",
                    next_command=f"set {settings.variable('API_KEY')}",
                )
            waited = 1000 * (time.perf_counter() - began)
            return Greeting(models=tuple(await list_models(session, url)), milliseconds=waited)

    try:
        return asyncio.run(asyncio.wait_for(ask(), PATIENCE_SECONDS))
    except (aiohttp.ClientError, OSError, TimeoutError) as e:
        raise SettingsError(
            f"no server answers there: {type(e).__name__}",
            where=f"{url}/models",
            next_command=f"start the server, or mend {settings.variable('URL')}; it ends with /v1 as a rule",
        ) from None


def try_picture(settings: ServerSettings) -> Answer:
    """One call, with a picture that a machine drew."""
    from PIL import Image

    from medgr2.models.engines.http import HttpEngine
    from medgr2.models.engines.seam import Completion, Conversation, Request

    def conversation(picture: Path) -> Conversation[Completion]:
        reply = yield Request(
            picture, 'What colour is the square? Reply as {"colour": "..."}', temperature=0, form=_FORM
        )
        return reply

    hasty = settings.model_copy(update={"patience_seconds": PATIENCE_SECONDS, "in_flight": 1})
    with tempfile.TemporaryDirectory(prefix="medgr2-doctor-") as folder:
        picture = Path(folder) / "square.png"
        Image.new("RGB", (64, 64), (40, 160, 60)).save(picture)
        (held,) = HttpEngine(hasty, settings.model).hold([("doctor", conversation(picture))])
    if held.result is None:
        why = held.trouble.reason if held.trouble else "nothing"
        raise NightStoppedError(
            f"the server does not answer a question about a picture: {why}",
            where=settings.url,
            next_command=f"serve a vision-language model, or name one in {settings.variable('MODEL')}",
        )
    try:
        reply = from_json(held.result.text)
        in_form = isinstance(reply, dict) and reply.get("colour") in ("red", "green", "blue")
    except ValueError:
        in_form = False
    return Answer(text=held.result.text[:60], in_form=in_form, seconds=held.usage.seconds)
