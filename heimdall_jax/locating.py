"""Where a transmitter is, from GPS-stamped recordings of it. Choices were made on simulation and stated physics.

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

**Sigma.** What moves an arrival in all windows alike is not averaged down: `sigma_us` is added to every receiver's
variance. 20 us below 30 MHz, where the ground's conductivity sets a wave's speed (Loran-C charts correct for
microseconds of it), sky waves join and receivers' filters differ; 0 above, where waves go straight.

**Place.** `evaluation.tdoa_fix.locate_by_times`: receivers' clocks with their own sigma, a robust loss, and a region
twice as large as the stations' own.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from heimdall_jax import geodesy
from heimdall_jax.config import TimingConfig
from heimdall_jax.errors import ConfigError, StorageError, explain
from heimdall_jax.evaluation.fix_words import in_words
from heimdall_jax.evaluation.ranges import Path as WavePath
from heimdall_jax.evaluation.tdoa_fix import FixDetails, locate_by_times
from heimdall_jax.evaluation.windows import combine_windows
from heimdall_jax.features.interpolation import lags_needed
from heimdall_jax.features.lags import effective_samples
from heimdall_jax.features.tdoa import SHORTEST_IN_BLOCKS, iq_to_timing
from heimdall_jax.sources.dated import NEEDED, dated, too_few
from heimdall_jax.sources.kiwi import KiwiRecordings, read_kiwi
from heimdall_jax.sources.occupied import Band, keep_band, kept_share, occupied_band, power_spectrum
from heimdall_jax.sources.stream_checks import ONE_VALUE

GROUND_WAVE_BELOW_HZ = 30e6
GROUND_SIGMA_US = 20.0
LEAST_BANDWIDTH_HZ = 40.0
PEAK_FALLS_BY = 0.1
"""Least fall of a correlation from its peak to the end of the lags sought."""


@dataclass(frozen=True)
class LocateArguments:
    """Locate the transmitter that several receivers recorded at once.

    Examples: locate.py *_iq.wav --stations FOLDER · locate.py *_iq.wav --stations FOLDER --window 2 --json
    """

    recordings: tyro.conf.Positional[tuple[Path, ...]]
    """KiwiSDR recordings of one transmission, one a receiver: YYYYMMDDTHHMMSSZ_HERTZ_STATION_iq.wav."""
    stations: Path | None = None
    """Folder with the receivers' places, a STATION.txt each."""
    method: Literal["tdoa"] = "tdoa"
    """tdoa: from differences of arrival times."""
    model: Annotated[str | None, tyro.conf.arg(metavar="URI")] = None
    """Exported model that locates instead, trained about the receivers: RUN, s3://bucket/name, models:/name@alias."""
    window: float = 1.0
    """Seconds that are correlated at once; delays of all windows are combined."""
    sigma_us: float | None = None
    """Microseconds, one standard deviation, of propagation and receiver delay; by default 20 below 30 MHz, 0 above."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object instead of words."""
    debug: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show tracebacks."""


@dataclass(frozen=True, eq=False)
class _Delays:
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


def locate(arguments: LocateArguments) -> str:
    """Do what the arguments ask for: the fix in words, or as one line of JSON.

    Raises:
        HeimdallError: One of its children, with the cure.
    """
    if arguments.stations is None:
        cure = "Give the folder that holds a STATION.txt for each receiver."
        raise ConfigError(explain("--stations", got="nothing", allowed="a folder", cure=cure))
    if not arguments.stations.is_dir():
        cure = "Check the path."
        raise StorageError(explain("--stations", got=arguments.stations, allowed="an existing folder", cure=cure))
    if arguments.model is not None:
        from heimdall_jax.locating_model import locate_by_model  # ONNX Runtime takes a while to load

        fix = locate_by_model(arguments.recordings, arguments.stations, arguments.model)
    else:
        fix = locate_by_recordings(
            arguments.recordings, arguments.stations, window_s=arguments.window, sigma_us=arguments.sigma_us
        )
    return json.dumps(fix, allow_nan=False, ensure_ascii=False) if arguments.json else in_words(fix)


def locate_by_recordings(
    paths: tuple[Path, ...], stations: Path, *, window_s: float = 1.0, sigma_us: float | None = None
) -> dict[str, Any]:
    """The fix as a tree of plain values, as `--json` prints it.

    Raises:
        ConfigError: `sigma_us` is negative or not finite, or the window too short or no whole number of samples.
        StorageError: A file cannot be read.
        DataError: A file breaks its format, the recordings do not overlap, or fewer than three receivers can be used.
    """
    if sigma_us is not None and not 0 <= sigma_us < math.inf:
        raise ConfigError(explain("--sigma-us", got=sigma_us, allowed="0 or more", cure="Give microseconds."))
    kept, refused = dated(paths)
    recordings = read_kiwi(kept, stations, window_s=window_s)
    ground = recordings.frequency_hz < GROUND_WAVE_BELOW_HZ
    if sigma_us is None:
        sigma_us = GROUND_SIGMA_US if ground else 0.0
    config = timing_config(recordings, sigma_us * 1e-6)
    delays = _measure(recordings, config)
    path: WavePath = "ground" if ground else "space"
    fix = _fix(recordings, delays, sigma_us * 1e-6, path, refused + _unpaired(recordings, delays, config))
    windows = {"length_s": window_s, "in_common": len(recordings), "used": delays.used}
    return fix | {"windows": windows, "method": "tdoa", "sigma_us": sigma_us, "notes": fix["notes"]}


def timing_config(recordings: KiwiRecordings, extra_sigma_s: float) -> TimingConfig:
    """Lags and bandwidth gate for where the receivers are and how good their clocks are; else as in training."""
    half_width = TimingConfig.half_width
    place_deg = np.array([(s.latitude_deg, s.longitude_deg) for s in recordings.stations])
    spread_s = [math.hypot(clock.sigma_s, extra_sigma_s) for clock in recordings.clocks]
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


def _measure(recordings: KiwiRecordings, config: TimingConfig) -> _Delays:
    """Delays of every window, combined."""
    least = SHORTEST_IN_BLOCKS * max(config.block, config.max_lag)
    if recordings.window_samples < least:
        seconds, allowed = recordings.window_samples / recordings.sample_rate_hz, least / recordings.sample_rate_hz
        cure = "Give a longer one."
        raise ConfigError(explain("--window", got=f"{seconds} s", allowed=f"{allowed:.3g} s or more", cure=cure))
    rate_hz, sessions = recordings.sample_rate_hz, recordings.__getitems__(range(len(recordings)))
    windows = [session.iq_RT for session in sessions if session.iq_RT is not None]
    band = occupied_band(np.mean([power_spectrum(iq_RT, rate_hz) for iq_RT in windows], axis=0), rate_hz)
    share = kept_share(band, recordings.window_samples, rate_hz)
    config = replace(config, min_snr_db=config.min_snr_db - 10 * math.log10(share))
    measured = []
    for session, iq_RT in zip(sessions, windows, strict=True):
        timing = iq_to_timing(keep_band(iq_RT, band, rate_hz)[None], session.heard_R[None], config, rate_hz)
        measured.append({name: np.asarray(value[0], np.float64) for name, value in timing.items()})
        measured[-1]["heard"] = session.heard_R
    each = {name: np.stack([window[name] for window in measured]) for name in measured[0]}
    tdoa_s, precision = combine_windows(each["tdoa_s"], each["tdoa_precision_per_s2"] * share)
    square = np.minimum(each["coherence"] ** 2, 1 - 1e-6)
    snr = np.max(square / (1 - square), axis=0) * effective_samples(recordings.window_samples)
    return _Delays(
        tdoa_s_RR=tdoa_s,
        precision_per_s2_RR=precision,
        used=int((each["timing_usable"] > 0).sum()),
        heard_R=np.any(each["heard"], axis=0),
        snr_db_RR=10 * np.log10(np.maximum(snr, 1e-3)),
        least_snr_db=config.min_snr_db,
        bandwidth_hz=float(np.median(each["bandwidth_hz"])),
        band=band,
    )


def _unpaired(recordings: KiwiRecordings, delays: _Delays, config: TimingConfig) -> list[dict[str, str]]:
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
            reason = f"no correlation with any other: {snr_db:.1f} dB after integration, {needed}"
        else:
            needed = f"{config.min_bandwidth_hz:.0f} Hz and more than noise shows are needed"
            reason = f"no clear peak within the lags: rms bandwidth {delays.bandwidth_hz:.0f} Hz, {needed}"
        refused.append({"name": name, "reason": reason})
    return refused


def _fix(
    recordings: KiwiRecordings, delays: _Delays, extra_s: float, path: WavePath, refused: list[dict[str, str]]
) -> dict[str, Any]:
    """Place, covariance and ellipses, and who had a part in it."""
    missing = {entry["name"] for entry in refused}
    left = [name for name in recordings.receivers if name not in missing]
    if len(left) < NEEDED:
        too_few(len(left), refused)
    origin_deg = recordings.origin_deg
    place_deg = np.array([(s.latitude_deg, s.longitude_deg) for s in recordings.stations])
    altitude_m = np.array([0.0 if path == "ground" else s.altitude_m for s in recordings.stations])
    position_m, covariance_m2, details = locate_by_times(
        delays.tdoa_s_RR,
        delays.precision_per_s2_RR,
        clock_sigma_s_R=np.array([clock.sigma_s for clock in recordings.clocks]),
        extra_sigma_s=extra_s,
        receiver_m_RX=geodesy.degrees_to_enu(place_deg, altitude_m, origin_deg),
        origin_deg=origin_deg,
        path=path,
    )
    apart = [name for name, used in zip(recordings.receivers, details.used_R, strict=True) if not used]
    refused += [
        {"name": name, "reason": "no pair joins it to the larger group"} for name in apart if name not in missing
    ]
    covariance_m2 = geodesy.covariance_at(covariance_m2, position_m, origin_deg)
    latitude, longitude = geodesy.local_to_degrees(position_m, origin_deg).tolist()
    return {
        "latitude": latitude,
        "longitude": longitude,
        "radius_68_m": float(geodesy.error_radius_m(covariance_m2, 0.68)),
        "covariance_m2": covariance_m2.tolist(),
        "ellipse_68": geodesy.error_ellipse(covariance_m2, 0.68)._asdict(),
        "ellipse_95": geodesy.error_ellipse(covariance_m2, 0.95)._asdict(),
        "receivers_used": [name for name in recordings.receivers if name not in apart],
        "receivers_refused": refused,
        "notes": [*recordings.notes, delays.band.in_words(), *_doubts(recordings, details)],
    }


def _doubts(recordings: KiwiRecordings, details: FixDetails) -> list[str]:
    """What a reader should know before trusting the place."""
    doubts = [
        f"{name} is {residual * 1e6:+.1f} us off the fix, its sigma {sigma * 1e6:.1f} us; it weighs {weight:.2f}"
        for name, residual, sigma, weight in zip(
            recordings.receivers, details.residual_s_R, details.sigma_s_R, details.weight_R, strict=True
        )
        if 0 < weight < 0.99
    ]
    if details.ambiguous:
        doubts.append("another place fits these times as well; a further receiver would decide")
    return doubts
