from __future__ import annotations

import http.server
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from ports import free_port
from pydantic import SecretStr
from storage_fixtures import BUCKET, s3_settings

from medgr2.infra.objects_s3 import S3Store
from medgr2.infra.opening import open_store, prove_create_only
from medgr2.infra.settings import StorageSettings
from medgr2.schemas.errors import StorageError


@contextmanager
def proxy(target: str, *, lose_first_put: bool = False, drop_condition: bool = False) -> Iterator[str]:
    """A gateway in between that loses an answer, or a header, as real ones do."""
    lost: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
            if drop_condition:
                headers = {k: v for k, v in headers.items() if k.lower() != "if-none-match"}
            request = urllib.request.Request(target + self.path, body or None, headers, method=self.command)
            try:
                answer = urllib.request.urlopen(request, timeout=300)
            except urllib.error.HTTPError as e:
                answer = e
            content = answer.read()
            if lose_first_put and self.command == "PUT" and not lost:
                lost.append(self.path)
                self.close_connection = True
                return  # the object is there, and nobody is told
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _pass_on

        def log_message(self, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(timeout=10)
        server.server_close()


def test_a_create_whose_answer_was_lost_is_still_ours(moto: str) -> None:
    with proxy(moto, lose_first_put=True) as endpoint:
        store = S3Store(StorageSettings(root=f"s3://{BUCKET}/lost", s3=s3_settings(endpoint)))
        assert store.create("claim", b"mine")
        assert not store.create("claim", b"mine")


def test_a_server_that_ignores_the_condition_is_found_out(moto: str) -> None:
    with proxy(moto, drop_condition=True) as endpoint:
        store = open_store(StorageSettings(root=f"s3://{BUCKET}/lax", s3=s3_settings(endpoint)))
        with pytest.raises(StorageError, match="create-only"):
            prove_create_only(store)


@pytest.mark.s3
def test_wrong_keys_and_a_missing_bucket_are_named(s3_storage: StorageSettings, request: pytest.FixtureRequest) -> None:
    with pytest.raises(StorageError) as missing:
        open_store(s3_storage.model_copy(update={"root": "s3://no-such-bucket-here/x"}))
    assert "create the bucket" in str(missing.value)
    if "moto" in request.node.name:
        return  # moto_server lets everybody in
    wrong = s3_storage.s3.model_copy(update={"secret_access_key": SecretStr("wrong")})
    with pytest.raises(StorageError) as refused:
        open_store(s3_storage.model_copy(update={"s3": wrong}))
    assert "SECRET_ACCESS_KEY" in str(refused.value)
    unknown = s3_storage.s3.model_copy(update={"access_key_id": SecretStr("nobody")})
    with pytest.raises(StorageError) as refused:
        open_store(s3_storage.model_copy(update={"s3": unknown}))
    assert "ACCESS_KEY_ID" in str(refused.value)


def test_an_endpoint_where_nobody_listens_is_given_up(unused_port: int) -> None:
    dead = StorageSettings(root=f"s3://{BUCKET}", s3=s3_settings(f"http://127.0.0.1:{unused_port}"))
    with pytest.raises(StorageError) as e:
        open_store(dead)
    assert "MEDGR2_STORAGE__S3__ENDPOINT_URL" in str(e.value)
    assert e.value.__suppress_context__


@pytest.fixture
def unused_port() -> int:
    return free_port()
