"""MLflow imported in silence, and asked: its failures are the house's own, and a server that is away is waited for."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from heimdall_jax.errors import StorageError
from heimdall_jax.patience import patiently
from heimdall_jax.tracking.failures import failure
from heimdall_jax.tracking.metric_buffer import TrackerAway

ADDRESS = "MLFLOW_TRACKING_URI"
RETRIES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
"""MLflow's own would repeat requests blindly, and a wrong address for minutes; `patience` repeats whole actions."""
HURRY = {**RETRIES, "MLFLOW_HTTP_REQUEST_TIMEOUT": "4"}
"""Seconds that training waits for a server that accepts connections and says nothing."""

Result = TypeVar("Result")


def import_mlflow() -> Any:
    """MLflow, silent and without its telemetry, which it switches on when imported."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    for name, value in RETRIES.items():
        os.environ.setdefault(name, value)
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return mlflow


def ask(what: str, uri: str, action: Callable[[], Result]) -> Result:
    """The result of an action that may be repeated, waited for while the server is away.

    Args:
        what: Is asked for.
        uri: Of the server or database.
        action: May be called several times.

    Raises:
        TrackerAway: The server stays away, or refuses.
        StorageError: The store failed otherwise.
    """
    return patiently(
        f"MLflow at {uri}",
        lambda: ask_once(what, uri, action),
        lambda error: isinstance(error, TrackerAway) and error.passes,
    )


def ask_once(what: str, uri: str, action: Callable[[], Result]) -> Result:
    """The result of an action; MLflow's and its database's failures are the house's own.

    Raises:
        TrackerAway: The server is away, or refuses.
        StorageError: The store failed otherwise.
    """
    try:
        return action()
    except StorageError:
        raise
    except Exception as error:
        known = failure(what, error, uri)
        if known is None:
            raise
        raise known from error


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables set inside, which MLflow reads at every request, and as they were after it."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
