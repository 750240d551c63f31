"""A run's model handed over: exported, registered, and proven later to be what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from heimdall_jax.config import Config
from heimdall_jax.datasets import Data
from heimdall_jax.export.manifest import Smaller
from heimdall_jax.export.parity import Report
from heimdall_jax.features.extract import samples_needed
from heimdall_jax.publishing import publish_run
from heimdall_jax.registry.publish import Published
from heimdall_jax.registry.recordings import recording_inputs
from heimdall_jax.run import CONFIG, METRICS, MODEL, Run, open_run
from heimdall_jax.tracking import Tracker
from heimdall_jax.types import Sample

PROBES, RECORDED_PROBES = 32, 8
"""Samples on which an export is compared with its model; of raw IQ fewer, for they are kept beside it."""


class Delivered(NamedTuple):
    """The registered version, empty where nothing is tracked; the smaller files; what is published, if asked for."""

    version: str
    smaller: tuple[Smaller, ...]
    published: Published | None


class Validated(NamedTuple):
    """How ONNX Runtime compares with JAX, and each smaller file with `model.onnx`."""

    parity: Report
    smaller: tuple[Smaller, ...]


def deliver(
    run: Run, data: Data, metrics: Mapping[str, Any], tracker: Tracker, *, precisions: Sequence[str], store: str = ""
) -> Delivered:
    """Export and validate the model, make it smaller, then hand metrics, files and model to the tracker.

    Last, the model is published in `store`, where that is given: under its registered number if others share the
    registry, else under a version made of its content.
    """
    from heimdall_jax.export.release import export_model  # jax2onnx is slow to import
    from heimdall_jax.shrinking import shrink

    folder, tracking = run.folder, run.config.tracking
    samples = _probes(run.config, data)
    export_model(run.model, folder, config=run.config, domain=run.domain, samples=samples, metrics=metrics)
    manifest = shrink(run, data, precisions)
    flat = {f"test/{key}_m": value for key, value in metrics["error_m"].items()}
    flat |= {f"test/coverage_{key}": value for key, value in metrics["coverage"].items()}
    tracker.log(run.step, flat | {"test/nll_nats_per_fix": metrics["nll_nats_per_fix"]})
    tracker.flush()
    for name in (CONFIG, METRICS, *(entry.file for entry in manifest.smaller if entry.accepted)):
        tracker.log_artifact(folder / name)
    version = tracker.register_model(folder / MODEL, manifest.to_tree(), tracking.registered_name, tracking.alias)
    published = publish_run(folder, store, version=version if tracking.uri else "") if store else None
    return Delivered(version, manifest.smaller, published)


def _probes(config: Config, data: Data) -> Sample:
    """Real samples on which an export is compared with its model: spread over the validation side, else the test."""
    from heimdall_jax.export.from_iq import takes_iq

    chosen = data.validation or data.test
    assert chosen is not None
    raw = takes_iq(config.model)
    spread = np.linspace(0, len(chosen) - 1, RECORDED_PROBES if raw else PROBES).astype(np.int64)
    if not raw:
        return chosen.gather(spread)
    sessions = chosen.sessions.__getitems__(chosen.source_indices[spread].tolist())
    needed, rate_hz = samples_needed(config.features), config.features.sample_rate_hz
    return recording_inputs(sessions, data.domain, samples=needed, sample_rate_hz=rate_hz)[0]


def validate_export(model_path: Path) -> Validated:
    """Prove that a run's `model.onnx` is its best checkpoint, weight by weight, and that ONNX Runtime agrees with JAX.

    Smaller files of the run must be those of the manifest, and as near to `model.onnx` as it says.

    Args:
        model_path: That file, a smaller one, or the run folder.

    Raises:
        HeimdallError: One of its children: what differs, or what of the run is missing.
    """
    from heimdall_jax.export.bundle import read_bundle
    from heimdall_jax.export.release import read_samples, validate
    from heimdall_jax.shrinking import validate_smaller

    run = open_run(read_bundle(model_path).path.parent)
    samples = read_samples(run.folder)
    parity = validate(run.folder / MODEL, run.model, samples, config=run.config, domain=run.domain)
    return Validated(parity, validate_smaller(run))
