"""Trying again, with longer and longer waits, while a server does not answer. Imports no JAX."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TypeVar

import tenacity

from heimdall_jax.errors import ConfigError, explain

Result = TypeVar("Result")
SECONDS = "HEIMDALL_PATIENCE_SECONDS"
"""Environment variable: how long a server may be away."""
DEFAULT_S = 120.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 10.0

_log = logging.getLogger(__name__)


def patience_s() -> float:
    """Seconds that a server may be away before what needs it fails.

    Raises:
        ConfigError: The environment's value is no number of seconds.
    """
    text = os.environ.get(SECONDS, "")
    try:
        seconds = float(text) if text else DEFAULT_S
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ConfigError(explain(SECONDS, got=repr(text), allowed="seconds, 0 or more", cure="Correct or unset it."))
    return seconds


def patiently(what: str, action: Callable[[], Result], passes: Callable[[BaseException], bool]) -> Result:
    """The result of `action`, which is called again while it fails with what passes by itself.

    Waits grow from a quarter of a second to ten, with jitter, and end after `patience_s`; the last error is then
    raised. The first failure is logged as a warning, so that who watches knows what is being waited for.

    Args:
        what: Is not answering, for the log.
        action: May be called many times: a second call must do no more than one would.
        passes: Whether an error may be gone in a while.
    """
    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception(passes),
        wait=tenacity.wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S),
        stop=tenacity.stop_after_delay(patience_s()),
        before_sleep=lambda state: _tell(what, state),
        reraise=True,
    )
    return attempts(action)


def _tell(what: str, state: tenacity.RetryCallState) -> None:
    if state.attempt_number == 1:
        _log.warning("%s does not answer; trying again for up to %g s", what, patience_s())
