"""The Cramér-Rao bound of each fix in a simulated world, from what its samples and its settings say."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from heimdall_jax.config import WorldConfig
from heimdall_jax.evaluation.bounds import covariance_from_information
from heimdall_jax.evaluation.cramer_rao import power_information, timing_information
from heimdall_jax.types import Sample


def fused_covariances(
    world: WorldConfig, samples: Sample, *, origin_deg: tuple[float, float], power: bool = True, timing: bool = True
) -> Float64[ndarray, "N 2 2"]:
    """Covariance (N, 2, 2) in square metres that no unbiased estimator from arrival times and powers goes below.

    The variance of an arrival is its clock's and the noise's by the measured SNR and rms bandwidth (`features/tdoa.py`,
    Stein's formula shared among R receivers). Powers follow the path-loss law; shadowing is unknown, independent
    between stations, and joined by fading and gain bias; the transmitted power has the world's spread.

    Args:
        world: Exponent and spreads in dB.
        samples: With arrival times; `position_m` is the truth.
        origin_deg: Of the local frame.
        power: Count what powers say.
        timing: Count what times say.
    """
    truth_m = samples["position_m"].astype(np.float64)
    receiver_m = np.concatenate([samples["receiver_m"], samples["receiver_up_m"][..., None]], axis=-1)
    receiver_m = receiver_m.astype(np.float64)
    information = np.zeros((len(truth_m), 2, 2))
    if timing:
        precision = np.where(samples["heard"], samples["arrival_precision_per_s2"], 0.0).astype(np.float64)
        clock_s = samples["clock_sigma_s"].astype(np.float64)
        with np.errstate(divide="ignore"):
            variance_s2 = 1 / precision + clock_s**2
        information += timing_information(truth_m, receiver_m, variance_s2, origin_deg=origin_deg)
    if power:
        apart_db = math.hypot(world.shadowing_db, world.fading_db, world.gain_bias_db)
        information += power_information(
            truth_m,
            receiver_m,
            samples["heard"],
            exponent=world.exponent,
            covariance_db2_RR=apart_db**2 * np.eye(receiver_m.shape[1]),
            power_std_db=(world.power_max_dbm - world.power_min_dbm) / math.sqrt(12),
            origin_deg=origin_deg,
        )
    return covariance_from_information(information)
