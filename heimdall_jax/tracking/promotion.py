"""When a new version of a registered model takes the champion's place: a rule on their tags. Imports no JAX."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import NamedTuple

SAME_TEST = ("dataset", "split", "fingerprint")
"""Tags that two versions share if they were measured on the same rows."""
ERROR, INTERVAL = "error_mean_m", "error_mean_interval_m"


class Version(NamedTuple):
    """A version of a registered model, with its tags."""

    number: str
    tags: Mapping[str, str]


class Verdict(NamedTuple):
    """Whether the candidate takes the champion's place, and why in one line."""

    moves: bool
    reason: str


def judge(candidate: Version, champion: Version | None) -> Verdict:
    """A candidate moves up where there is no champion, or where it is better for sure on the same rows.

    For sure: the upper end of the 95 % interval of its mean error lies below the champion's mean error.
    """
    if champion is None:
        return Verdict(True, f"champion is version {candidate.number}: there was none")
    if champion.number == candidate.number:
        return Verdict(False, f"champion is version {candidate.number} already")
    stays = f"champion stays version {champion.number}:"
    for tag in SAME_TEST:
        ours, theirs = candidate.tags.get(tag), champion.tags.get(tag)
        if ours is None or ours != theirs:
            return Verdict(False, f"{stays} not comparable, its {tag} is {theirs}, that of {candidate.number} {ours}")
    error_m, its_error_m = _number(candidate.tags.get(ERROR)), _number(champion.tags.get(ERROR))
    high_m = _upper_end(candidate.tags.get(INTERVAL))
    if not all(map(math.isfinite, (error_m, its_error_m, high_m))):
        return Verdict(False, f"{stays} a mean error or its interval is unknown")
    told = f"{error_m:.1f} m (95 %: up to {high_m:.1f} m) against {its_error_m:.1f} m"
    if high_m < its_error_m:
        return Verdict(True, f"champion is version {candidate.number}: {told} of version {champion.number}")
    return Verdict(False, f"{stays} version {candidate.number} is not better for sure, {told}")


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _upper_end(text: str | None) -> float:
    """Of an interval written as a JSON list; NaN where there is none."""
    try:
        low, high = json.loads(text or "[]")
        return float(high) if float(low) <= float(high) else math.nan
    except (ValueError, TypeError):
        return math.nan
