"""Where a transmitter is, from received powers alone: no clocks, and a region that is honestly large."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from heimdall_jax import geodesy
from heimdall_jax.evaluation.cramer_rao import power_information
from heimdall_jax.evaluation.curves import ring_deg
from heimdall_jax.evaluation.power_fix import EXPONENTS, SHADOWING_DB, PowerLaw
from heimdall_jax.evaluation.tdoa_fix import REACH_FACTOR
from heimdall_jax.locate import reasons
from heimdall_jax.locate.advice import Advice, Layout, advise
from heimdall_jax.locate.found import Fix, Found
from heimdall_jax.pages.map_page import MapCurve
from heimdall_jax.sources.occupied import FLOOR_QUANTILE, occupied_band, power_spectrum
from heimdall_jax.sources.receptions import Reception, Receptions, together
from heimdall_jax.sources.stream_checks import ONE_VALUE
from heimdall_jax.types import Station

EXPONENT = 3.0
"""Of the rings and the bounds; the fix itself takes all of `EXPONENTS`."""
LEAST_SNR_DB = 3.0
"""Of the band's power less its noise, over its noise: below it powers are the noise's."""
GAINS = (
    "powers are compared as they were recorded: receivers' gains must be alike, or corrected, "
    f"within much less than {SHADOWING_DB:g} dB"
)
LAW = f"log-distance law, exponent {EXPONENTS[0]:g} to {EXPONENTS[-1]:g}, {SHADOWING_DB:g} dB of shadowing"


def find_by_powers(
    receptions: Sequence[Reception],
    refused: list[dict[str, str]],
    *,
    sample_rate_hz: float,
    window_s: float | None = None,
    spare: Sequence[Station] = (),
) -> Found:
    """Where a transmitter is by its received powers, or why that is not known.

    Args:
        receptions: What each receiver recorded; clocks need only be good to a fraction of the recordings' length.
        refused: Receivers that were left out before, with the reason.
        sample_rate_hz: Of the grid on which they are read.
        window_s: Seconds of a window; powers are the mean over all.
        spare: Stations that are not among the receptions.

    Raises:
        ConfigError: The window is no whole number of samples.
        DataError: The recordings do not belong together or do not overlap.
    """
    stations = tuple(one.station for one in receptions)
    windows = {"length_s": window_s, "in_common": 0, "used": 0}
    if few := reasons.too_few(len(receptions), refused):
        used = tuple(sorted(station.name for station in stations))
        return Found("rss", None, few, stations, used, tuple(refused), windows, (GAINS,))
    recordings = together(receptions, sample_rate_hz=sample_rate_hz, window_s=window_s)
    power_db_R, silent, told = _powers(recordings)
    refused = refused + silent
    heard = ~np.isnan(power_db_R)
    used = tuple(name for name, had in zip(recordings.receivers, heard, strict=True) if had)
    windows = {
        "length_s": recordings.window_samples / sample_rate_hz,
        "in_common": len(recordings),
        "used": len(recordings),
    }
    found = Found(
        method="rss",
        fix=None,
        reasons=reasons.too_few(len(used), refused),
        stations=stations,
        used=used,
        refused=tuple(refused),
        windows=windows,
        notes=(*recordings.notes, told, LAW, GAINS),
    )
    return found if found.reasons else _placed(found, recordings, power_db_R, spare)


def _placed(found: Found, recordings: Receptions, power_db_R: np.ndarray, spare: Sequence[Station]) -> Found:
    """With the place that powers (R,) give, NaN where there is none."""
    origin_deg, heard = recordings.origin_deg, ~np.isnan(power_db_R)
    receiver_m = geodesy.degrees_to_local(recordings.place_deg_RE[heard], origin_deg)
    law = PowerLaw.of(power_db_R[heard], receiver_m)
    position_m, covariance_m2 = law.moments()
    fix = Fix.at(position_m, covariance_m2, origin_deg)
    others = [station for station, had in zip(recordings.stations, heard, strict=True) if not had]
    return replace(
        found,
        fix=fix,
        reasons=reasons.of_powers(fix.radius_68_m, law.reach_m / REACH_FACTOR),
        more={"powers_db": dict(zip(found.used, power_db_R[heard].round(2).tolist(), strict=True))},
        advice=_advice(receiver_m, fix, origin_deg, law.reach_m, [*spare, *others]),
        curves=_rings(recordings, power_db_R, fix),
        log_density=lambda place_deg_NE: law.log_density(geodesy.degrees_to_local(place_deg_NE, origin_deg)),
    )


def _powers(recordings: Receptions) -> tuple[np.ndarray, list[dict[str, str]], str]:
    """Power (R,) of the signal in dB relative to full scale, NaN where there is none, why, and a note on the band."""
    rate_hz = recordings.sample_rate_hz
    windows = [session.iq_RT for session in recordings if session.iq_RT is not None]
    power_RF = np.mean([power_spectrum(iq_RT, rate_hz) for iq_RT in windows], axis=0)
    band = occupied_band(power_RF, rate_hz)
    bins = power_RF.shape[1]
    frequency_hz = (np.arange(bins) - bins // 2) * rate_hz / bins
    inside = (frequency_hz >= band.low_hz) & (frequency_hz <= band.high_hz)
    told = f"powers of {band.low_hz:+.0f} to {band.high_hz:+.0f} Hz about the tuned frequency"
    if inside.all():  # a signal that fills the spectrum is not told from noise that does
        reason = f"{reasons.NO_SIGNAL}: nothing stands out of its {rate_hz:g} Hz, which noise alone fills as well"
        silent = [{"name": one.station.name, "reason": ONE_VALUE if one.dead else reason} for one in recordings.each]
        return np.full(len(power_RF), np.nan), silent, told
    noise_R = np.quantile(power_RF[:, ~inside], FLOOR_QUANTILE, axis=1) * inside.sum()
    signal_R = power_RF[:, inside].sum(axis=1) - noise_R
    least = 10 ** (LEAST_SNR_DB / 10) - 1
    power_db, refused = np.full(len(power_RF), np.nan), []
    scale_db = 10 * np.log10(bins * np.sum(np.hanning(bins) ** 2))
    for row, one in enumerate(recordings.each):
        if one.dead or signal_R[row] <= 0:
            refused.append({"name": one.station.name, "reason": ONE_VALUE if one.dead else reasons.NO_SIGNAL})
        elif signal_R[row] < least * noise_R[row]:
            snr_db = 10 * np.log10(signal_R[row] / noise_R[row])
            reason = f"{reasons.NO_SIGNAL} in the band: {snr_db:.1f} dB"
            refused.append({"name": one.station.name, "reason": reason})
        else:
            power_db[row] = 10 * np.log10(signal_R[row]) - scale_db
    return power_db, refused, told


def _advice(
    receiver_m_RE: np.ndarray, fix: Fix, origin_deg: tuple[float, float], reach_m: float, spare: Sequence[Station]
) -> Advice:
    def information(place_m_NE: np.ndarray, receiver_m_NRX: np.ndarray) -> np.ndarray:
        count = receiver_m_NRX.shape[1]
        return power_information(
            place_m_NE,
            receiver_m_NRX,
            np.ones(receiver_m_NRX.shape[:2], bool),
            exponent=EXPONENT,
            covariance_db2_RR=SHADOWING_DB**2 * np.eye(count),
            power_std_db=np.inf,
            origin_deg=origin_deg,
        )

    up_m = geodesy.ground_height_m(receiver_m_RE, origin_deg)
    receiver_m = np.concatenate([receiver_m_RE, up_m[:, None]], axis=1)
    return advise(Layout(receiver_m, fix.place_deg, information, origin_deg, reach_m), spare)


def _rings(recordings: Receptions, power_db_R: np.ndarray, fix: Fix) -> tuple[MapCurve, ...]:
    """Ranges on the law of the middle exponent, at the transmitted power that fits the fix."""
    place_deg, heard = recordings.place_deg_RE, np.flatnonzero(~np.isnan(power_db_R))
    away_m = np.maximum(geodesy.ground_distance_m(place_deg[heard], np.array(fix.place_deg)), 1.0)
    sent_db = float(np.mean(power_db_R[heard] + 10 * EXPONENT * np.log10(away_m)))
    radius_m = 10 ** ((sent_db - power_db_R[heard]) / (10 * EXPONENT))
    curves = []
    for row, radius in zip(heard.tolist(), radius_m.tolist(), strict=True):
        if 0 < radius <= geodesy.FARTHEST_M:
            station = recordings.stations[row]
            ring = ring_deg((station.latitude_deg, station.longitude_deg), radius)
            curves.append(MapCurve("ring", f"range of {station.name}", ring))
    return tuple(curves)
