"""The object store: put, put if absent, get, size; and which errors mean "wait" or "never".

Owns the S3 client and its errors. ``MinioStore`` may be used by many threads. Knows no key's
meaning (manifest).
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from urllib.parse import urlsplit

import certifi
import urllib3
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from processor.errors import ObjectMissing, ObjectTooLarge, StoreError, StoreUnavailable
from processor.settings import StoreSettings

__all__ = ["MinioStore", "ObjectStore"]

# What S3 servers say when the same call may succeed later.
_PASSING = frozenset(
    {"InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable", "SlowDown",
     "SlowDownRead", "SlowDownWrite", "XMinioServerNotInitialized", "XMinioStorageFull"}
)  # fmt: skip
_ABSENT = frozenset({"NoSuchKey", "NoSuchObject"})


class ObjectStore(Protocol):
    """Objects in one bucket of ours, and reads from buckets that we were told of.

    Every method may be called from any thread and raises StoreUnavailable when the store does not
    answer (call again later), StoreError when it refuses.
    """

    bucket: str

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write the object, whatever was there."""
        ...

    def put_if_absent(self, key: str, data: bytes, content_type: str) -> bool:
        """Write the object if there is none under ``key``; of many at once exactly one returns
        True."""
        ...

    def get(self, key: str, max_bytes: int, *, bucket: str | None = None) -> bytes:
        """The object's bytes. Raises ObjectMissing, or ObjectTooLarge before reading more."""
        ...

    def size(self, key: str) -> int | None:
        """The object's size in bytes, None if there is none."""
        ...

    def remove(self, key: str) -> None:
        """Delete the object, if there is one."""
        ...

    def ensure_bucket(self) -> None:
        """Make the bucket if it is missing."""
        ...

    def check(self) -> None:
        """Raise if the bucket can't be reached."""
        ...


class MinioStore:
    """Any S3 server, through minio-py. Never retries by itself: the caller knows for how long."""

    def __init__(self, settings: StoreSettings) -> None:
        url = urlsplit(settings.endpoint)
        access, secret = settings.access_key.get_secret_value(), settings.secret_key
        self.bucket = settings.bucket
        self._endpoint = settings.endpoint
        self._client = Minio(
            url.netloc,
            access_key=access or None,
            secret_key=secret.get_secret_value() or None,
            secure=url.scheme == "https",
            region=settings.region,
            http_client=urllib3.PoolManager(
                timeout=urllib3.Timeout(connect=5.0, read=settings.timeout_s),
                retries=False,
                maxsize=64,  # connections kept: more than the worker has threads
                cert_reqs="CERT_REQUIRED",
                ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
            ),
        )

    def put(self, key: str, data: bytes, content_type: str) -> None:
        with self._errors(key):
            self._client.put_object(
                self.bucket, key, io.BytesIO(data), len(data), content_type=content_type
            )

    def put_if_absent(self, key: str, data: bytes, content_type: str) -> bool:
        # put_object turns If-None-Match into user metadata; the private call sends it as a header.
        # tests/integration/test_store.py pins this.
        headers: dict[str, str | list[str] | tuple[str]] = {
            "If-None-Match": "*",
            "Content-Type": content_type,
        }
        try:
            with self._errors(key):
                self._client._put_object(self.bucket, key, data, headers)
        except _ConditionFailed:
            return False
        return True

    def get(self, key: str, max_bytes: int, *, bucket: str | None = None) -> bytes:
        with self._errors(key):
            response = self._client.get_object(bucket or self.bucket, key)
            try:
                data: bytes = response.read(max_bytes + 1)
                whole = len(data) <= max_bytes
            finally:
                response.close()
                response.release_conn()
        if not whole:
            raise ObjectTooLarge(f"{key} is larger than {max_bytes} bytes")
        return data

    def size(self, key: str) -> int | None:
        try:
            with self._errors(key):
                return self._client.stat_object(self.bucket, key).size
        except ObjectMissing:
            return None

    def remove(self, key: str) -> None:
        with self._errors(key):
            self._client.remove_object(self.bucket, key)

    def ensure_bucket(self) -> None:
        with self._errors(self.bucket):
            if not self._client.bucket_exists(self.bucket):
                try:
                    self._client.make_bucket(self.bucket)
                except S3Error as error:
                    if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                        raise

    def check(self) -> None:
        with self._errors(self.bucket):
            found = self._client.bucket_exists(self.bucket)
        if not found:
            raise StoreError(
                f"store.bucket: there is no bucket {self.bucket!r} at {self._endpoint}; "
                "`speechmill topics create` makes it"
            )

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except S3Error as error:
            status = error.response.status
            if status == 412 or error.code == "PreconditionFailed":
                raise _ConditionFailed(what) from None
            if error.code in _ABSENT:
                raise ObjectMissing(f"there is no object {what}") from None
            if status >= 500 or error.code in _PASSING:
                raise StoreUnavailable(f"{self._endpoint}: {error.code}") from error
            raise StoreError(f"{self._endpoint} refused {what}: {error.code}") from error
        except (ServerError, InvalidResponseError, urllib3.exceptions.HTTPError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise StoreUnavailable(f"{self._endpoint}: {reason}") from error
        except (MinioException, ValueError) as error:  # ValueError: a key that minio-py refuses
            raise StoreError(f"{self._endpoint}: {error}") from error


class _ConditionFailed(StoreError):
    """412: the object is there already."""
