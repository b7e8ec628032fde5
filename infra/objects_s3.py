"""The object store in an S3 bucket, through boto3; it asks of the store no more than a create-only PUT."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from medgr2.infra.object_keys import check_key
from medgr2.infra.objects import ObjectInfo
from medgr2.schemas.errors import NotFoundError, StorageError

if TYPE_CHECKING:
    from medgr2.infra.settings import StorageSettings

DEADLINE_SECONDS = 60.0
WRITERS = 16
_MISSING = {"NoSuchKey", "404", "NotFound"}
_NEXT = {
    "NoSuchBucket": "create the bucket, or correct MEDGR2_STORAGE__ROOT",
    "InvalidAccessKeyId": "set MEDGR2_STORAGE__S3__ACCESS_KEY_ID and MEDGR2_STORAGE__S3__SECRET_ACCESS_KEY",
    "SignatureDoesNotMatch": "check MEDGR2_STORAGE__S3__SECRET_ACCESS_KEY",
    "AccessDenied": "allow this key ListBucket, GetObject, PutObject and DeleteObject on the bucket",
    "403": "check the keys, and allow them ListBucket, GetObject, PutObject and DeleteObject on the bucket",
    "QuotaExceeded": "raise the quota or free space, then run the same command again",
}


class S3Store:
    def __init__(self, storage: StorageSettings, *, any_key: bool = False) -> None:
        """`any_key`: what others named may be read, whatever they called it."""
        self.uri = storage.root
        self._any_key = any_key
        self.bucket, _, self._prefix = storage.root.removeprefix("s3://").partition("/")
        s3 = storage.s3
        self._s3: Any = boto3.session.Session().client(
            "s3",
            endpoint_url=s3.endpoint_url or None,
            region_name=s3.region,
            aws_access_key_id=s3.access_key_id.get_secret_value() if s3.access_key_id else None,
            aws_secret_access_key=s3.secret_access_key.get_secret_value() if s3.secret_access_key else None,
            config=Config(
                connect_timeout=5,
                read_timeout=30,
                retries={"mode": "standard", "total_max_attempts": 4},
                max_pool_connections=32,
                s3={"addressing_style": "path" if s3.endpoint_url else "auto"},
                # Stores other than AWS reject the streamed checksums that boto3 sends unasked.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        with self._errors(""):
            self._s3.list_objects_v2(Bucket=self.bucket, Prefix=self._name("x")[:-1], MaxKeys=1)

    def get(self, key: str) -> bytes:
        with self._errors(key):
            data: bytes = self._s3.get_object(Bucket=self.bucket, Key=self._name(key))["Body"].read()
        return data

    def put(self, key: str, data: bytes) -> None:
        with self._errors(key):
            self._s3.put_object(Bucket=self.bucket, Key=self._name(key), Body=data)

    def put_all(self, objects: Mapping[str, bytes]) -> None:
        with ThreadPoolExecutor(WRITERS) as pool:
            for done in [pool.submit(self.put, key, data) for key, data in objects.items()]:
                done.result()

    def create(self, key: str, data: bytes) -> bool:
        name, mark = self._name(key), uuid.uuid4().hex
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            try:
                self._s3.put_object(
                    Bucket=self.bucket, Key=name, Body=data, IfNoneMatch="*", Metadata={"medgr2-create": mark}
                )
                return True
            except ClientError as e:
                status = e.response["ResponseMetadata"].get("HTTPStatusCode")
                if status == 412:
                    # An answer lost on the way makes boto3 ask again and find its own object there.
                    retried = e.response["ResponseMetadata"].get("RetryAttempts", 0) > 0
                    return retried and self._mark(name) == mark
                if status == 409 and time.monotonic() < deadline:  # two creates at once: ask who won
                    time.sleep(0.05)
                    continue
                raise self._explain(e, key) from None
            except BotoCoreError as e:
                raise self._explain(e, key) from None

    def exists(self, key: str) -> bool:
        try:
            with self._errors(key):
                self._s3.head_object(Bucket=self.bucket, Key=self._name(key))
        except NotFoundError:
            return False
        return True

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        cut = len(self._name("x")) - 1
        with self._errors(prefix):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self._name("x")[:-1] + prefix
            )
            for page in pages:
                for found in page.get("Contents", ()):
                    modified = found["LastModified"].timestamp()
                    yield ObjectInfo(found["Key"][cut:], found["Size"], modified, found.get("ETag", ""))

    def delete(self, key: str) -> None:
        with self._errors(key):
            self._s3.delete_object(Bucket=self.bucket, Key=self._name(key))

    def get_file(self, key: str, path: Path) -> None:
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with self._errors(key):
                self._s3.download_file(self.bucket, self._name(key), str(temporary))
            temporary.replace(path)
        except OSError as e:
            raise StorageError(
                f"cannot write {path}: {e.strerror}", next_command="free space, then run again"
            ) from None
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def put_file(self, key: str, path: Path) -> None:
        with self._errors(key):
            self._s3.upload_file(str(path), self.bucket, self._name(key))

    def _name(self, key: str) -> str:
        if not self._any_key:
            check_key(key)
        return f"{self._prefix}/{key}" if self._prefix else key

    def _mark(self, name: str) -> str:
        with self._errors(name):
            return str(self._s3.head_object(Bucket=self.bucket, Key=name)["Metadata"].get("medgr2-create", ""))

    @contextlib.contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError, boto3.exceptions.Boto3Error) as e:
            raise self._explain(e, key) from None

    def _explain(self, e: Exception, key: str) -> StorageError | NotFoundError:
        cause = e if isinstance(e, ClientError) else e.__cause__ or e.__context__ or e
        if isinstance(cause, ClientError):
            code = cause.response.get("Error", {}).get("Code", "")
            if code in _MISSING:
                return NotFoundError(f"no object {key}", where=self.uri)
            what = f"the store refused: {code} {cause.response.get('Error', {}).get('Message', '')}".strip()
        else:
            code, what = "", f"cannot reach the store: {cause or e}"
            if isinstance(cause, NoCredentialsError | PartialCredentialsError):
                code = "InvalidAccessKeyId"
        return StorageError(
            what,
            where=f"{self.uri}/{key}".rstrip("/"),
            kept="everything written before",
            next_command=_NEXT.get(code, "check MEDGR2_STORAGE__S3__ENDPOINT_URL and the network, then: medgr2 doctor"),
        )
