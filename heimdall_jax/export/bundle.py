"""A model file and its manifest: written whole or not at all, and refused with the reason when they disagree.

Imports no JAX: serving reads bundles with it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from heimdall_jax.config import Config
from heimdall_jax.errors import ExportError, StorageError, explain
from heimdall_jax.export.graph_check import check_graph
from heimdall_jax.export.signature import Tensor
from heimdall_jax.types import Domain

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
PRODUCERS = ("heimdall-jax", "jax", "flax", "jax2onnx", "onnx")
SEED_NAMES = {"mel_spectrogram": "mel_spectrogram", "positions": "position_m", "uncertainties": "sigma_m"}
"""The names of the project's first contract, and what they are called here."""


@dataclass(frozen=True)
class Smaller:
    """What a smaller file (`export/shrink.py`) is worth beside the float32 one; both were asked in ONNX Runtime.

    Attributes:
        precision: `float16` or `int8`.
        file: Its name, beside the manifest.
        accepted: The file is there; a refused one is not.
        reason: Why it was refused, or empty.
        sha256: Of the file; this and what follows is None where it could not be made.
        size_bytes: Of the file.
        accuracy: On rows with a known truth, see `shrinking.shrink`.
        differences: The largest from the float32 graph, see `smaller.differences`.
    """

    precision: str
    file: str
    accepted: bool
    reason: str = ""
    sha256: str | None = None
    size_bytes: int | None = None
    accuracy: Mapping[str, Any] | None = None
    differences: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Manifest:
    """What a bundle claims of its model; every field is checked against the file when it is read.

    Attributes:
        sha256: Of the model file.
        size_bytes: Of the model file.
        opset: ONNX operator set.
        inputs: Of the graph, in order.
        outputs: Of the graph, in order.
        domain: Origin, known receivers and normalisers.
        config: The run's configuration as nested dicts.
        parity: The report of ONNX Runtime against JAX, see `parity.Report`.
        producers: Versions of the packages that made the file.
        names: The seed contract's names, as this graph calls them.
        metrics: The run's `metrics.json`, where given.
        smaller: Smaller files that were asked for, refused ones too.
        schema_version: Of this record.
    """

    sha256: str
    size_bytes: int
    opset: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    domain: Domain
    config: Mapping[str, Any]
    parity: Mapping[str, Any]
    producers: Mapping[str, str]
    names: Mapping[str, str]
    metrics: Mapping[str, Any] | None = None
    smaller: tuple[Smaller, ...] = ()
    schema_version: int = SCHEMA_VERSION

    @property
    def samples(self) -> int | None:
        """IQ samples of each receiver that the graph takes; None if it takes features."""
        sizes = [tensor.shape[2] for tensor in self.inputs if tensor.name == "i"]
        return int(sizes[0]) if sizes else None

    @property
    def sample_rate_hz(self) -> float:
        """Of the IQ that the model was trained on."""
        return float(self.config["features"]["sample_rate_hz"])

    def to_tree(self) -> dict[str, Any]:
        """As nested dicts, what `manifest.json` holds; NaN and infinity, which JSON lacks, become null."""
        return _as_json(asdict(self))


@dataclass(frozen=True)
class Bundle:
    """A verified model: its manifest and the very bytes that were verified."""

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
    model = _read(model_path, StorageError)
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
    model = _read(model_path, ExportError)
    manifest = parse_manifest(_read(model_path.with_name(MANIFEST), ExportError))
    for entry in manifest.smaller:
        if entry.file == model_path.name and entry.sha256 is not None and entry.size_bytes is not None:
            manifest = replace(manifest, sha256=entry.sha256, size_bytes=entry.size_bytes)
    if len(model) < manifest.size_bytes:
        raise _refuse("model file", f"{len(model)} bytes (truncated)", f"{manifest.size_bytes} bytes")
    digest = hashlib.sha256(model).hexdigest()
    if digest != manifest.sha256:
        raise _refuse("model file's sha256", f"{digest} (the file was altered)", manifest.sha256)
    check_graph(model, opset=manifest.opset, inputs=manifest.inputs, outputs=manifest.outputs, domain=manifest.domain)
    return Bundle(model_path, manifest, model)


def parse_manifest(data: bytes) -> Manifest:
    """A manifest from the bytes of `manifest.json`.

    Raises:
        ExportError: No JSON, an unknown schema version, or a field that is missing or of the wrong type.
    """
    try:
        tree = json.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise _refuse("manifest", f"unreadable JSON ({error})", "UTF-8 JSON") from error
    if not isinstance(tree, dict):
        raise _refuse("manifest", type(tree).__name__, "a JSON object")
    if tree.get("schema_version") != SCHEMA_VERSION:
        raise _refuse("manifest's schema_version", repr(tree.get("schema_version")), str(SCHEMA_VERSION))
    try:
        return Manifest(
            sha256=_field(tree, "sha256", str),
            size_bytes=_field(tree, "size_bytes", int),
            opset=_field(tree, "opset", int),
            inputs=_tensors(tree, "inputs"),
            outputs=_tensors(tree, "outputs"),
            domain=_domain(_field(tree, "domain", dict)),
            config=_field(tree, "config", dict),
            parity=_field(tree, "parity", dict),
            producers=_field(tree, "producers", dict),
            names=_field(tree, "names", dict),
            metrics=_field(tree, "metrics", dict) if tree.get("metrics") is not None else None,
            smaller=tuple(map(_smaller, tree.get("smaller") or ())),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _refuse("manifest", f"{type(error).__name__} {error}", "the fields of schema 1") from error


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


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read(path: Path, kind: Callable[[str], ExportError | StorageError]) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        cure = "A bundle is model.onnx and manifest.json in one folder."
        raise kind(explain(f"{path.name}", got=error.strerror or error, allowed="a file", cure=cure)) from error


def _field(tree: Mapping[str, Any], key: str, kind: type) -> Any:
    value = tree[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{key} is {type(value).__name__}, not {kind.__name__}")
    return value


def _tensors(tree: Mapping[str, Any], key: str) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(**entry | {"shape": tuple(entry["shape"]), "axes": tuple(entry["axes"])})
        for entry in _field(tree, key, list)
    )


def _smaller(tree: Mapping[str, Any]) -> Smaller:
    entry = Smaller(**tree)
    for value, kind in ((entry.file, str), (entry.sha256, str | None), (entry.size_bytes, int | None)):
        if not isinstance(value, kind):
            raise TypeError(f"smaller holds {value!r}, not {kind}")
    return entry


def _domain(tree: Mapping[str, Any]) -> Domain:
    latitude_deg, longitude_deg = map(float, tree["origin_deg"])
    east_m, north_m = map(float, tree["position_mean_m"])
    box_m = tree.get("position_box_m", Domain.position_box_m)  # a bundle from before it was kept has no use for it
    west_m, south_m, east_edge_m, north_edge_m = map(float, box_m)
    return Domain(
        origin_deg=(latitude_deg, longitude_deg),
        receivers=tuple(map(str, tree["receivers"])),
        position_mean_m=(east_m, north_m),
        position_std_m=float(tree["position_std_m"]),
        feature_mean=float(tree["feature_mean"]),
        feature_std=float(tree["feature_std"]),
        position_box_m=(west_m, south_m, east_edge_m, north_edge_m),
    )


def _refuse(what: str, got: str, allowed: str) -> ExportError:
    cure = "Export the run again, or fetch the bundle again."
    return ExportError(explain(what, got=got[:300], allowed=allowed, cure=cure))
