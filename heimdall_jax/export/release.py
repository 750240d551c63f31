"""A trained model out of the house, and the proof, later, that a file is that model."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from heimdall_jax.config import Config
from heimdall_jax.errors import DataError, ExportError, explain
from heimdall_jax.export import onnx, parity
from heimdall_jax.export.bundle import read_bundle, write_atomically, write_bundle
from heimdall_jax.export.from_iq import FromIq, raw_names, takes_iq
from heimdall_jax.export.graph_check import check_same_graph, parse_graph
from heimdall_jax.export.manifest import Manifest
from heimdall_jax.export.signature import Tensor, describe_inputs
from heimdall_jax.memory import trim
from heimdall_jax.models.build import input_names
from heimdall_jax.models.receiver_set import ReceiverSetNet
from heimdall_jax.outside import parse_npz, read_file
from heimdall_jax.progress import tell
from heimdall_jax.types import Domain, Sample

SAMPLES = "export_samples.npz"
"""The samples that parity was measured on, kept so that validation needs no data set."""
MAX_SAMPLES_BYTES = 1 << 28
"""Of them, as a file and as arrays; a few samples of raw IQ have 10 MB."""


def export_model(
    model: nnx.Module,
    folder: Path,
    *,
    config: Config,
    domain: Domain,
    samples: Sample,
    metrics: Mapping[str, Any] | None = None,
) -> Manifest:
    """Write `model.onnx`, its samples and `manifest.json` into a run's folder, once ONNX Runtime agrees with JAX.

    Args:
        model: Trained; left as it is.
        folder: Of the run.
        config: Of the run.
        domain: Of the model.
        samples: Real ones, stacked on axis 0; 32 or more are best, 8 of raw IQ, which are 5 MB.
        metrics: The run's `metrics.json`, copied into the manifest.

    Raises:
        ExportError: The model cannot be expressed, or the two disagree; no manifest is left then.
        DataError: `samples` is empty.
        StorageError: The folder cannot be written.
    """
    model, inputs = _exported(model, config, domain), _describe(config, samples)
    path = folder / "model.onnx"
    tell("exporting to ONNX")
    outputs = onnx.to_onnx(model, path, inputs=inputs, domain=domain)
    trim()
    tell("comparing ONNX Runtime with JAX")
    report = parity.compare(model, path.read_bytes(), samples, inputs=inputs, domain=domain).check()
    kept = io.BytesIO()
    np.savez_compressed(kept, allow_pickle=False, **{tensor.name: samples[tensor.name] for tensor in inputs})
    write_atomically(folder / SAMPLES, kept.getvalue())
    return write_bundle(
        path,
        inputs=inputs,
        outputs=outputs,
        opset=onnx.OPSET,
        domain=domain,
        config=config,
        parity=report.to_tree(),
        metrics=metrics,
    )


def validate(path: Path, model: nnx.Module, samples: Sample, *, config: Config, domain: Domain) -> parity.Report:
    """Prove that a bundle is the export of `model`, as its run's checkpoint holds it.

    The file and its manifest must agree; the graph must equal, bit by bit, the one that `model` exports to now; and
    ONNX Runtime must agree with JAX on `samples`.

    Raises:
        ExportError: Something does not; the message says what.
        DataError: `samples` is empty.
    """
    bundle = read_bundle(path)
    if bundle.manifest.domain != domain:
        cure = "Export the run again."
        raise ExportError(
            explain("manifest's domain", got=bundle.manifest.domain, allowed=f"the checkpoint's, {domain}", cure=cure)
        )
    model, inputs = _exported(model, config, domain), _describe(config, samples)
    tell("exporting to ONNX once more")
    wanted, _ = onnx.build_graph(model, inputs=inputs, domain=domain)
    tell("comparing every weight, and ONNX Runtime with JAX")
    check_same_graph(parse_graph(bundle.model), wanted)
    return parity.compare(model, bundle.model, samples, inputs=inputs, domain=domain).check()


def read_samples(folder: Path) -> Sample:
    """The samples that `export_model` kept.

    Raises:
        ExportError: They are missing or unreadable.
    """
    try:
        return parse_npz(read_file(folder / SAMPLES, MAX_SAMPLES_BYTES), MAX_SAMPLES_BYTES)
    except (OSError, ValueError) as error:
        cure = "Export the run again."
        raise ExportError(explain(SAMPLES, got=error, allowed="the samples of the export", cure=cure)) from error


def _exported(model: nnx.Module, config: Config, domain: Domain) -> nnx.Module:
    """The network as its graph takes it: where it reads arrival times, with the features before it."""
    if not takes_iq(config.model):
        return model
    assert isinstance(model, ReceiverSetNet)
    return FromIq(model, origin_deg=domain.origin_deg, features=config.features, timing=config.timing)


def _describe(config: Config, samples: Sample) -> tuple[Tensor, ...]:
    names = raw_names(config.model) if takes_iq(config.model) else input_names(config.model)
    if any(name in samples and len(samples[name]) == 0 for name in names):
        raise DataError(explain("samples to export with", got="none", allowed="one or more", cure="Give real samples."))
    return describe_inputs(names, samples, dynamic_receivers=config.model.name != "localization_net")
