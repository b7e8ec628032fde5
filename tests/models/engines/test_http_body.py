"""What is sent, and what is made of what comes back."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from medgr2.infra.settings import GeneratorSettings
from medgr2.models.engines.http_body import Dialect, error_code, read_reply
from medgr2.models.engines.seam import Exchange, Request
from medgr2.schemas.errors import DataError

PNG = b"\x89PNG\r\n\x1a\nrest"
FORM = {"type": "object"}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture"
    path.write_bytes(PNG)
    return path


def sent(dialect: Dialect, request: Request) -> dict[str, Any]:
    return json.loads(dialect.body(request))


def test_a_picture_travels_with_the_first_words(picture: Path) -> None:
    request = Request(picture, "again", seeds=(2**40 + 5,), earlier=(Exchange("first", "reply"),), form=FORM)
    body = sent(Dialect("m", set(), set()), request)
    first, second, third = body["messages"]
    assert [part["type"] for part in first["content"]] == ["image_url", "text"]
    assert first["content"][0]["image_url"]["url"] == f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert first["content"][1]["text"] == "first"
    assert second == {"role": "assistant", "content": "reply"}
    assert third == {"role": "user", "content": "again"}
    assert body["seed"] == 5
    assert body["response_format"]["json_schema"]["schema"] == FORM


def test_text_alone_is_plain(picture: Path) -> None:
    body = sent(Dialect("m", set(), set()), Request(None, "hello", temperature=0.0, max_new_tokens=9))
    assert body["messages"] == [{"role": "user", "content": "hello"}]
    assert (body["max_tokens"], body["temperature"]) == (9, 0.0)
    assert "response_format" not in body


@pytest.mark.parametrize(
    ("magic", "kind"), [(b"\xff\xd8\xff", "jpeg"), (b"GIF89a", "gif"), (b"RIFF0000WEBP", "webp"), (b"BM00", "bmp")]
)
def test_the_kind_is_read_off_the_bytes(tmp_path: Path, magic: bytes, kind: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(magic + b"data")
    body = sent(Dialect("m", set(), set()), Request(path, "q"))
    assert body["messages"][0]["content"][0]["image_url"]["url"].startswith(f"data:image/{kind};")


def test_what_is_no_picture_is_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"<svg onload=...>")
    with pytest.raises(DataError):
        Dialect("m", set(), set()).body(Request(path, "q"))


def refusal(message: str, **more: str) -> bytes:
    return json.dumps({"error": {"message": message, **more}}).encode()


@pytest.mark.parametrize(
    ("said", "name"),
    [
        (refusal("`guided_json` is not supported"), "response_format"),
        (refusal("Unknown parameter", param="response_format"), "response_format"),
        (refusal("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."), "max_tokens"),
        (refusal("extra fields not permitted: seed"), "seed"),
        (refusal("'top_logprobs' is not supported with this model"), "logprobs"),
        (refusal("Unsupported parameter", param="logprobs"), "logprobs"),
        (json.dumps({"detail": [{"loc": ["body", "seed"], "msg": "extra"}]}).encode(), "seed"),
        (json.dumps({"message": "temperature does not support 0.7"}).encode(), "temperature"),
    ],
)
def test_what_a_server_does_not_know_is_left_out(said: bytes, name: str) -> None:
    dialect, request = Dialect("m", set(), set()), Request(None, "q", form=FORM, likely=5)
    assert name in sent(dialect, request)
    assert dialect.give_up(said, request)
    body = sent(dialect, request)
    assert name not in body
    assert ("top_logprobs" in body) == (name != "logprobs")
    assert body.get("max_completion_tokens") == (96 if name == "max_tokens" else None)
    assert not dialect.give_up(said, request), "once is enough: a refusal that goes on is about the request"


@pytest.mark.parametrize(
    "words",
    [
        "'max_tokens' or 'max_completion_tokens' is too large: 500",
        "context length exceeded",
        "a seedling is not supported",
        "invalid: what is the temperature of the patient?",
    ],
)
def test_a_refusal_of_the_request_takes_nothing_away(words: str) -> None:
    dialect = Dialect("m", set(), set())
    assert not dialect.give_up(refusal(words), Request(None, "what is the temperature of the patient?"))
    assert dialect.without == set()


def test_what_was_understood_once_is_never_given_up() -> None:
    dialect, request = Dialect("m", set(), set()), Request(None, "how does temperature change the seed?", form=FORM)
    dialect.took(request)
    assert not dialect.give_up(refusal("temperature, seed, json_schema"), request)
    plain = Dialect("m", set(), set())
    plain.took(Request(None, "q"))
    assert plain.give_up(refusal("json_schema"), request), "it was never asked for one"


def reply(content: Any, **more: Any) -> bytes:
    return json.dumps({"choices": [{"message": {"content": content}, "finish_reason": "stop"} | more]}).encode()


def test_replies_are_read() -> None:
    priced = GeneratorSettings(price_in=2.0, price_out=10.0)
    data = json.dumps(
        {
            "choices": [{"message": {"content": "text", "reasoning_content": "hm"}, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 50},
        }
    ).encode()
    found = read_reply(data, priced)
    assert found is not None
    completion, usage = found
    assert (completion.text, completion.finished, completion.tokens, completion.tokens_in) == ("text", False, 50, 1000)
    assert (usage.calls, usage.tokens) == (1, 1050)
    assert usage.money == pytest.approx(0.0025)
    parts = read_reply(reply([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), priced)
    assert parts is not None
    assert parts[0].text == "ab"
    silent = read_reply(reply(None), priced)
    assert silent is not None
    assert silent[0].text == ""


@pytest.mark.parametrize("count", ["many", -5, 1.5, 1e300, 2**70, None, [], {"a": 1}])
def test_counts_that_are_none_are_no_reason_to_lose_a_reply(count: Any) -> None:
    body = {"choices": [{"message": {"content": "ok"}}], "usage": {"prompt_tokens": count, "completion_tokens": 3}}
    found = read_reply(json.dumps(body).encode(), GeneratorSettings())
    assert found is not None
    assert (found[1].tokens_in, found[1].tokens_out) == (0, 3)
    body["usage"] = count
    assert read_reply(json.dumps(body).encode(), GeneratorSettings()) is not None


@pytest.mark.parametrize(
    "data", [b"", b"not json", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": "x"}]}', reply(5)]
)
def test_what_is_no_reply_is_none(data: bytes) -> None:
    assert read_reply(data, GeneratorSettings()) is None


def test_a_fault_is_told_by_a_word_and_never_by_a_sentence() -> None:
    assert error_code(refusal("Patient Jane Doe ...", code="context_length_exceeded")) == "context_length_exceeded"
    assert error_code(refusal("Patient Jane Doe ...", type="Jane Doe")) == ""
    assert error_code(b"Jane Doe") == ""


def test_chances_are_those_of_the_first_word() -> None:
    def told(*tokens: tuple[str, list[tuple[str, Any]]]) -> dict[str, Any]:
        listed = [
            {"token": token, "logprob": -0.1, "top_logprobs": [{"token": t, "logprob": p} for t, p in top]}
            for token, top in tokens
        ]
        return {"logprobs": {"content": listed}}

    def likely(more: dict[str, Any]) -> tuple[tuple[str, float], ...]:
        found = read_reply(reply("Yes", **more), GeneratorSettings())
        assert found is not None
        assert found[0].text == "Yes"
        return found[0].likely

    first, then = ("Yes", [("Yes", -0.1), ("No", -2.5)]), (".", [(".", 0.0)])
    assert likely(told(first, then)) == likely(told(("\n", [("x", 0.0)]), first)) == (("Yes", -0.1), ("No", -2.5))
    odd: list[dict[str, Any]] = [
        {}, {"logprobs": None}, {"logprobs": {"content": None}}, {"logprobs": {"content": []}}, {"logprobs": "no"},
        {"logprobs": {"content": [{"token": 7}]}}, told(("Yes", [("Yes", "much")])), told(("Yes", [("Yes", 0.5)])),
        told(("Yes", [("Yes", None)])), told((" ", [])),
    ]  # fmt: skip
    assert [likely(more) for more in odd] == [()] * len(odd)
    assert "logprobs" not in sent(Dialect("m", set(), set()), Request(None, "q")), "only who wants them asks for them"
