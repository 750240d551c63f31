"""The Cramér-Rao bound of each fix in real data, had powers departed from a distance law independently of each other.

It is a reference and binds only who knows no more than the law: real departures belong to places, so that an estimator
with a map of them can be below it.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from heimdall_jax.evaluation.bounds import covariance_from_information
from heimdall_jax.evaluation.cramer_rao import power_information
from heimdall_jax.evaluation.path_loss import NEAREST_M, fit_path_loss
from heimdall_jax.geodesy import ground_height_m
from heimdall_jax.types import Sample


def law_covariances(train: Sample, samples: Sample, *, origin_deg: tuple[float, float]) -> Float64[ndarray, "N 2 2"]:
    """Covariance (N, 2, 2) in square metres that no unbiased estimator from powers on a fitted law goes below.

    Exponent, spread about the law and spread of transmitted powers are `fit_path_loss`'s, a level of each receiver
    removed. The transmitted power is unknown with that spread, which is known as well as the law is. Infinite where
    the receivers that heard leave the place open: fewer than two, or all in one direction.

    Args:
        train: Samples (M, ...) with a known truth, to which the law is fitted.
        samples: Of the fixes (N, ...), at their true places.
        origin_deg: Of the local frame.
    """
    law = fit_path_loss(train)
    receiver_m = samples["receiver_m"].astype(np.float64)
    # The law's distances are to antennas so far above the ground.
    up_m = ground_height_m(receiver_m, origin_deg) + NEAREST_M
    information = power_information(
        samples["position_m"].astype(np.float64),
        np.concatenate([receiver_m, up_m[..., None]], axis=-1),
        samples["heard"],
        exponent=law.exponent,
        covariance_db2_RR=law.sigma_db**2 * np.eye(receiver_m.shape[1]),
        power_std_db=law.spread_db,
        origin_deg=origin_deg,
    )
    return covariance_from_information(information)
