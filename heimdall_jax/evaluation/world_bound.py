"""The Cramér-Rao bound of each fix in a simulated world, from what was sent and the world's settings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from heimdall_jax.config import WorldConfig
from heimdall_jax.evaluation.bounds import covariance_from_information
from heimdall_jax.evaluation.cramer_rao import power_information, timing_information, timing_variance_s2
from heimdall_jax.types import Sample


def fused_covariances(
    world: WorldConfig,
    samples: Sample,
    sent: Any,
    *,
    origin_deg: tuple[float, float],
    sample_rate_hz: float,
    echo_variance_s2: float = 0.0,
    power: bool = True,
    timing: bool = True,
) -> Float64[ndarray, "N 2 2"]:
    """Covariance (N, 2, 2) in square metres that no unbiased estimator from arrival times and powers goes below.

    An arrival's variance is its clock's, the noise's by Stein's formula shared among receivers, with the true SNR and
    the measured rms bandwidth, and the echoes'. Recordings without any usable pair, such as carriers, count as without
    times. Powers follow the path-loss law; shadowing is unknown, independent between stations, and joined by fading
    and gain bias; the transmitted power has the world's spread.

    Args:
        world: Exponent and spreads in dB.
        samples: With arrival times.
        sent: The `Transmission` behind each sample: its place, SNR and clocks.
        origin_deg: Of the local frame.
        sample_rate_hz: Of the recordings: the bandwidth of their noise.
        echo_variance_s2: Of what echoes add to an arrival.
        power: Count what powers say.
        timing: Count what times say.
    """
    truth_m = np.asarray(sent.position_m_E, np.float64)
    receiver_m = np.concatenate([samples["receiver_m"], samples["receiver_up_m"][..., None]], axis=-1)
    receiver_m, heard = receiver_m.astype(np.float64), samples["heard"]
    information = np.zeros((len(truth_m), 2, 2))
    if timing:
        usable = np.asarray(samples["timing_valid"].any(axis=(1, 2)))
        variance_s2 = timing_variance_s2(
            10 ** (np.asarray(sent.snr_db_R, np.float64) / 10),
            samples["bandwidth_hz"].astype(np.float64),
            noise_bandwidth_hz=sample_rate_hz,
            duration_s=world.duration_s,
            clock_sigma_s_NR=np.asarray(sent.clock_sigma_s_R, np.float64),
            heard_NR=heard & usable[:, None],
            extra_variance_s2_NR=np.full(heard.shape, echo_variance_s2),
        )
        information += timing_information(truth_m, receiver_m, variance_s2, origin_deg=origin_deg)
    if power:
        apart_db = math.hypot(world.shadowing_db, world.fading_db, world.gain_bias_db)
        information += power_information(
            truth_m,
            receiver_m,
            heard,
            exponent=world.exponent,
            covariance_db2_RR=apart_db**2 * np.eye(receiver_m.shape[1]),
            power_std_db=(world.power_max_dbm - world.power_min_dbm) / math.sqrt(12),
            origin_deg=origin_deg,
        )
    return covariance_from_information(information)
