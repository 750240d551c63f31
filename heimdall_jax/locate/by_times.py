"""Where a transmitter is, from differences of arrival times.

**Sigma.** What moves an arrival in all windows alike is not averaged down: `sigma_us` is added to every receiver's
variance. 20 us below 30 MHz, where the ground's conductivity sets a wave's speed (Loran-C charts correct for
microseconds of it), sky waves join and receivers' filters differ; 0 above, where waves go straight.

**Place.** `evaluation.tdoa_fix.locate_by_times`: receivers' clocks with their own sigma, a robust loss, and a region
twice as large as the stations' own. `reasons` says when it is withheld.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heimdall_jax import geodesy
from heimdall_jax.errors import ConfigError, explain
from heimdall_jax.evaluation.cramer_rao import timing_information
from heimdall_jax.evaluation.curves import hyperbola_deg
from heimdall_jax.evaluation.ranges import Path as WavePath
from heimdall_jax.evaluation.tdoa_fix import FixDetails, locate_by_times
from heimdall_jax.evaluation.tdoa_solver import cost
from heimdall_jax.locate import reasons
from heimdall_jax.locate.advice import Advice, Layout, advise, half_diagonal_m
from heimdall_jax.locate.delays import Delays, measure_delays, timing_config, unpaired
from heimdall_jax.locate.found import Fix, Found, LogDensity
from heimdall_jax.pages.map_page import MapCurve
from heimdall_jax.sources.receptions import Reception, Receptions, together
from heimdall_jax.types import Station

GROUND_WAVE_BELOW_HZ = 30e6
GROUND_SIGMA_US = 20.0
LEAST_SIGMA_S = 1e-9
"""Of a receiver in a bound: none is better."""

Refused = list[dict[str, str]]


@dataclass(frozen=True, eq=False)
class _Heard:
    """What the recordings are taken for."""

    recordings: Receptions
    extra_s: float
    path: WavePath

    @property
    def receiver_m_RX(self) -> np.ndarray:
        """East, north, up about the receivers' mean; for ground waves, of the ground below them."""
        altitude_m = [0.0 if self.path == "ground" else s.altitude_m for s in self.recordings.stations]
        return geodesy.degrees_to_enu(self.recordings.place_deg_RE, np.array(altitude_m), self.recordings.origin_deg)


def find_by_times(
    receptions: Sequence[Reception],
    refused: Refused,
    *,
    sample_rate_hz: float,
    window_s: float | None = None,
    sigma_us: float | None = None,
    spare: Sequence[Station] = (),
) -> Found:
    """Where a transmitter is by its arrival times, or why that is not known.

    Args:
        receptions: What each receiver recorded.
        refused: Receivers that were left out before, with the reason.
        sample_rate_hz: Of the grid on which they are compared.
        window_s: Seconds that are correlated at once; see `sources.receptions.together`.
        sigma_us: Microseconds of propagation and receiver delay; None: 20 below 30 MHz, 0 above.
        spare: Stations that are not among the receptions.

    Raises:
        ConfigError: `sigma_us` is negative or not finite, or the window too short or no whole number of samples.
        DataError: The recordings do not belong together or do not overlap.
    """
    if sigma_us is not None and not 0 <= sigma_us < math.inf:
        raise ConfigError(explain("--sigma-us", got=sigma_us, allowed="0 or more", cure="Give microseconds."))
    if sigma_us is None:
        low = bool(receptions) and receptions[0].frequency_hz < GROUND_WAVE_BELOW_HZ
        sigma_us = GROUND_SIGMA_US if low else 0.0
    kept, refused = _timed(receptions, refused)
    stations, more = tuple(one.station for one in receptions), {"sigma_us": sigma_us}
    if few := reasons.too_few(len(kept), refused):
        advice = _advice_without(kept, spare)
        windows = {"length_s": window_s, "in_common": 0, "used": 0}
        notes = tuple(line for one in kept for line in one.notes)
        used = tuple(sorted(one.station.name for one in kept))
        return Found("tdoa", None, few, stations, used, tuple(refused), windows, notes, more, advice)
    recordings = together(kept, sample_rate_hz=sample_rate_hz, window_s=window_s)
    path: WavePath = "ground" if recordings.frequency_hz < GROUND_WAVE_BELOW_HZ else "space"
    heard = _Heard(recordings, sigma_us * 1e-6, path)
    config = timing_config(recordings, heard.extra_s)
    delays = measure_delays(recordings, config)
    refused = refused + unpaired(recordings, delays, config)
    length_s = recordings.window_samples / sample_rate_hz
    windows = {"length_s": length_s, "in_common": len(recordings), "used": delays.used}
    answer = _answer(heard, delays, refused, spare)
    return Found(method="tdoa", stations=stations, windows=windows, more=more, **answer)


