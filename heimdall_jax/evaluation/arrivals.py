"""Arrival times of every receiver, and how sure they are, from the delays of pairs.

tau_ij is the arrival at i less the arrival at j: positive when i hears later. The receivers of one transmission share
their noise between pairs: R receivers give R - 1 independent differences, not R (R - 1) / 2. So pairs are first
reduced to one time per receiver, whose errors are independent; differences of those times have the full, correlated
covariance of TDOA.
"""

from __future__ import annotations

import numpy as np
import scipy
from jaxtyping import Bool, Float64
from numpy import ndarray

Pairs = Float64[ndarray, "N R R"]


def arrival_times_s(tdoa_s_NRR: Pairs, precision_per_s2_NRR: Pairs) -> Float64[ndarray, "N R"]:
    """Times (N, R) in seconds about a common zero that fit the pair delays best: weighted least squares.

    The normal equations' matrix is the Laplacian of the graph of pairs; its pseudo-inverse leaves the common time out.

    Args:
        tdoa_s_NRR: Delays, antisymmetric; ignored where the precision is 0.
        precision_per_s2_NRR: 1 / variance of each delay, symmetric; 0 where there is none.
    """
    largest = precision_per_s2_NRR.max(axis=(1, 2), keepdims=True)
    weight = precision_per_s2_NRR / np.where(largest > 0, largest, 1.0)
    laplacian = np.eye(weight.shape[1]) * weight.sum(axis=2)[:, :, None] - weight
    late = np.sum(weight * np.where(weight > 0, tdoa_s_NRR, 0.0), axis=2)
    return np.einsum("nij,nj->ni", np.linalg.pinv(laplacian, rcond=1e-12, hermitian=True), late)


def noise_variance_s2(precision_per_s2_NRR: Pairs) -> Float64[ndarray, "N R"]:
    """Variance (N, R) of each receiver's own noise such that v_i + v_j is the variance of pair ij, least squares.

    Taking the pairs for independent instead (the inverse Laplacian of their precisions) would claim R / 2 times too
    little variance for R equal receivers. Relative errors count, so that a weak receiver's huge variance does not
    decide the others'. Zero where no pair is valid; one pair alone gives each half its variance.
    """
    count = precision_per_s2_NRR.shape[1]
    first, second = np.triu_indices(count, 1)
    design = np.zeros((len(first), count))
    design[np.arange(len(first)), first] = design[np.arange(len(first)), second] = 1.0
    variance = np.zeros(precision_per_s2_NRR.shape[:2])
    for fix, precision in enumerate(precision_per_s2_NRR[:, first, second]):
        valid = precision > 0
        if valid.any():
            scale = precision[valid] / precision[valid].max()
            # The smallest solution where pairs are too few to tell the receivers apart.
            free, *_ = np.linalg.lstsq(design[valid] * scale[:, None], np.ones(int(valid.sum())), rcond=None)
            if (free < 0).any():
                free, _ = scipy.optimize.nnls(design[valid] * scale[:, None], np.ones(int(valid.sum())))
            variance[fix] = free / precision[valid].max()
    return variance


def largest_connected(precision_per_s2_NRR: Pairs) -> Bool[ndarray, "N R"]:
    """Receivers (N, R) of the largest group that valid pairs connect; times of other groups cannot be compared."""
    chosen = np.zeros(precision_per_s2_NRR.shape[:2], bool)
    for fix, precision in enumerate(precision_per_s2_NRR):
        _, group = scipy.sparse.csgraph.connected_components(precision > 0, directed=False)
        sizes = np.bincount(group)
        if sizes.max() > 1:
            chosen[fix] = group == np.argmax(sizes)
    return chosen
