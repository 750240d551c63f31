"""Is one model better than another on the same transmissions? Paired differences, and how sure we are of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy
from jaxtyping import Float64, Int
from numpy import ndarray
from rich.table import Table

from heimdall_jax.errors import DataError, explain
from heimdall_jax.evaluation.calibration import DRAWS, bootstrap_interval, chunks
from heimdall_jax.evaluation.fixes import Fixes
from heimdall_jax.evaluation.table import spoken_m
from heimdall_jax.geodesy import ground_distance_m, local_to_degrees

BETTER, WORSE, UNTOLD = "better", "worse", "no difference can be told"
SAME_TRUTH_M = 0.5
"""Two runs have local frames of their own, and their truths are rounded to centimetres."""
AT_ONCE = 100
"""Draws whose medians are taken at once: 4 MB where there are 5,000 fixes."""
TOLD = 3
"""Rows named in an error."""


def compare(first: Fixes, other: Fixes) -> dict[str, Any]:
    """What `other` errs less or more than `first` on the same transmissions, one by one.

    Differences are of `other` less `first`: below zero it is better. Intervals are of 95 %, by the percentile bootstrap
    over transmissions, of real ones over whole five-minute chunks (Davison and Hinkley 1997, sections 2.4 and 3.8).
    They are about these two trained models on more transmissions of this kind, not about trainings with other seeds.

    Returns:
        `n`; `error_m`, with `mean` and `median` each a `difference` and its `interval` (None with fewer than two
        chunks); `nll_nats_per_fix` likewise; `better_share` and `equal_share` of the fixes; and the `verdict` of the
        mean error: better, worse, or no difference can be told, where the interval holds zero.

    Raises:
        DataError: They are of other rows, or place one transmission differently.
    """
    order = _paired(first, other)
    before_m, after_m = first.error_m_N, other.error_m_N[order]
    group = None if first.start_time_s_N is None else chunks(first.start_time_s_N)
    change_m, change_nats = after_m - before_m, other.nll_N[order] - first.nll_N
    mean = _told(float(change_m.mean()), bootstrap_interval(change_m, group))
    return {
        "n": len(change_m),
        "error_m": {
            "mean": mean,
            "median": _told(
                _median_difference(before_m, after_m), median_difference_interval(before_m, after_m, group)
            ),
        },
        "nll_nats_per_fix": _told(float(change_nats.mean()), bootstrap_interval(change_nats, group)),
        "better_share": float((change_m < 0).mean()),
        "equal_share": float((change_m == 0).mean()),
        "verdict": verdict(mean["interval"]),
    }


def compare_all(fixes: Mapping[str, Fixes]) -> dict[str, Any]:
    """The first run's name as `first`, and under `others` what `compare` says of each other run beside it, by name.

    Raises:
        DataError: As `compare`, with the other run's name.
    """
    (first, its), *others = fixes.items()
    found = {}
    for name, other in others:
        try:
            found[name] = compare(its, other)
        except DataError as error:
            raise DataError(f"{name} beside {first}: {error}") from error
    return {"first": first, "others": found}


def verdict(interval: list[float] | None) -> str:
    """In words, of the interval of a difference of which less is better."""
    if interval is None or interval[0] <= 0 <= interval[1]:
        return UNTOLD
    return BETTER if interval[1] < 0 else WORSE


def median_difference_interval(
    before_N: Float64[ndarray, " N"], after_N: Float64[ndarray, " N"], group_N: Int[ndarray, " N"] | None = None
) -> tuple[float, float] | None:
    """95 % interval of median(after) - median(before), pairs (N,) resampled whole, and whole groups (N,) where given.

    None with fewer than two groups.
    """
    _, number = np.unique(np.arange(len(before_N)) if group_N is None else group_N, return_inverse=True)
    order, size = np.argsort(number.reshape(-1), kind="stable"), np.bincount(number.reshape(-1))
    first = np.cumsum(size) - size
    if len(size) < 2:
        return None

    def difference(drawn: np.ndarray) -> float:
        taken = size[drawn]
        within = np.arange(taken.sum()) - np.repeat(np.cumsum(taken) - taken, taken)
        rows = order[np.repeat(first[drawn], taken) + within]
        return _median_difference(before_N[rows], after_N[rows])

    asked: dict[str, Any] = {"n_resamples": DRAWS, "batch": AT_ONCE, "vectorized": False, "method": "percentile"}
    found = scipy.stats.bootstrap((np.arange(len(size)),), difference, rng=np.random.default_rng(0), **asked)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def comparison_table(compared: Mapping[str, Any]) -> Table:
    """Of each other run beside the first: what `compare_all` gives."""
    some = next(iter(compared["others"].values()))
    heading = f"beside {compared['first']}, the same {some['n']:,} fixes; less is better"
    table = Table("", *COLUMNS, title=heading, title_justify="left", caption="95 % intervals in brackets")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, told in compared["others"].items():
        table.add_row(name, *comparison_cells(told))
    return table


COLUMNS = ("mean error", "median error", "nats per fix", "smaller error", "verdict")
"""Of tables of comparisons; less is better in the first three."""


def comparison_cells(told: Mapping[str, Any]) -> tuple[str, ...]:
    """The cells under `COLUMNS` of one comparison."""
    errors = (in_words(told["error_m"][key], signed_m) for key in ("mean", "median"))
    equal = f", {told['equal_share']:.0%} equal" if told["equal_share"] else ""
    nats = in_words(told["nll_nats_per_fix"], lambda value: f"{value:+.3f}")
    return (*errors, nats, f"{told['better_share']:.0%} of fixes{equal}", told["verdict"])


def in_words(told: Mapping[str, Any], spoken: Any) -> str:
    """A difference and its interval."""
    interval = told["interval"]
    within = "" if interval is None else f" ({spoken(interval[0])} to {spoken(interval[1])})"
    return f"{spoken(told['difference'])}{within}"


def signed_m(value: float) -> str:
    """A difference of distances, with its sign."""
    return f"{'+' if value > 0 else '-' if value < 0 else ''}{spoken_m(abs(value))}"


def _told(difference: float, interval: tuple[float, float] | None) -> dict[str, Any]:
    return {"difference": difference, "interval": None if interval is None else list(interval)}


def _median_difference(before_N: np.ndarray, after_N: np.ndarray) -> float:
    return float(np.median(after_N) - np.median(before_N))


def _paired(first: Fixes, other: Fixes) -> np.ndarray:
    """Row of `other` for each row of `first`."""
    places = {name: row for row, name in enumerate(other.session_ids)}
    lost = [name for name in first.session_ids if name not in places]
    added = sorted(places.keys() - set(first.session_ids))
    cure = "Measure both on the same rows: give --data and --split, or leave one out."
    if lost or added:
        parts = (("only the first has", lost), ("only the other has", added))
        got = "; ".join(f"{len(names):,} rows {who}, as {', '.join(names[:TOLD])}" for who, names in parts if names)
        raise DataError(explain("paired runs", got=got, allowed="the same test rows", cure=cure))
    order = np.array([places[name] for name in first.session_ids])
    theirs = local_to_degrees(other.truth_m_NE[order], other.origin_deg)
    apart_m = ground_distance_m(local_to_degrees(first.truth_m_NE, first.origin_deg), theirs)
    moved = np.flatnonzero(apart_m > SAME_TRUTH_M)
    if len(moved):
        names = ", ".join(f"{first.session_ids[row]} by {spoken_m(float(apart_m[row]))}" for row in moved[:TOLD])
        got = f"{len(moved):,} whose true places differ, as {names}"
        raise DataError(explain("paired runs", got=got, allowed="the same test rows", cure=cure))
    return order
