"""Delays of one transmission from many windows of it: per pair the median, and how sure that is from noise."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

MEDIAN_VARIANCE = math.pi / 2
"""Of a median over a mean's, for many normal values."""
MAD_TO_SIGMA = 1.4826
"""From the median of |x| to the standard deviation of a normal variable."""


def combine_windows(
    tdoa_s_NRR: Float64[ndarray, "N R R"], precision_per_s2_NRR: Float64[ndarray, "N R R"]
) -> tuple[Float64[ndarray, "R R"], Float64[ndarray, "R R"]]:
    """Pair delays (R, R) in seconds over N windows, and 1 / variance of each; 0 and 0 where no window has the pair.

    The median is moved neither by windows that locked onto a wrong peak nor by a few that claim too much. Its variance
    is pi / 2 over the number of windows, times a window's: by their scatter (median absolute deviation) or by the
    precision they claim, whichever is larger, since few windows do not show their scatter. What all windows share,
    such as the delay of a receiver or of the path, does not show here: it is not averaged down.

    Args:
        tdoa_s_NRR: Arrival at i less arrival at j, antisymmetric.
        precision_per_s2_NRR: 1 / variance from noise, symmetric; 0 where a window lacks the pair.
    """
    valid = precision_per_s2_NRR > 0
    count = valid.sum(axis=0)
    some = count > 0
    middle_s = _median(tdoa_s_NRR, valid)
    scatter_s = MAD_TO_SIGMA * _median(np.abs(tdoa_s_NRR - middle_s), valid)
    claimed_s2 = _median(1 / np.where(valid, precision_per_s2_NRR, 1.0), valid)
    window_s2 = np.maximum(scatter_s**2, claimed_s2)
    precision = np.where(some, count, 0) / np.where(some, MEDIAN_VARIANCE * window_s2, 1.0)
    # One window is no median of many.
    precision = np.where(count == 1, precision * MEDIAN_VARIANCE, precision)
    return middle_s, precision


def _median(value_NRR: np.ndarray, valid_NRR: np.ndarray) -> np.ndarray:
    """Over the windows that are valid; 0 where none is."""
    return np.ma.filled(np.ma.median(np.ma.masked_array(value_NRR, ~valid_NRR), axis=0), 0.0)
