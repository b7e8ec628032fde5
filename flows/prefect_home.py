"""Where Prefect keeps its things. Must run before `prefect` is imported: it reads its settings then."""

from __future__ import annotations

import os
from pathlib import Path

from medgr2.infra.settings import Settings
from medgr2.schemas.errors import MissingExtraError


def prepare(settings: Settings) -> None:
    """An embedded server with a home beside the data, unless the environment names a server or a home."""
    defaults = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        # A person at the terminal gets our own one message; the run's log, and so the UI, keeps everything.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        # A slow machine takes longer than Prefect's own 20 s to start its embedded server.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "240",
    }
    if "PREFECT_API_URL" not in os.environ and "PREFECT_HOME" not in os.environ:
        home = settings.storage.cache_folder.parent if settings.storage.is_s3 else Path(settings.storage.root)
        defaults["PREFECT_HOME"] = str(home / "prefect")
        defaults["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "true"
        (home / "prefect").mkdir(parents=True, exist_ok=True)
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    try:
        import prefect  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtraError(
            "flows need Prefect, which is not installed", next_command="pip install 'medgr2[all]'"
        ) from None
