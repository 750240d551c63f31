"""A run's model handed over: exported, registered, and proven later to be what it says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from heimdall_jax.config import Config
from heimdall_jax.datasets import Data
from heimdall_jax.export.parity import Report
from heimdall_jax.features.extract import samples_needed
from heimdall_jax.registry.recordings import recording_inputs
from heimdall_jax.run import CONFIG, METRICS, MODEL, Run, open_run
from heimdall_jax.tracking import Tracker
from heimdall_jax.types import Sample

PROBES, RECORDED_PROBES = 32, 8
"""Samples on which an export is compared with its model; of raw IQ fewer, for they are kept beside it."""


def deliver(run: Run, data: Data, metrics: Mapping[str, Any], tracker: Tracker) -> str:
    """Export and validate the model, then hand metrics, files and model to the tracker; gives the version."""
    from heimdall_jax.export.release import export_model  # jax2onnx is slow to import

    folder, tracking = run.folder, run.config.tracking
    samples = _probes(run.config, data)
    manifest = export_model(run.model, folder, config=run.config, domain=run.domain, samples=samples, metrics=metrics)
    flat = {f"test/{key}_m": value for key, value in metrics["error_m"].items()}
    flat |= {f"test/coverage_{key}": value for key, value in metrics["coverage"].items()}
    tracker.log(run.step, flat | {"test/nll_nats_per_fix": metrics["nll_nats_per_fix"]})
    tracker.flush()
    for name in (CONFIG, METRICS):
        tracker.log_artifact(folder / name)
    return tracker.register_model(folder / MODEL, manifest.to_tree(), tracking.registered_name, tracking.alias)


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


def validate_export(model_path: Path) -> Report:
    """Prove that a run's `model.onnx` is its best checkpoint, weight by weight, and that ONNX Runtime agrees with JAX.

    Args:
        model_path: That file, or the run folder.

    Raises:
        HeimdallError: One of its children: what differs, or what of the run is missing.
    """
    from heimdall_jax.export.bundle import read_bundle
    from heimdall_jax.export.release import read_samples, validate

    model_path = read_bundle(model_path).path
    run = open_run(model_path.parent)
    samples = read_samples(run.folder)
    return validate(model_path, run.model, samples, config=run.config, domain=run.domain)
