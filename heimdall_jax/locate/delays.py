"""Delays between receivers that recorded one transmission, over all windows. Choices are of simulation and physics.

**Delays.** Each window of the time that all receivers hold goes through `features.tdoa.iq_to_timing`, as in training:
plain correlation, which meets the bound where PHAT does not, of recordings moved to one time.

**Lags.** The ground path between two receivers over c, 4 sigma of both clocks and of both receivers' `sigma_us`, and
the interpolator's half-width: light cannot be later than that.

**Band.** Only the band that the signal occupies is correlated (`sources.occupied`); the gate and the precision count
the independent samples that are left. A simulated station 5 kHz off, 5 dB weaker, moves a fix by 38 km otherwise.

**Carrier.** It stays: with lags on equal terms a steady carrier adds one constant to all of them, in phase with the
rest of a single path, and moves no peak.

**Bandwidth gate.** A recording is refused where the correlation of a signal of rms bandwidth B falls by less than a
tenth from its peak to the end of the lags tau that are sought, exp(-(2 pi B tau)^2 / 2) > 0.9: its peak then is a
plateau that receivers' own distortion moves. So B >= sqrt(-2 ln 0.9) / (2 pi tau): 110 Hz at training's 8 samples,
44 Hz for receivers 450 km apart, never below 40 Hz. Noise that looks like bandwidth is refused too (`features.snr`).

**Windows.** The median of each pair's delays, and its own standard error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from heimdall_jax import geodesy
from heimdall_jax.config import TimingConfig
from heimdall_jax.errors import ConfigError, explain
from heimdall_jax.evaluation.windows import combine_windows
from heimdall_jax.features.interpolation import lags_needed
from heimdall_jax.features.lags import effective_samples
from heimdall_jax.features.tdoa import SHORTEST_IN_BLOCKS, iq_to_timing
from heimdall_jax.locate.reasons import NO_BANDWIDTH, NO_CORRELATION
from heimdall_jax.sources.occupied import Band, keep_band, kept_share, occupied_band, power_spectrum
from heimdall_jax.sources.receptions import Receptions
from heimdall_jax.sources.stream_checks import ONE_VALUE

LEAST_BANDWIDTH_HZ = 40.0
PEAK_FALLS_BY = 0.1
"""Least fall of a correlation from its peak to the end of the lags sought."""


@dataclass(frozen=True, eq=False)
class Delays:
    """Pair delays (R, R) of all windows together, and what each window was worth.

    Attributes:
        tdoa_s_RR: Arrival at i less at j.
        precision_per_s2_RR: 1 / variance from noise; 0 where no window has the pair.
        used: Windows with at least one pair.
        heard_R: Receivers with a signal in any window.
        snr_db_RR: Highest after integration, of any window, of the pair's coefficient.
        least_snr_db: Of these, for a pair to be used.
        bandwidth_hz: Median over windows.
        band: That was correlated.
    """

    tdoa_s_RR: np.ndarray
    precision_per_s2_RR: np.ndarray
    used: int
    heard_R: np.ndarray
    snr_db_RR: np.ndarray
    least_snr_db: float
    bandwidth_hz: float
    band: Band


def timing_config(recordings: Receptions, extra_sigma_s: float) -> TimingConfig:
    """Lags and bandwidth gate for where the receivers are and how good their clocks are; else as in training."""
    half_width = TimingConfig.half_width
    place_deg = recordings.place_deg_RE
    spread_s = np.hypot(recordings.sigma_s_R, extra_sigma_s).tolist()
    max_lag = max(
        lags_needed(
            float(geodesy.ground_distance_m(place_deg[i], place_deg[j])),
            (spread_s[i], spread_s[j]),
            half_width,
            recordings.sample_rate_hz,
        )
        for i in range(len(spread_s))
        for j in range(i)
    )
    sought_s = max(max_lag - half_width, 1) / recordings.sample_rate_hz
    least_hz = max(math.sqrt(-2 * math.log1p(-PEAK_FALLS_BY)) / (2 * math.pi * sought_s), LEAST_BANDWIDTH_HZ)
    return TimingConfig(max_lag=max(max_lag, half_width + 1), half_width=half_width, min_bandwidth_hz=least_hz)


def measure_delays(recordings: Receptions, config: TimingConfig) -> Delays:
    """Delays of every window, combined.

    Raises:
        ConfigError: The windows are too short for the lags that are sought.
    """
    least = SHORTEST_IN_BLOCKS * max(config.block, config.max_lag)
    if recordings.window_samples < least:
        seconds, allowed = recordings.window_samples / recordings.sample_rate_hz, least / recordings.sample_rate_hz
        cure = "Give a longer one, or longer recordings."
        raise ConfigError(explain("--window", got=f"{seconds} s", allowed=f"{allowed:.3g} s or more", cure=cure))
    rate_hz, sessions = recordings.sample_rate_hz, recordings.__getitems__(range(len(recordings)))
    windows = [session.iq_RT for session in sessions if session.iq_RT is not None]
    band = occupied_band(np.mean([power_spectrum(iq_RT, rate_hz) for iq_RT in windows], axis=0), rate_hz)
    share = kept_share(band, recordings.window_samples, rate_hz)
    # In half decibels: every value is compiled for itself.
    config = replace(config, min_snr_db=config.min_snr_db + round(-20 * math.log10(share)) / 2)
    measured = []
    for session, iq_RT in zip(sessions, windows, strict=True):
        timing = iq_to_timing(keep_band(iq_RT, band, rate_hz)[None], session.heard_R[None], config, rate_hz)
        measured.append({name: np.asarray(value[0], np.float64) for name, value in timing.items()})
        measured[-1]["heard"] = session.heard_R
    each = {name: np.stack([window[name] for window in measured]) for name in measured[0]}
    tdoa_s, precision = combine_windows(each["tdoa_s"], each["tdoa_precision_per_s2"] * share)
    square = np.minimum(each["coherence"] ** 2, 1 - 1e-6)
    snr = np.max(square / (1 - square), axis=0) * effective_samples(recordings.window_samples)
    return Delays(
        tdoa_s_RR=tdoa_s,
        precision_per_s2_RR=precision,
        used=int((each["timing_usable"] > 0).sum()),
        heard_R=np.any(each["heard"], axis=0),
        snr_db_RR=10 * np.log10(np.maximum(snr, 1e-3)),
        least_snr_db=config.min_snr_db,
        bandwidth_hz=float(np.median(each["bandwidth_hz"])),
        band=band,
    )


def unpaired(recordings: Receptions, delays: Delays, config: TimingConfig) -> list[dict[str, str]]:
    """Receivers that no window has a delay for, and why."""
    refused = []
    for row, name in enumerate(recordings.receivers):
        if (delays.precision_per_s2_RR[row] > 0).any():
            continue
        snr_db = delays.snr_db_RR[row].max()
        if not delays.heard_R[row]:
            reason = ONE_VALUE
        elif snr_db < delays.least_snr_db:
            needed = f"{delays.least_snr_db:.0f} are needed"
            reason = f"{NO_CORRELATION}: {snr_db:.1f} dB after integration, {needed}"
        else:
            needed = f"{config.min_bandwidth_hz:.0f} Hz and more than noise shows are needed"
            reason = f"{NO_BANDWIDTH}: rms bandwidth {delays.bandwidth_hz:.0f} Hz, {needed}"
        refused.append({"name": name, "reason": reason})
    return refused
