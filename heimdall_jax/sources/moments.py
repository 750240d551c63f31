"""Moments as text, to the nanosecond."""

from __future__ import annotations

import datetime as dt
import re

from heimdall_jax.errors import DataError, explain
from heimdall_jax.sources.plausible import YEARS

MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[.,](\d{1,30}))?(?:Z|\+00:?00)")


def moment_ns(text: str, where: str) -> int:
    """Unix time in nanoseconds of ISO 8601 in UTC; further digits are dropped.

    Raises:
        DataError: It is no such text, or no year that can be meant.
    """
    try:
        match = MOMENT.fullmatch(text)
        moment = dt.datetime.fromisoformat(f"{match[1]}+00:00") if match else None
    except ValueError:
        match = moment = None
    if match is None or moment is None or not YEARS[0] <= moment.year < YEARS[1]:
        allowed = "a moment in UTC such as 2026-01-31T12:00:00.123456789Z"
        raise DataError(explain(where, got=text, allowed=allowed, cure="Correct it."))
    return round(moment.timestamp()) * 1_000_000_000 + int((match[2] or "").ljust(9, "0")[:9])