def _timed(receptions: Sequence[Reception], refused: Refused) -> tuple[list[Reception], Refused]:
    """Those whose clocks can say anything, and the others beside those refused before."""
    if len(receptions) < 2:
        return list(receptions), refused
    origin_deg = (receptions[0].station.latitude_deg, receptions[0].station.longitude_deg)
    place_deg = np.array([(one.station.latitude_deg, one.station.longitude_deg) for one in receptions])
    circle_m = half_diagonal_m(geodesy.degrees_to_local(place_deg, origin_deg))
    useless = reasons.inaccurate(np.array([one.sigma_s for one in receptions]), circle_m)
    kept = [one for row, one in enumerate(receptions) if row not in useless]
    told = [{"name": receptions[row].station.name, "reason": reason} for row, reason in useless.items()]
    return kept, refused + told


def _answer(heard: _Heard, delays: Delays, refused: Refused, spare: Sequence[Station]) -> dict[str, Any]:
    """What of the answer depends on the delays."""
    recordings = heard.recordings
    missing = {entry["name"] for entry in refused}
    left = tuple(name for name in recordings.receivers if name not in missing)
    notes = (*recordings.notes, delays.band.in_words())
    if few := reasons.too_few(len(left), refused):
        kept = [one for one in recordings.each if one.station.name in left]
        advice = _advice_without(kept, [*spare, *_of(recordings, set(left))])
        return {"fix": None, "reasons": few, "used": left, "refused": tuple(refused), "notes": notes, "advice": advice}
    position_m, covariance_m2, details = locate_by_times(
        delays.tdoa_s_RR,
        delays.precision_per_s2_RR,
        clock_sigma_s_R=recordings.sigma_s_R,
        extra_sigma_s=heard.extra_s,
        receiver_m_RX=heard.receiver_m_RX,
        origin_deg=recordings.origin_deg,
        path=heard.path,
    )
    fix = Fix.at(position_m, covariance_m2, recordings.origin_deg)
    names = recordings.receivers
    used = tuple(name for name, had in zip(names, details.used_R, strict=True) if had)
    apart = [name for name in names if name not in used and name not in missing]
    refused = refused + [{"name": name, "reason": "no pair joins it to the larger group"} for name in apart]
    about = {"clock_sigma_s_R": recordings.sigma_s_R, "extra_s": heard.extra_s}
    about |= {"origin_deg": recordings.origin_deg, "path": heard.path}
    return {
        "fix": fix,
        "reasons": reasons.of_times(names, details, position_m, fix.radius_68_m, **about),
        "used": used,
        "refused": tuple(refused),
        "notes": (*notes, *_weights(names, details)),
        "advice": _advice(heard, details, fix, [*spare, *_of(recordings, set(used))]),
        "curves": _hyperbolas(recordings, details),
        "log_density": _log_density(heard, details),
    }


def _of(recordings: Receptions, used: set[str]) -> list[Station]:
    """Stations that recorded and had no part."""
    return [station for station in recordings.stations if station.name not in used]


