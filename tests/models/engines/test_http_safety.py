"""Medical data goes to another machine only when somebody said so, and a key never in the clear."""

from __future__ import annotations

import pytest

from medgr2.infra.settings import GeneratorSettings
from medgr2.models.engines.http_safety import checked_url
from medgr2.schemas.errors import SettingsError


def to(url: str, **more: object) -> GeneratorSettings:
    return GeneratorSettings.model_validate({"engine": "openai", "model": "m", "url": url, **more})


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "127.8.0.1", "[::1]:8000"])
def test_this_machine_is_fine(host: str) -> None:
    assert checked_url(to(f"http://{host}/v1/", api_key="k")) == f"http://{host}/v1"


@pytest.mark.parametrize("host", ["10.0.0.5", "api.example.org", "127.0.0.1.example.org", "localhost.example.org"])
def test_another_machine_needs_a_word(host: str) -> None:
    with pytest.raises(SettingsError) as refused:
        checked_url(to(f"https://{host}/v1"))
    assert "would be sent" in refused.value.what
    assert "MEDGR2_GENERATOR__OUTSIDE" in refused.value.next_command
    assert checked_url(to(f"https://{host}/v1", outside=True, api_key="k")) == f"https://{host}/v1"


def test_a_key_does_not_travel_in_the_clear() -> None:
    with pytest.raises(SettingsError, match="in the clear"):
        checked_url(to("http://gateway.example.org/v1", outside=True, api_key="very-secret"))
    assert checked_url(to("http://gateway.example.org/v1", outside=True))


@pytest.mark.parametrize(
    "url",
    [
        "http:///v1",
        "http://127.0.0.1:99999/v1",
        "http://[::1/v1",
        "http://user:pw@127.0.0.1/v1",
        "http://127.0.0.1/v1?key=abc",
    ],
)
def test_a_url_holds_no_key(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        checked_url(to(url))
    assert "abc" not in str(refused.value)
    assert "pw@" not in str(refused.value)
