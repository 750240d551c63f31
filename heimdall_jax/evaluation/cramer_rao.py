"""Fisher information of a transmitter's place, from arrival times and from received powers. float64, N fixes at once.

    t_i = t0 + d_i(p) / c + e_i            J_i = [grad d_i / c, 1]
    P_i = P0 - 10 n log10 d_i(p) + X_i     J_i = [-(10 n / ln 10) grad d_i / d_i, 1],  X ~ N(0, S)

The transmitter stands on the ground; t0 and P0 are nuisances, removed by a Schur complement. Times and powers have
nuisances and errors of their own, so the information of both together is the sum. Receivers that did not hear add
nothing: their silence is information (small, where the signal is strong) that these bounds leave out.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float64
from numpy import ndarray

from heimdall_jax.errors import DataError, explain
from heimdall_jax.evaluation.ranges import distance_and_slope
from heimdall_jax.geodesy import SPEED_OF_LIGHT_M_PER_S

Information = Float64[ndarray, "N 2 2"]
"""Of east, north, per square metre."""


def timing_variance_s2(
    snr_NR: Float64[ndarray, "N R"],
    bandwidth_rms_hz_N: Float64[ndarray, " N"],
    *,
    noise_bandwidth_hz: float,
    duration_s: float,
    clock_sigma_s_NR: Float64[ndarray, "N R"],
    heard_NR: Bool[ndarray, "N R"],
    extra_variance_s2_NR: Float64[ndarray, "N R"] | None = None,
) -> Float64[ndarray, "N R"]:
    """Least variance (N, R) in square seconds of each receiver's arrival time of one common, unknown signal.

        sigma_i^2 = clock_i^2 + (1 + G) / G / (8 pi^2 B_rms^2 B_n T g_i) + extra_i,   G = sum of g over who heard

    For two receivers the sum of the noise parts is Stein's variance of their delay (IEEE Trans. ASSP 29, 1981). It
    holds above the threshold (about 10 dB after integration).

    Args:
        snr_NR: g, linear, in the noise bandwidth; ignored where not heard.
        bandwidth_rms_hz_N: Root mean square width of the signal's spectrum about its centre.
        noise_bandwidth_hz: B_n: the sample rate of complex samples.
        duration_s: T.
        clock_sigma_s_NR: Standard deviation of each receiver's time.
        heard_NR: Who heard; the others get infinite variance.
        extra_variance_s2_NR: Of what else moves an arrival, such as echoes.
    """
    snr = np.where(heard_NR, snr_NR, 0.0)
    total = snr.sum(axis=1, keepdims=True)
    product = 8 * math.pi**2 * (bandwidth_rms_hz_N**2)[:, None] * noise_bandwidth_hz * duration_s * snr * total
    noise_s2 = np.divide(1 + total, product, out=np.full(snr.shape, np.inf), where=product > 0)
    extra = 0.0 if extra_variance_s2_NR is None else np.where(heard_NR, extra_variance_s2_NR, 0.0)
    return noise_s2 + np.where(heard_NR, clock_sigma_s_NR, 0.0) ** 2 + extra


def timing_information(
    position_m_NE: Float64[ndarray, "N 2"],
    receiver_m_RX: Float64[ndarray, "*N R 3"],
    variance_s2_NR: Float64[ndarray, "N R"],
    *,
    origin_deg: tuple[float, float],
) -> Information:
    """Fisher information (N, 2, 2) of the place from arrival times, with the time of sending unknown.

    Args:
        position_m_NE: True east, north.
        receiver_m_RX: East, north, up of the receivers (R, 3), or of every fix's own (N, R, 3).
        variance_s2_NR: Of each arrival; infinite where there is none.
        origin_deg: Latitude, longitude of the local frame's origin.
    """
    _, slope = distance_and_slope(position_m_NE, receiver_m_RX, origin_deg)
    if not (variance_s2_NR > 0).all():
        cure = "Noise makes it so; infinite where nothing was heard."
        raise DataError(explain("arrival variances", got="one that is not", allowed="above 0 s^2", cure=cure))
    slope = slope / SPEED_OF_LIGHT_M_PER_S
    weight = 1 / variance_s2_NR
    total = np.maximum(weight.sum(axis=1), np.finfo(np.float64).tiny)
    # Centred before squaring: the Schur complement without the difference of two large numbers.
    slope = slope - (np.einsum("nr,nre->ne", weight, slope) / total[:, None])[:, None]
    return np.einsum("nr,nre,nrf->nef", weight, slope, slope)


def power_information(
    position_m_NE: Float64[ndarray, "N 2"],
    receiver_m_RX: Float64[ndarray, "*N R 3"],
    heard_NR: Bool[ndarray, "N R"],
    *,
    exponent: float,
    covariance_db2_RR: Float64[ndarray, "R R"],
    power_std_db: float,
    origin_deg: tuple[float, float],
) -> Information:
    """Fisher information (N, 2, 2) of the place from received powers on the path-loss law.

    Args:
        position_m_NE: True east, north.
        receiver_m_RX: East, north, up of the receivers (R, 3), or of every fix's own (N, R, 3).
        heard_NR: Whose powers are known.
        exponent: n.
        covariance_db2_RR: S, of the departures from the law: `shadowing_covariance_db2`, or s^2 I.
        power_std_db: What is known of the transmitted power beforehand: 0 all, infinite nothing.
        origin_deg: Latitude, longitude of the local frame's origin.
    """
    distance, slope = distance_and_slope(position_m_NE, receiver_m_RX, origin_deg)
    heard = heard_NR.astype(np.float64)
    by_place = -10 * exponent / math.log(10) * slope / distance[..., None] * heard[..., None]
    # A receiver that did not hear: a row of the unit matrix in S and zeros in J.
    both = heard[:, :, None] * heard[:, None, :]
    covariance = covariance_db2_RR[None] * both + np.eye(heard.shape[1]) * (1 - heard)[:, :, None]
    solved = np.linalg.solve(covariance, np.concatenate([by_place, heard[..., None]], axis=-1))
    place = np.einsum("nre,nrf->nef", by_place, solved[..., :2])
    if power_std_db == 0:
        return place
    cross = np.einsum("nre,nr->ne", by_place, solved[..., 2])
    power = np.einsum("nr,nr->n", heard, solved[..., 2]) + power_std_db**-2.0
    cross = np.divide(cross, np.sqrt(power)[:, None], out=np.zeros_like(cross), where=power[:, None] > 0)
    return place - cross[:, :, None] * cross[:, None, :]


def shadowing_covariance_db2(
    receiver_m_RX: Float64[ndarray, "R 3"], *, shadowing_db: float, correlation_m: float, independent_db: float = 0.0
) -> Float64[ndarray, "R R"]:
    """S_ij = s^2 exp(-d_ij / delta) (Gudmundson 1991) for receivers d_ij apart, plus an independent part, in dB^2."""
    apart_m = np.linalg.norm(receiver_m_RX[:, None] - receiver_m_RX[None], axis=-1)
    return shadowing_db**2 * np.exp(-apart_m / correlation_m) + independent_db**2 * np.eye(len(receiver_m_RX))