def _weights(names: Sequence[str], details: FixDetails) -> list[str]:
    """Which receivers weigh less than others."""
    told = zip(names, details.residual_s_R, details.sigma_s_R, details.weight_R, strict=True)
    return [
        f"{name} is {residual * 1e6:+.1f} us off the fix, its sigma {sigma * 1e6:.1f} us; it weighs {weight:.2f}"
        for name, residual, sigma, weight in told
        if 0 < weight < 0.99
    ]


def _advice(heard: _Heard, details: FixDetails, fix: Fix, spare: Sequence[Station]) -> Advice:
    variance_s2 = details.sigma_s_R[details.used_R] ** 2
    receiver_m, origin_deg = heard.receiver_m_RX[details.used_R], heard.recordings.origin_deg
    return advise(timing_layout(receiver_m, variance_s2, fix.place_deg, origin_deg, details.reach_m), spare)


def _advice_without(kept: Sequence[Reception], spare: Sequence[Station]) -> Advice | None:
    """For too few receivers to place anything, by their clocks alone; None where there is none."""
    if not kept:
        return None
    first = kept[0].station
    origin_deg = (first.latitude_deg, first.longitude_deg)
    place_deg = np.array([(one.station.latitude_deg, one.station.longitude_deg) for one in kept])
    spare_deg = np.array([(s.latitude_deg, s.longitude_deg) for s in spare]).reshape(-1, 2)
    everyone_m = geodesy.degrees_to_local(np.concatenate([place_deg, spare_deg]), origin_deg)
    receiver_m = geodesy.degrees_to_enu(place_deg, np.array([one.station.altitude_m for one in kept]), origin_deg)
    variance_s2 = np.array([max(one.sigma_s, LEAST_SIGMA_S) ** 2 for one in kept])
    reach_m = 2 * half_diagonal_m(everyone_m)
    return advise(timing_layout(receiver_m, variance_s2, None, origin_deg, reach_m), spare) if reach_m > 2 else None


def timing_layout(
    receiver_m_RX: np.ndarray,
    variance_s2_R: np.ndarray,
    place_deg: tuple[float, float] | None,
    origin_deg: tuple[float, float],
    reach_m: float,
) -> Layout:
    """Receivers that are timed with these variances, for `advice.advise`; a new one has their median."""
    variances = np.append(variance_s2_R, np.median(variance_s2_R))

    def information(place_m_NE: np.ndarray, receiver_m_NRX: np.ndarray) -> np.ndarray:
        each = np.broadcast_to(variances[: receiver_m_NRX.shape[1]], receiver_m_NRX.shape[:2])
        return timing_information(place_m_NE, receiver_m_NRX, np.array(each), origin_deg=origin_deg)

    return Layout(receiver_m_RX, place_deg, information, origin_deg, reach_m)


def _hyperbolas(recordings: Receptions, details: FixDetails) -> tuple[MapCurve, ...]:
    """Of each receiver in use with the best of them."""
    used = np.flatnonzero(details.used_R)
    best = used[np.argmin(details.sigma_s_R[used])]
    curves = []
    for row in used[used != best]:
        difference_m = float(details.arrival_s_R[row] - details.arrival_s_R[best]) * geodesy.SPEED_OF_LIGHT_M_PER_S
        (a, b), names = recordings.place_deg_RE[[row, best]].tolist(), recordings.receivers
        if abs(difference_m) < float(geodesy.ground_distance_m(np.array(a), np.array(b))):
            points_deg = hyperbola_deg((a[0], a[1]), (b[0], b[1]), difference_m)
            curves.append(MapCurve("hyperbola", f"{names[row]} less {names[best]}", points_deg))
    return tuple(curves)


def _log_density(heard: _Heard, details: FixDetails) -> LogDensity:
    """Of the likelihood and the prior that made the fix, as wide as its covariance was made."""
    origin_deg, spread = heard.recordings.origin_deg, float(np.fmax(details.chi_square, 1.0))

    def log_density(place_deg_NE: np.ndarray) -> np.ndarray:
        place_m = geodesy.degrees_to_local(place_deg_NE, origin_deg)
        return -0.5 * cost(details.problem, place_m[None], origin_deg=origin_deg, path=heard.path)[0] / spread

    return log_density
