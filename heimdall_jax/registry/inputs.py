"""Sessions as the arrays that a receiver-set model takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heimdall_jax.errors import DataError, explain
from heimdall_jax.export.manifest import Manifest
from heimdall_jax.geodesy import degrees_to_local
from heimdall_jax.registry.recordings import recording_inputs
from heimdall_jax.types import Sample, Session


def receiver_inputs(sessions: Sequence[Session], manifest: Manifest) -> Sample:
    """A batch (B, R) of B sessions with at most R receivers; a session with fewer is filled with absent ones.

    Gives those of the model's inputs that a session tells, in each session's own order of receivers; a receiver's
    identity is its place in the model's list, 0 if the model does not know its name. Where the model begins at raw IQ,
    a receiver whose IQ cannot be used is one that did not hear (`recordings.recording_inputs` says why).

    Raises:
        DataError: No session, or none with a receiver.
    """
    if manifest.samples is not None:
        wanted = {tensor.name for tensor in manifest.inputs}
        batch, _ = recording_inputs(
            sessions, manifest.domain, samples=manifest.samples, sample_rate_hz=manifest.sample_rate_hz
        )
        return {name: values for name, values in batch.items() if name in wanted}
    most = max((len(session.receivers) for session in sessions), default=0)
    if most == 0:
        cure = "Give sessions with receivers."
        raise DataError(
            explain("sessions", got=f"{len(sessions)} without a receiver", allowed="one or more", cure=cure)
        )
    shape = (len(sessions), most)
    domain, wanted = manifest.domain, {tensor.name for tensor in manifest.inputs}
    identities = {name: i + 1 for i, name in enumerate(domain.receivers)}
    batch: Sample = {
        "rss_db": np.zeros(shape, np.float32),
        "receiver_m": np.zeros((*shape, 2), np.float32),
        "heard": np.zeros(shape, bool),
        "present": np.zeros(shape, bool),
        "identity": np.zeros(shape, np.int32),
        "snr_db": np.zeros(shape, np.float32),
        "snr_known": np.zeros(shape, bool),
    }
    for row, session in enumerate(sessions):
        here = slice(len(session.receivers))
        present = session.present_R
        batch["heard"][row, here] = session.heard_R
        batch["present"][row, here] = present
        batch["rss_db"][row, here][session.heard_R] = session.rss_db_R[session.heard_R]
        if session.snr_db_R is not None:
            known = session.heard_R & np.isfinite(session.snr_db_R)
            batch["snr_known"][row, here] = known
            batch["snr_db"][row, here][known] = session.snr_db_R[known]
        places_m = degrees_to_local(session.receiver_deg_RE[present], domain.origin_deg)
        batch["receiver_m"][row, here][present] = places_m
        batch["identity"][row, here] = [identities.get(name, 0) for name in session.receivers]
    return {name: values for name, values in batch.items() if name in wanted}
