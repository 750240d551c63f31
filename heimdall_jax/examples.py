"""Some of a run's test transmissions as they were recorded: what the model could have seen of them. Joins the rooms."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from heimdall_jax.config import Config
from heimdall_jax.evaluation.fixes import Fixes
from heimdall_jax.evaluation.report_recordings import Recorded
from heimdall_jax.feature_settings import FeatureConfig
from heimdall_jax.features.extract import extract, samples_needed
from heimdall_jax.features.mel import hz_to_mel, mel_to_hz
from heimdall_jax.features.tdoa import iq_to_timing
from heimdall_jax.geodesy import SPEED_OF_LIGHT_M_PER_S, degrees_to_ecef
from heimdall_jax.training.dataset import HeimdallDataset
from heimdall_jax.types import Session

QUANTILES = (0.1, 0.5, 0.9)
"""Of the errors: the fixes there are shown, so that nobody picks them."""


class Examples(NamedTuple):
    """Recordings, and their axes: the middle of each mel band in hertz, seconds from one frame to the next, lags."""

    recorded: list[Recorded]
    band_hz: np.ndarray
    frame_s: float
    lag_s: np.ndarray


def examples_of(config: Config, measured: HeimdallDataset, fixes: Fixes) -> Examples:
    """Test transmissions whose errors are at `QUANTILES`, read again; none where the data set holds no IQ.

    Args:
        config: Of the run: how it reads recordings.
        measured: The rows that were measured.
        fixes: Theirs, in the same order.

    Raises:
        HeimdallError: They cannot be read.
    """
    features, order = config.features, fixes.worst[::-1]
    rows = list(dict.fromkeys(int(order[round(share * (len(order) - 1))]) for share in QUANTILES))
    sessions = measured.sessions.__getitems__([int(measured.source_indices[row]) for row in rows])
    heard = measured.columns()["heard"][rows].tolist()
    recorded = [
        _recorded(config, session, dict(zip(measured.rows, heard_R, strict=True)), float(fixes.error_m_N[row]))
        for row, session, heard_R in zip(rows, sessions, heard, strict=True)
        if session.iq_RT is not None
    ]
    lag_s = np.arange(-config.timing.max_lag, config.timing.max_lag + 1) / features.sample_rate_hz
    return Examples(recorded, band_middles_hz(features), features.hop_length / features.sample_rate_hz, lag_s)


def band_middles_hz(features: FeatureConfig) -> np.ndarray:
    """Middle (M,) of each mel band in hertz, in the order of a spectrogram's rows."""
    count = features.n_mels // 2 if features.sided == "two" else features.n_mels
    highest = features.sample_rate_hz / 2 if features.fmax is None else features.fmax
    edges = np.linspace(hz_to_mel(features.fmin), hz_to_mel(highest), count + 2)
    middle_hz = np.asarray(mel_to_hz(edges[1:-1]))
    return middle_hz if features.sided == "envelope" else np.concatenate([-middle_hz[::-1], middle_hz])


def _recorded(config: Config, session: Session, heard_by_name: dict[str, bool], error_m: float) -> Recorded:
    """Its features as training takes them; a receiver that the data set masked stays masked."""
    features, timing = config.features, config.timing
    assert session.iq_RT is not None
    heard_R = np.array([heard_by_name.get(name, False) for name in session.receivers])
    iq_RT = np.where(heard_R[:, None], session.iq_RT[:, : samples_needed(features)], np.complex64(0))
    made = extract(features)(iq_RT[None])
    whole = {"session_id": session.session_id, "error_m": error_m, "receivers": session.receivers, "heard_R": heard_R}
    whole |= {"rss_db_R": np.asarray(made["rss_db"][0]), "mel_db_RML": np.asarray(made["mel_spectrogram"][0])}
    if session.clock_sigma_s_R is None or session.truth_deg is None:
        return Recorded(**whole)
    usable_R = heard_R & (session.clock_sigma_s_R <= timing.max_clock_s)
    found = iq_to_timing(iq_RT[None], usable_R[None], timing, features.sample_rate_hz)
    late_s_R = _true_delay_s(session)
    return Recorded(
        **whole,
        lag_curve_RRK=np.asarray(found["lag_curve"][0]) * usable_R[:, None, None] * usable_R[None, :, None],
        timed_RR=np.asarray(found["timing_valid"][0]) > 0,
        tdoa_s_RR=np.asarray(found["tdoa_s"][0]),
        true_s_RR=late_s_R[:, None] - late_s_R[None, :],
    )


def _true_delay_s(session: Session) -> np.ndarray:
    """Time (R,) of light from the true place on the ground to each receiver; NaN where a receiver has no place."""
    altitude_m = np.zeros(len(session.receivers)) if session.altitude_m_R is None else session.altitude_m_R
    receiver_m = degrees_to_ecef(np.where(session.present_R[:, None], session.receiver_deg_RE, np.nan), altitude_m)
    offset_m = receiver_m - degrees_to_ecef(np.asarray(session.truth_deg))
    return np.linalg.norm(offset_m, axis=-1) / SPEED_OF_LIGHT_M_PER_S
