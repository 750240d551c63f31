"""A model file and its manifest: written whole or not at all, and refused with the reason when they disagree.

Imports no JAX: serving reads bundles with it.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from heimdall_jax.config import Config
from heimdall_jax.errors import DataError, ExportError, StorageError, explain
from heimdall_jax.export.graph_check import check_graph
from heimdall_jax.export.manifest import MAX_MANIFEST_BYTES, Manifest, parse_manifest, refuse
from heimdall_jax.export.signature import Tensor
from heimdall_jax.outside import read_file
from heimdall_jax.types import Domain

MANIFEST = "manifest.json"
MAX_MODEL_BYTES = (1 << 31) - 1
"""Protocol buffers hold no more."""
PRODUCERS = ("heimdall-jax", "jax", "flax", "jax2onnx", "onnx")
SEED_NAMES = {"mel_spectrogram": "mel_spectrogram", "positions": "position_m", "uncertainties": "sigma_m"}
"""The names of the project's first contract, and what they are called here."""


@dataclass(frozen=True)
class Bundle:
    """A verified model: where it was read, its manifest, and the very bytes that were verified."""

    path: Path
    manifest: Manifest
    model: bytes


def write_bundle(
    model_path: Path,
    *,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    opset: int,
    domain: Domain,
    config: Config,
    parity: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
) -> Manifest:
    """Write `manifest.json` beside a model file.

    Raises:
        StorageError: The model cannot be read, or the manifest not written.
    """
    model = _read(model_path, StorageError, MAX_MODEL_BYTES)
    known = {tensor.name for tensor in (*inputs, *outputs)}
    manifest = Manifest(
        sha256=hashlib.sha256(model).hexdigest(),
        size_bytes=len(model),
        opset=opset,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        domain=domain,
        config=asdict(config),
        parity=parity,
        producers={package: version(package) for package in PRODUCERS},
        names={
            name: here if here in known else "covariance_m2"
            for name, here in SEED_NAMES.items()
            if here in known or name == "uncertainties"
        },
        metrics=metrics,
    )
    write_manifest(model_path.parent, manifest)
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` into a folder, over the one there.

    Raises:
        StorageError: It cannot be written.
    """
    write_atomically(folder / MANIFEST, json.dumps(manifest.to_tree(), indent=2).encode())


def read_bundle(path: Path) -> Bundle:
    """Read and verify a model file, or the `model.onnx` of a folder, against the manifest beside it.

    The manifest of a smaller file's bundle gives the hash and size of that file.

    Raises:
        ExportError: Either is missing, unreadable, altered or of another kind; the message says which.
    """
    model_path = path / "model.onnx" if path.is_dir() else path
    model = _read(model_path, ExportError, MAX_MODEL_BYTES)
    return verify_bundle(model_path, model, _read(model_path.with_name(MANIFEST), ExportError, MAX_MANIFEST_BYTES))


def verify_bundle(path: Path, model: bytes, manifest_json: bytes) -> Bundle:
    """A bundle of a model file's bytes and its `manifest.json`'s.

    Args:
        path: Of the model file, in a folder or an object store; its name says which file of the bundle it is.
        model: The file's bytes.
        manifest_json: The manifest's bytes.

    Raises:
        ExportError: They are altered, disagree, or are of another kind; the message says which.
    """
    manifest = parse_manifest(manifest_json)
    for entry in manifest.smaller:
        if entry.file == path.name and entry.sha256 is not None and entry.size_bytes is not None:
            manifest = replace(manifest, sha256=entry.sha256, size_bytes=entry.size_bytes)
    if len(model) < manifest.size_bytes:
        raise refuse("model file", f"{len(model)} bytes (truncated)", f"{manifest.size_bytes} bytes")
    digest = hashlib.sha256(model).hexdigest()
    if digest != manifest.sha256:
        raise refuse("model file's sha256", f"{digest} (the file was altered)", manifest.sha256)
    check_graph(model, opset=manifest.opset, inputs=manifest.inputs, outputs=manifest.outputs, domain=manifest.domain)
    return Bundle(path, manifest, model)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is either whole under its name or absent.

    Raises:
        StorageError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as part:
            try:
                part.write(data)
                part.flush()
                os.fsync(part.fileno())
                os.chmod(part.name, 0o644)
                os.replace(part.name, path)
            except BaseException:
                os.unlink(part.name)
                raise
    except OSError as error:
        cure = "Free space or choose another folder."
        raise StorageError(explain(f"file {path.name}", got=error, allowed="a writable folder", cure=cure)) from error


def _read(path: Path, kind: Callable[[str], ExportError | StorageError], most_bytes: int) -> bytes:
    cure = "A bundle is model.onnx and manifest.json in one folder."
    try:
        return read_file(path, most_bytes)
    except StorageError as error:
        got = getattr(error.__cause__, "strerror", None) or error.__cause__
        raise kind(explain(f"{path.name}", got=got, allowed="a file", cure=cure)) from error
    except DataError as error:
        raise kind(explain(f"{path.name}", got=error, allowed="a model's file", cure=cure)) from error
