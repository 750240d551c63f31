"""Reaching an S3 server: what goes wrong and passes by itself is waited for, all else is told with its cure."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from heimdall_jax.errors import StorageError, explain
from heimdall_jax.patience import patiently

Result = TypeVar("Result")

CONNECTIONS = 32
"""To one server at once."""
MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
REFUSED = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "403", "ExpiredToken", "InvalidToken"}
)
BUSY = frozenset({"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded", "429"})
"""Codes of S3's answers; those to HEAD carry no more than the status."""
CREDENTIALS = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and what they are allowed."
BUCKET = "Check the bucket's name, or create it."
ADDRESS = "Check AWS_ENDPOINT_URL and that the server runs; what was done so far is kept."


class MissingObjectError(StorageError):
    """No object has this key."""


def s3_client() -> Any:
    """A client that other servers than Amazon's understand: no checksum trailers unless required."""
    import boto3
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
    return boto3.Session().client("s3", region_name=region, config=config)


def missing(key: str, where: object) -> MissingObjectError:
    """The error for a key that `where` does not hold."""
    return MissingObjectError(
        explain(f"object {key!r}", got=f"nothing in {where}", allowed="an existing key", cure="Check the key.")
    )


def at_s3(key: str, bucket: str, action: Callable[[], Result]) -> Result:
    """The result of `action`, which asks an S3 server; it is asked again while it is away or busy.

    Args:
        key: That is asked for.
        bucket: That holds it.
        action: May be called several times.

    Raises:
        MissingObjectError: No object has the key.
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
        got = " ".join(str(error).split())
        raise StorageError(
            explain(f"object {key!r} in s3://{bucket}", got=got, allowed="a reachable bucket", cure=_cure(error, code))
        ) from error


def checked_length(data: bytes, promised: int) -> bytes:
    """`data`, unless the connection ended before all of it came.

    Raises:
        IncompleteReadError: botocore's; `at_s3` asks again.
    """
    from botocore.exceptions import IncompleteReadError

    if len(data) != promised:
        raise IncompleteReadError(actual_bytes=len(data), expected_bytes=promised)
    return data


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
