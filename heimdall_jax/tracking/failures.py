"""Failures of MLflow and of what is behind it, as the house's own: which may pass, and which say what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from heimdall_jax.errors import StorageError, explain
from heimdall_jax.tracking.metric_buffer import TrackerAway

LOCAL = ("sqlite:", "file:")
"""Starts of the addresses that no network is between."""
LIBRARIES = {"mlflow", "sqlalchemy", "requests", "urllib3", "botocore", "boto3"}
OUT_OF_REACH = {
    *("ConnectionError", "Timeout", "RetryError", "ChunkedEncodingError"),  # requests
    *("HTTPClientError", "ProtocolError"),  # botocore, urllib3
    *("OperationalError", "InterfaceError", "TimeoutError"),  # SQLAlchemy
}
"""Names of the classes of errors that waiting may cure, which are not imported for being looked at."""
UNKNOWN_HOST, CERTIFICATE = ("NameResolutionError", "Failed to resolve", "Name or service not known"), "SSLError"
REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
BUSY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
UNKNOWN, NAME = "RESOURCE_DOES_NOT_EXIST", "Check the name, and that this is the store that holds it."
"""MLflow's code of what it does not hold (an alias has another, but says so), and what to do then."""
TOLD = 300
"""Characters of a library's message that are repeated."""


def is_local(uri: str) -> bool:
    """Whether an address names a store on this machine's disk."""
    return uri.startswith(LOCAL) or "://" not in uri


def failure(what: str, error: Exception, uri: str) -> StorageError | None:
    """What an error of MLflow's at an address means to a user; None where it is a fault of the program.

    Whatever goes wrong with a server is a `TrackerAway`: training does not end for it.
    """
    chain = list(_chain(error))
    if not any(isinstance(each, OSError) or _library(each) in LIBRARIES for each in chain):
        return None
    problem, allowed = " ".join(str(error).split()), f"a writable MLflow store at {uri}"
    unknown = "not found" in problem or any(getattr(each, "error_code", "") == UNKNOWN for each in chain)
    if is_local(uri):
        cure = NAME if unknown else "Check its address and its disk, or run with --tracking.enabled False."
        if any(words in problem for words in ("No space left", "disk is full")):  # Python's words, SQLite's
            problem, cure = os.strerror(errno.ENOSPC), "Free space and run again with --resume."
        message = explain(what, got=problem[:TOLD], allowed=allowed, cure=cure)
        return TrackerAway(message, passes=True) if "database is locked" in problem else StorageError(message)
    statuses = [status for each in chain if (status := _status(each)) is not None]
    refused = next((status for status in statuses if status in REFUSED), None)
    if refused is not None:
        # Without the answer's own words, which might repeat what was sent.
        cure = (
            "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN; for direct S3, AWS_*."
        )
        got = f"{refused.value} {refused.phrase}"
        return TrackerAway(explain(what, got=got, allowed=f"credentials that {uri} takes", cure=cure), passes=False)
    problem = next((text for each in reversed(chain) if (text := " ".join(str(each).split()))), problem)  # its cause
    cure = NAME if unknown else "Check its address and the server's log, or run with --tracking.enabled False."
    return TrackerAway(explain(what, got=problem[:TOLD], allowed=allowed, cure=cure), passes=_passes(chain, statuses))


def _passes(chain: list[BaseException], statuses: list[HTTPStatus]) -> bool:
    text = " ".join(f"{type(each).__name__} {each}" for each in chain)
    if CERTIFICATE in text or any(words in text for words in UNKNOWN_HOST):
        return False
    if any(status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in BUSY for status in statuses):
        return True
    return any(isinstance(each, (ConnectionError, TimeoutError)) for each in chain) or any(
        _library(each) in LIBRARIES and kind.__name__ in OUT_OF_REACH for each in chain for kind in type(each).__mro__
    )


def _status(error: BaseException) -> HTTPStatus | None:
    """HTTP status that a server answered with, of requests', botocore's or MLflow's errors."""
    answer = getattr(error, "response", None)
    code: Any = None
    if isinstance(answer, dict):
        code = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    elif answer is not None:
        code = getattr(answer, "status_code", None)
    elif type(error).__name__ == "RestException" or "failed with error code" in str(error):
        code = getattr(error, "get_http_status_code", lambda: None)()
    return HTTPStatus(code) if code in set(HTTPStatus) else None


def _library(error: BaseException) -> str:
    return type(error).__module__.split(".")[0]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
