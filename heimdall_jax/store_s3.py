"""Reaching an S3 server: what goes wrong and passes by itself is waited for, all else is told with its cure."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from heimdall_jax import progress
from heimdall_jax.errors import StorageError, explain
from heimdall_jax.patience import patiently

Result = TypeVar("Result")

CONNECTIONS = 32
"""To one server at once."""
LARGE, PART = 8 << 20, 1 << 20
"""Bytes from which on a transfer says how far it is, and how often."""
MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
REFUSED = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "403", "ExpiredToken", "InvalidToken"}
)
BUSY = frozenset({"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded", "429"}) | {
    "ConditionalRequestConflict"
}
"""Codes of S3's answers; those to HEAD carry no more than the status."""
CREDENTIALS = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and what they are allowed."
BUCKET = "Check the bucket's name, or create it."
ADDRESS = "Check AWS_ENDPOINT_URL and that the server runs; what was done so far is kept."


class MissingObjectError(StorageError):
    """No object has this key."""


class ExistingObjectError(StorageError):
    """An object has this key already, and only a new one was to be put."""


def s3_client() -> Any:
    """A client that other servers than Amazon's understand: no checksum trailers unless required."""
    from boto3.session import Session
    from botocore.config import Config

    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=10,
        read_timeout=30,
        retries={"total_max_attempts": 1, "mode": "standard"},  # `at_s3` tries again
        max_pool_connections=CONNECTIONS,
    )
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    # A session of its own: boto3's remembers the first credentials it found, and is not made for threads.
    return Session().client("s3", region_name=region, config=config)


def missing(key: str, where: object) -> MissingObjectError:
    """The error for a key that `where` does not hold."""
    return MissingObjectError(
        explain(f"object {key!r}", got=f"nothing in {where}", allowed="an existing key", cure="Check the key.")
    )


def existing(key: str, where: object) -> ExistingObjectError:
    """The error for a key that `where` holds already."""
    what, got = f"object {key!r}", f"one in {where} already"
    return ExistingObjectError(explain(what, got=got, allowed="a new key", cure="Choose another key."))


def at_s3(key: str, bucket: str, action: Callable[[], Result]) -> Result:
    """The result of `action`, which asks an S3 server; it is asked again while it is away or busy.

    Args:
        key: That is asked for.
        bucket: That holds it.
        action: May be called several times.

    Raises:
        MissingObjectError: No object has the key.
        ExistingObjectError: One has, and a new one was to be put.
        StorageError: Wrong credentials or bucket, at once; or no answer for `patience.patience_s`.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return patiently(f"s3://{bucket}", action, _passes)
    except (BotoCoreError, ClientError, Boto3Error) as error:
        code = _code(error)
        if code in MISSING:
            raise missing(key, f"s3://{bucket}") from error
        if code == "PreconditionFailed":
            raise existing(key, f"s3://{bucket}") from error
        got = " ".join(str(error).split())
        raise StorageError(
            explain(f"object {key!r} in s3://{bucket}", got=got, allowed="a reachable bucket", cure=_cure(error, code))
        ) from error


def received(key: str, answer: Mapping[str, Any]) -> bytes:
    """The bytes of S3's answer; how far they are is told where they are many.

    Raises:
        IncompleteReadError: botocore's, for a connection that ended before all of it came; `at_s3` asks again.
    """
    from botocore.exceptions import IncompleteReadError

    promised, body = answer["ContentLength"], answer["Body"]
    if promised < LARGE:
        data = body.read()
    else:
        work = _transfer("down", key)
        parts = list(progress.counted(body.iter_chunks(PART), promised, work, progress.BYTES, each=PART))
        data = b"".join(parts)
    if len(data) != promised:
        raise IncompleteReadError(actual_bytes=len(data), expected_bytes=promised)
    return data


def to_send(key: str, data: bytes) -> bytes | io.BytesIO:
    """What a put sends; how far it is is told where it is much."""
    return data if len(data) < LARGE else _Upload(key, data)


class _Upload(io.BytesIO):
    """Bytes that say how many of them were read."""

    def __init__(self, key: str, data: bytes) -> None:
        super().__init__(data)
        self._work, self._total = _transfer("up", key), len(data)

    def read(self, size: int | None = -1, /) -> bytes:
        before = self.tell()
        data = super().read(size)
        done = self.tell()
        if data and (done // PART > before // PART or done == self._total):
            progress.tell(self._work, done, self._total, progress.BYTES)
        return data


def _transfer(way: str, key: str) -> str:
    return f"{way}loading {key.rpartition('/')[2]}"


def _code(error: Exception) -> str:
    answer = getattr(error, "response", None)
    return str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, dict) else ""


def _passes(error: BaseException) -> bool:
    """Whether it may be gone in a while: no or half an answer, or one that says to come again."""
    from botocore.exceptions import ClientError, ConnectionError, HTTPClientError, IncompleteReadError

    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or status == 429 or _code(error) in BUSY
    return isinstance(error, (ConnectionError, HTTPClientError, IncompleteReadError))


def _cure(error: Exception, code: str) -> str:
    from botocore.exceptions import NoCredentialsError, PartialCredentialsError

    if code in REFUSED or isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return CREDENTIALS
    return BUCKET if code in {"NoSuchBucket", "InvalidBucketName"} else ADDRESS
