"""What a bundle claims of its model: the record that `manifest.json` holds. Imports no JAX."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from heimdall_jax.errors import ExportError, explain
from heimdall_jax.export.signature import Tensor
from heimdall_jax.outside import parse_json
from heimdall_jax.types import Domain

SCHEMA_VERSION = 1
MAX_MANIFEST_BYTES = 4 << 20
"""A manifest has 20 kB, and the names of its receivers."""
MAX_MANIFEST_VALUES = 200_000


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


def parse_manifest(data: bytes) -> Manifest:
    """A manifest from the bytes of `manifest.json`.

    Raises:
        ExportError: No JSON, an unknown schema version, or a field that is missing or of the wrong type.
    """
    try:
        tree = parse_json(data, most_bytes=MAX_MANIFEST_BYTES, most_values=MAX_MANIFEST_VALUES)
    except ValueError as error:
        raise refuse("manifest", f"unreadable JSON ({error})", "UTF-8 JSON") from error
    if not isinstance(tree, dict):
        raise refuse("manifest", type(tree).__name__, "a JSON object")
    if tree.get("schema_version") != SCHEMA_VERSION:
        raise refuse("manifest's schema_version", repr(tree.get("schema_version")), str(SCHEMA_VERSION))
    try:
        return Manifest(
            sha256=_field(tree, "sha256", str),
            size_bytes=_field(tree, "size_bytes", int),
            opset=_field(tree, "opset", int),
            inputs=_tensors(tree, "inputs"),
            outputs=_tensors(tree, "outputs"),
            domain=_domain(_field(tree, "domain", dict)),
            config=_config(_field(tree, "config", dict)),
            parity=_field(tree, "parity", dict),
            producers=_field(tree, "producers", dict),
            names=_field(tree, "names", dict),
            metrics=_field(tree, "metrics", dict) if tree.get("metrics") is not None else None,
            smaller=tuple(map(_smaller, tree.get("smaller") or ())),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise refuse("manifest", f"{type(error).__name__} {error}", "the fields of schema 1") from error


def refuse(what: str, got: str, allowed: str) -> ExportError:
    """The error of a bundle that is not what it says."""
    cure = "Export the run again, or fetch the bundle again."
    return ExportError(explain(what, got=got[:300], allowed=allowed, cure=cure))


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _field(tree: Mapping[str, Any], key: str, kind: type) -> Any:
    value = tree[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{key} is {type(value).__name__}, not {kind.__name__}")
    return value


def _config(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """A configuration, of which serving needs the sample rate."""
    rate_hz = float(tree["features"]["sample_rate_hz"])
    if not 0 < rate_hz < math.inf:
        raise ValueError(f"a sample rate of {rate_hz} Hz")
    return tree


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
