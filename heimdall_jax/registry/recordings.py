"""Sessions with IQ as the arrays that a model takes which begins at raw IQ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heimdall_jax.errors import DataError, explain
from heimdall_jax.types import Domain, Sample, Session

RATE_TOLERANCE = 1e-3
"""Relative, of a recording's sample rate: what `features.extract` allows in training."""


def recording_inputs(
    sessions: Sequence[Session], domain: Domain, *, samples: int, sample_rate_hz: float
) -> tuple[Sample, list[dict[str, str]]]:
    """A batch (B, R, ...) of B sessions with at most R receivers; a session with fewer is filled with absent ones.

    Receivers are in each session's own order. IQ is cut to the first `samples`. A receiver whose IQ cannot be used is
    one that did not hear.

    Returns:
        The arrays, and per session why receivers that heard do not count, by name.

    Raises:
        DataError: No session, or none with a receiver.
    """
    most = max((len(session.receivers) for session in sessions), default=0)
    if most == 0:
        got, cure = f"{len(sessions)} without a receiver", "Give sessions with receivers."
        raise DataError(explain("sessions", got=got, allowed="one or more", cure=cure))
    shape = (len(sessions), most)
    batch: Sample = {
        "i": np.zeros((*shape, samples), np.float32),
        "q": np.zeros((*shape, samples), np.float32),
        "receiver_deg": np.zeros((*shape, 2)),
        "altitude_m": np.zeros(shape, np.float32),
        "clock_sigma_s": np.full(shape, np.inf, np.float32),
        "heard": np.zeros(shape, bool),
        "present": np.zeros(shape, bool),
        "identity": np.zeros(shape, np.int32),
        "snr_db": np.zeros(shape, np.float32),
        "snr_known": np.zeros(shape, bool),
    }
    refused = []
    for row, session in enumerate(sessions):
        here = {name: values[row, : len(session.receivers)] for name, values in batch.items()}
        refused.append(_place(session, here, domain, sample_rate_hz))
    return batch, refused


def _place(session: Session, row: Sample, domain: Domain, sample_rate_hz: float) -> dict[str, str]:
    """Write a session into its row of every array (R, ...); gives why receivers that heard do not count."""
    present, heard = session.present_R, session.heard_R.copy()
    refused = {}
    for receiver in np.flatnonzero(heard):
        iq_T = np.empty(0, np.complex64) if session.iq_RT is None else session.iq_RT[receiver, : row["i"].shape[1]]
        problem = _problem(iq_T, session.sample_rate_hz, row["i"].shape[1], sample_rate_hz)
        if problem:
            refused[session.receivers[receiver]] = problem
            heard[receiver] = False
        else:
            row["i"][receiver], row["q"][receiver] = np.real(iq_T), np.imag(iq_T)
    row["heard"][:], row["present"][:] = heard, present
    row["receiver_deg"][present] = session.receiver_deg_RE[present]
    if session.altitude_m_R is not None:
        row["altitude_m"][present] = session.altitude_m_R[present]
    if session.clock_sigma_s_R is not None:
        row["clock_sigma_s"][present] = session.clock_sigma_s_R[present]
    if session.snr_db_R is not None:
        known = heard & np.isfinite(session.snr_db_R)
        row["snr_known"][:] = known
        row["snr_db"][known] = session.snr_db_R[known]
    identities = {name: i + 1 for i, name in enumerate(domain.receivers)}
    row["identity"][:] = [identities.get(name, 0) for name in session.receivers]
    return refused


def _problem(iq_T: np.ndarray, rate_hz: float | None, samples: int, wanted_hz: float) -> str:
    """Why IQ cannot be used; empty if it can."""
    if len(iq_T) < samples:
        return f"{len(iq_T)} samples, {samples} are needed"
    if rate_hz is None or abs(rate_hz / wanted_hz - 1) > RATE_TOLERANCE:
        return f"a sample rate of {rate_hz} Hz, {wanted_hz:g} is needed"
    return "" if np.isfinite(iq_T).all() else "IQ holds NaN or infinity"
