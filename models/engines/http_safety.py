"""Where pictures and reports may be sent. Medical data leaves the machine only when somebody said that it may."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from medgr2.infra.settings import ServerSettings
from medgr2.schemas.errors import SettingsError


def checked_url(settings: ServerSettings) -> str:
    """The URL without a slash at its end, or an error that says what would have been sent where."""
    where = settings.variable("URL")
    try:
        parts = urlsplit(settings.url)
        host = parts.hostname or ""
        port = parts.port
    except ValueError:
        host, port = "", None
    if not host or port == 0 or parts.username or parts.password or parts.query or parts.fragment:
        raise SettingsError(
            "the server's URL is a scheme, a host, a port and a path, and holds no key",
            where=where,
            next_command=f"{where}=http://127.0.0.1:8000/v1 and the key in {settings.variable('API_KEY')}",
        )
    if not is_loopback(host):
        if not settings.outside:
            raise SettingsError(
                f"{settings.sends} would be sent to {host}, which is another machine",
                where=where,
                kept="everything: nothing was sent",
                next_command=f"set {settings.variable('OUTSIDE')}=true where that is allowed",
            )
        if parts.scheme == "http" and settings.api_key is not None:
            raise SettingsError(
                f"the key would travel to {host} in the clear",
                where=where,
                kept="everything: nothing was sent",
                next_command="use https://, or a tunnel that ends on this machine",
            )
    return settings.url.rstrip("/")


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
