"""A run's model handed over: exported, registered, and proven later to be what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from heimdall_jax.config import Config
from heimdall_jax.datasets import Data
from heimdall_jax.errors import StorageError
from heimdall_jax.export.manifest import Smaller
from heimdall_jax.export.parity import Report
from heimdall_jax.features.extract import samples_needed
from heimdall_jax.handover import describe_model, hand_over, undelivered
from heimdall_jax.registry.publish import Published
from heimdall_jax.registry.recordings import recording_inputs
from heimdall_jax.run import Run, open_run
from heimdall_jax.run_folder import MODEL
from heimdall_jax.tracking.metric_buffer import TrackerAway
from heimdall_jax.tracking.trackers import Tracker
from heimdall_jax.types import Sample

PROBES, RECORDED_PROBES = 32, 8
"""Samples on which an export is compared with its model; of raw IQ fewer, for they are kept beside it."""


class Delivered(NamedTuple):
    """What became of a model.

    Attributes:
        version: As it is registered; empty where it is not.
        smaller: The smaller files that were asked for.
        note: What became of the champion.
        published: What is published, if that was asked for.
        missed: To be raised in the end: the tracker did not take all of it.
    """

    version: str
    smaller: tuple[Smaller, ...]
    note: str = ""
    published: Published | None = None
    missed: StorageError | None = None


class Validated(NamedTuple):
    """How ONNX Runtime compares with JAX, and each smaller file with `model.onnx`."""

    parity: Report
    smaller: tuple[Smaller, ...]

    def to_tree(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"parity": self.parity.to_tree(), "smaller": [asdict(entry) for entry in self.smaller]}


def deliver(
    run: Run, data: Data, metrics: Mapping[str, Any], tracker: Tracker, *, precisions: Sequence[str], store: str = ""
) -> Delivered:
    """Export and validate the model, make it smaller, then hand metrics, files and model to the tracker.

    `metrics` are those that the run's `metrics.json` holds. Last, the model is published in `store`, where that is
    given.
    """
    from heimdall_jax.export.release import export_model  # jax2onnx is slow to import
    from heimdall_jax.shrinking import shrink

    folder = run.folder
    samples = _probes(run.config, data)
    export_model(run.model, folder, config=run.config, domain=run.domain, samples=samples, metrics=metrics)
    manifest = shrink(run, data, precisions)
    describe_model(folder, manifest)
    try:
        version, note, published = hand_over(folder, run.config.tracking, tracker, store)
    except TrackerAway as error:
        return Delivered("", manifest.smaller, missed=undelivered(folder, error))
    return Delivered(version, manifest.smaller, note, published)


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

    Smaller files of the run must be those of the manifest, and as near to `model.onnx` as it says; a model card must
    give its hash.

    Args:
        model_path: That file, a smaller one, or the run folder.

    Raises:
        HeimdallError: One of its children: what differs, or what of the run is missing.
    """
    from heimdall_jax.export.bundle import read_bundle
    from heimdall_jax.export.model_card import check_card
    from heimdall_jax.export.release import read_samples, validate
    from heimdall_jax.shrinking import validate_smaller

    run = open_run(read_bundle(model_path).path.parent)
    bundle = read_bundle(run.folder / MODEL)
    samples = read_samples(run.folder)
    check_card(run.folder, bundle.manifest.sha256)
    parity = validate(run.folder / MODEL, run.model, samples, config=run.config, domain=run.domain)
    return Validated(parity, validate_smaller(run))
