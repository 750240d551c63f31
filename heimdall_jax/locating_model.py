"""Where an exported model says that a transmitter is, of which several receivers made GPS-stamped recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from heimdall_jax import geodesy
from heimdall_jax.errors import DataError, ExportError, explain
from heimdall_jax.export.manifest import Manifest
from heimdall_jax.registry.recordings import recording_inputs
from heimdall_jax.registry.runtime import Runtime
from heimdall_jax.sources.dated import NEEDED, dated
from heimdall_jax.sources.kiwi import KiwiRecordings, read_kiwi
from heimdall_jax.sources.stream_checks import ONE_VALUE

AT_ONCE = 8
"""Windows that are located together: bounds the memory for long recordings."""
REACH = 1.0
"""Of a model: it is asked with receivers up to this share of the trained region's diagonal beyond that region."""


def locate_by_model(paths: tuple[Path, ...], stations: Path, model: str | Path) -> dict[str, Any]:
    """The fix as a tree of plain values, as `--json` prints it: of the window that the model is surest of.

    Windows share their receivers' clocks and echoes, so fixes of several are no independent ones to average.

    Args:
        paths: Recordings of one transmission, one a receiver.
        stations: Folder with the receivers' places.
        model: A run folder, its `model.onnx`, or another URI that `Runtime.load` takes.

    Raises:
        ExportError: The model is missing, altered, or takes no IQ.
        StorageError: A recording cannot be read, or the model's store not be reached.
        DataError: A recording breaks its format, fewer than three have a time or overlap, or the receivers are not
            where the model was trained.
    """
    runtime = Runtime.load(model)
    manifest = runtime.manifest
    samples = manifest.samples
    if samples is None:
        taken = ", ".join(tensor.name for tensor in manifest.inputs)
        cure = "Give a run that was trained with --model.timing True, or leave --model out."
        raise ExportError(explain(f"model {model}", got=f"inputs {taken}", allowed="raw IQ", cure=cure))
    rate_hz = manifest.sample_rate_hz
    kept, refused = dated(paths)
    recordings = read_kiwi(kept, stations, window_s=samples / rate_hz, sample_rate_hz=rate_hz)
    _check_region(recordings, manifest)
    position_m, covariance_m2, window = _surest(recordings, runtime, samples)
    session = recordings[window]
    silent = [name for name, heard in zip(recordings.receivers, session.heard_R, strict=True) if not heard]
    refused += [{"name": name, "reason": ONE_VALUE} for name in silent]
    covariance_m2 = geodesy.covariance_at(covariance_m2, position_m, manifest.domain.origin_deg)
    latitude, longitude = geodesy.local_to_degrees(position_m, manifest.domain.origin_deg).tolist()
    return {
        "latitude": latitude,
        "longitude": longitude,
        "radius_68_m": float(geodesy.error_radius_m(covariance_m2, 0.68)),
        "covariance_m2": covariance_m2.tolist(),
        "ellipse_68": geodesy.error_ellipse(covariance_m2, 0.68)._asdict(),
        "ellipse_95": geodesy.error_ellipse(covariance_m2, 0.95)._asdict(),
        "receivers_used": [name for name in recordings.receivers if name not in silent],
        "receivers_refused": refused,
        "windows": {"length_s": samples / rate_hz, "in_common": len(recordings), "used": 1},
        "method": "model",
        "model_sha256": manifest.sha256,
        "notes": list(recordings.notes),
    }


def _surest(recordings: KiwiRecordings, runtime: Runtime, samples: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Place (2,), covariance (2, 2) and number of the window whose covariance has the smallest determinant."""
    manifest = runtime.manifest
    wanted = {tensor.name for tensor in manifest.inputs}
    places, covariances = [], []
    for start in range(0, len(recordings), AT_ONCE):
        sessions = recordings.__getitems__(range(start, min(start + AT_ONCE, len(recordings))))
        batch, _ = recording_inputs(sessions, manifest.domain, samples=samples, sample_rate_hz=manifest.sample_rate_hz)
        fixes = runtime.locate({name: values for name, values in batch.items() if name in wanted})
        places.append(fixes.position_m.astype(np.float64))
        covariances.append(fixes.covariance_m2)
    position_m, covariance_m2 = np.concatenate(places), np.concatenate(covariances)
    window = int(np.argmin(np.linalg.det(covariance_m2)))
    return position_m[window], covariance_m2[window], window


def _check_region(recordings: KiwiRecordings, manifest: Manifest) -> None:
    """Raise DataError unless receivers stand about the places on which the model was trained."""
    domain = manifest.domain
    west, south, east, north = domain.position_box_m
    margin_m = REACH * float(np.hypot(east - west, north - south))
    place_deg = np.array([(station.latitude_deg, station.longitude_deg) for station in recordings.stations])
    place_m = geodesy.degrees_to_local(place_deg, domain.origin_deg)
    low, high = np.array([west, south]) - margin_m, np.array([east, north]) + margin_m
    # Beyond the horizon a tangent plane folds points of the other side back.
    near = geodesy.ground_distance_m(place_deg, np.array(domain.origin_deg)) < geodesy.SEMI_MAJOR_M / 2
    inside = int((((place_m > low) & (place_m < high)).all(axis=1) & near).sum())
    if inside >= NEEDED:
        return
    corners = geodesy.local_to_degrees(np.array([[west, south], [east, north]]), domain.origin_deg)
    (lowest, leftmost), (highest, rightmost) = corners.tolist()
    region = f"{lowest:.2f} to {highest:.2f} N, {leftmost:.2f} to {rightmost:.2f} E"
    got = f"{inside} of {len(place_m)} receivers within {margin_m / 1000:.0f} km of {region}, where it was trained"
    cure = "Leave --model out, so that times alone locate, or train one on the region of these receivers."
    raise DataError(explain("the model's region", got=got, allowed=f"{NEEDED} or more", cure=cure))
