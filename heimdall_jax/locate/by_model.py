"""Where an exported model says that a transmitter is: of the window that the model is surest of.

Windows share their receivers' clocks and echoes, so fixes of several are no independent ones to average.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from heimdall_jax import geodesy
from heimdall_jax.errors import ExportError, explain
from heimdall_jax.export.manifest import Manifest
from heimdall_jax.locate import reasons
from heimdall_jax.locate.advice import Advice, advise
from heimdall_jax.locate.by_times import LEAST_SIGMA_S, timing_layout
from heimdall_jax.locate.found import Fix, Found, gaussian
from heimdall_jax.registry.recordings import recording_inputs
from heimdall_jax.registry.runtime import Runtime
from heimdall_jax.sources.receptions import Reception, Receptions, together
from heimdall_jax.sources.stream_checks import ONE_VALUE
from heimdall_jax.types import Station

AT_ONCE = 8
"""Windows that are located together: bounds the memory for long recordings."""
REACH = 1.0
"""Of a model: it is asked with receivers up to this share of the trained region's diagonal beyond that region."""


def find_by_model(
    receptions: Sequence[Reception],
    refused: list[dict[str, str]],
    model: str | Path,
    *,
    spare: Sequence[Station] = (),
) -> Found:
    """Where a transmitter is by an exported model, or why that is not known.

    Args:
        receptions: What each receiver recorded.
        refused: Receivers that were left out before, with the reason.
        model: A run folder, its `model.onnx`, or another URI that `Runtime.load` takes.
        spare: Stations that are not among the receptions.

    Raises:
        ExportError: The model is missing, altered, or takes no IQ.
        StorageError: The model's store cannot be reached.
        DataError: The recordings do not belong together, or overlap for less than the model takes.
    """
    runtime = Runtime.load(model)
    manifest = runtime.manifest
    samples, rate_hz = _samples(manifest, model), manifest.sample_rate_hz
    stations = tuple(one.station for one in receptions)
    length_s, more = samples / rate_hz, {"model_sha256": manifest.sha256}
    few = reasons.too_few(len(receptions), refused) or _elsewhere(stations, manifest)
    if few:
        windows = {"length_s": length_s, "in_common": 0, "used": 0}
        names = tuple(sorted(station.name for station in stations))
        return Found("model", None, few, stations, names, tuple(refused), windows, (), more)
    recordings = together(receptions, sample_rate_hz=rate_hz, window_s=length_s)
    windows = {"length_s": length_s, "in_common": len(recordings), "used": 1}
    position_m, covariance_m2, window = _surest(recordings, runtime, samples)
    heard = recordings[window].heard_R
    names = zip(recordings.receivers, heard, strict=True)
    used = tuple(name for name, had in names if had)
    refused = refused + [{"name": name, "reason": ONE_VALUE} for name in recordings.receivers if name not in used]
    fix = Fix.at(position_m, covariance_m2, manifest.domain.origin_deg)
    doubts = reasons.too_few(len(used), refused) + reasons.of_model(manifest, position_m, fix.radius_68_m)
    return Found(
        method="model",
        fix=fix,
        reasons=doubts,
        stations=stations,
        used=used,
        refused=tuple(refused),
        windows=windows,
        notes=recordings.notes,
        more=more,
        advice=advice_by_clocks(recordings, heard, fix, spare),
        log_density=gaussian(fix),
    )


def _samples(manifest: Manifest, model: str | Path) -> int:
    """How many of each receiver the model takes."""
    if manifest.samples is None:
        taken = ", ".join(tensor.name for tensor in manifest.inputs)
        cure = "Give a run that was trained with --model.timing True, or leave --model out."
        raise ExportError(explain(f"model {model}", got=f"inputs {taken}", allowed="raw IQ", cure=cure))
    return manifest.samples


def _surest(recordings: Receptions, runtime: Runtime, samples: int) -> tuple[np.ndarray, np.ndarray, int]:
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


def advice_by_clocks(recordings: Receptions, heard_R: np.ndarray, fix: Fix, spare: Sequence[Station]) -> Advice | None:
    """By the receivers' clocks alone, as what noise adds is the model's own knowledge.

    None without any, or where the model knows more than their bound, as it does by powers.
    """
    timed = heard_R & np.isfinite(recordings.sigma_s_R)
    if not timed.any():
        return None
    origin_deg = recordings.origin_deg
    altitude_m = np.array([station.altitude_m for station in recordings.stations])
    receiver_m = geodesy.degrees_to_enu(recordings.place_deg_RE, altitude_m, origin_deg)[timed]
    variance_s2 = np.maximum(recordings.sigma_s_R[timed], LEAST_SIGMA_S) ** 2
    reach_m = 2 * max(float(np.ptp(receiver_m[:, :2], axis=0).max()), 1.0)
    others = [s for s, had in zip(recordings.stations, timed, strict=True) if not had]
    advice = advise(timing_layout(receiver_m, variance_s2, fix.place_deg, origin_deg, reach_m), [*spare, *others])
    return advice if advice.now_m <= fix.radius_68_m else None


def _elsewhere(stations: Sequence[Station], manifest: Manifest) -> tuple[str, ...]:
    """A reason, unless receivers stand about the places on which the model was trained."""
    domain = manifest.domain
    west, south, east, north = domain.position_box_m
    margin_m = REACH * float(np.hypot(east - west, north - south))
    place_deg = np.array([(station.latitude_deg, station.longitude_deg) for station in stations])
    place_m = geodesy.degrees_to_local(place_deg, domain.origin_deg)
    low, high = np.array([west, south]) - margin_m, np.array([east, north]) + margin_m
    # Beyond the horizon a tangent plane folds points of the other side back.
    near = geodesy.ground_distance_m(place_deg, np.array(domain.origin_deg)) < geodesy.SEMI_MAJOR_M / 2
    inside = int((((place_m > low) & (place_m < high)).all(axis=1) & near).sum())
    if inside >= reasons.NEEDED:
        return ()
    corners = geodesy.local_to_degrees(np.array([[west, south], [east, north]]), domain.origin_deg)
    (lowest, leftmost), (highest, rightmost) = corners.tolist()
    region = f"{lowest:.2f} to {highest:.2f} N, {leftmost:.2f} to {rightmost:.2f} E"
    got = f"{inside} of {len(place_m)} receivers within {margin_m / 1000:.0f} km of {region}, where it was trained"
    cure = "leave --model out, so that times alone locate, or train one on the region of these receivers"
    return (f"outside the trained region: {got}; {cure}",)
