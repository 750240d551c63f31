"""Locate with an exported model: ONNX Runtime and NumPy, no JAX."""

from __future__ import annotations

import difflib
import functools
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64
from numpy import ndarray

from heimdall_jax.errors import DataError, explain
from heimdall_jax.export.bundle import Bundle
from heimdall_jax.export.manifest import Manifest
from heimdall_jax.export.session import ask, open_session
from heimdall_jax.export.signature import MASKS, Tensor, to_graph_dtype
from heimdall_jax.registry.fetch import fetch_bundle

MEANINGFUL_WHERE = {
    **dict.fromkeys(("i", "q", "rss_db", "mel_spectrogram", "clock_sigma_s", "arrival_precision_per_s2"), "heard"),
    **dict.fromkeys(("receiver_m", "receiver_up_m", "receiver_deg", "altitude_m"), "present"),
    "snr_db": "snr_known",
    "tdoa_s": "timing_valid",
}
"""The mask that says where an input's values mean something."""
UNKNOWN_IF_INFINITE = ("clock_sigma_s",)
RECORDINGS_AT_ONCE = 4
"""Of a batch of raw IQ. Its graph is thousands of small operators, which two threads share badly: each thread takes
whole recordings instead, few enough to stay in its cache."""


@dataclass(frozen=True, eq=False)
class Fixes:
    """Where B transmitters are: metres east, north of the model's origin; degrees WGS84; covariance of the metres."""

    position_m: Float32[ndarray, "B 2"]
    position_deg: Float64[ndarray, "B 2"]
    covariance_m2: Float64[ndarray, "B 2 2"]


class Runtime:
    """A verified bundle, ready to locate. Safe to call from many threads."""

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        self.manifest: Manifest = bundle.manifest
        self._inputs = {tensor.name: tensor for tensor in bundle.manifest.inputs}
        self._model, self._threads = bundle.model, threads or os.cpu_count() or 1
        self._session: Any = open_session(bundle.model, threads)
        self._workers = ThreadPoolExecutor(self._threads, "locate")

    @classmethod
    def load(cls, uri: str | Path, *, threads: int | None = None, tracking_uri: str = "") -> Runtime:
        """From a folder, a model file, an object store or an MLflow registry; what is there is verified first.

        Args:
            uri: As `fetch.fetch_bundle` takes it: `RUN`, `s3://bucket/name`, `models:/name@champion`, ...
            threads: Of one call; None: as many as there are cores.
            tracking_uri: Of an MLflow registry; `MLFLOW_TRACKING_URI` if empty.

        Raises:
            ConfigError: The URI is of another kind.
            ExportError: The bundle is missing, altered or of another kind.
            StorageError: The store or the registry cannot be reached or read.
        """
        return cls(fetch_bundle(uri, tracking_uri=tracking_uri), threads)

    def locate(self, inputs: Mapping[str, Any]) -> Fixes:
        """Fixes of a batch.

        Args:
            inputs: NumPy arrays by the names and shapes of `manifest.inputs`, masks as bool. Values of receivers that
                did not hear, or are not present, are ignored; optional inputs may be left out.

        Raises:
            DataError: A name, dtype or shape is wrong, sizes disagree, or a value that counts is not finite.
        """
        self._check_names(inputs)
        sizes: dict[str, int] = {}
        for name, values in inputs.items():
            _check_array(self._inputs[name], values, sizes)
        self._check_values(inputs)
        feed = {name: to_graph_dtype(self._inputs[name], _without_the_meaningless(name, inputs)) for name in inputs}
        batch = len(next(iter(feed.values())))
        if "i" not in feed or batch <= RECORDINGS_AT_ONCE or self._threads == 1:
            return Fixes(*ask(self._session, feed))
        parts = [slice(start, start + RECORDINGS_AT_ONCE) for start in range(0, batch, RECORDINGS_AT_ONCE)]
        found = self._workers.map(
            lambda part: ask(self._narrow, {name: values[part] for name, values in feed.items()}), parts
        )
        return Fixes(*(np.concatenate(each) for each in zip(*found, strict=True)))

    @functools.cached_property
    def _narrow(self) -> Any:
        """A session whose calls take one thread each."""
        return open_session(self._model, 1)

    def _check_names(self, inputs: Mapping[str, Any]) -> None:
        unknown = sorted(inputs.keys() - self._inputs.keys())
        if unknown:
            near = difflib.get_close_matches(unknown[0], self._inputs, 1)
            cure = f"Did you mean {near[0]!r}?" if near else "Remove it."
            raise DataError(explain("model input", got=unknown[0], allowed=", ".join(self._inputs), cure=cure))
        missing = [name for name, tensor in self._inputs.items() if name not in inputs and not tensor.optional]
        if missing:
            tensor = self._inputs[missing[0]]
            cure = f"Give {tensor.name} {tensor.shape} {tensor.dtype}, {tensor.unit}."
            raise DataError(
                explain("model inputs", got=f"no {tensor.name}", allowed=", ".join(self._inputs), cure=cure)
            )

    def _check_values(self, inputs: Mapping[str, np.ndarray]) -> None:
        for name, values in inputs.items():
            counts = inputs.get(MEANINGFUL_WHERE.get(name, ""))
            checked = values if counts is None else values[counts.astype(bool)]
            if not np.isfinite(checked).all() and (name not in UNKNOWN_IF_INFINITE or np.isnan(checked).any()):
                cure = "Mark that receiver as not heard, or repair the value."
                raise DataError(explain(name, got="NaN or infinity", allowed="finite where it counts", cure=cure))
        if {"heard", "present"} <= inputs.keys() and (inputs["heard"].astype(bool) > inputs["present"]).any():
            cure = "Mask receivers without a known place in both."
            raise DataError(
                explain("heard", got="a receiver that is not present", allowed="only present ones", cure=cure)
            )
        known = len(self.manifest.domain.receivers)
        if "identity" in inputs and not ((inputs["identity"] >= 0) & (inputs["identity"] <= known)).all():
            cure = "Use receiver_inputs, which looks names up."
            raise DataError(explain("identity", got="a number out of range", allowed=f"0 (new) to {known}", cure=cure))


def _check_array(tensor: Tensor, values: Any, sizes: dict[str, int]) -> None:
    """Dtype and shape of one input; `sizes` remembers the free axes of the others."""
    dtypes = {"bool", "float32"} if tensor.name in MASKS else {tensor.dtype}
    if not isinstance(values, np.ndarray) or values.dtype.name not in dtypes:
        got = values.dtype.name if isinstance(values, np.ndarray) else type(values).__name__
        cure = f"Convert it with numpy.asarray(..., {sorted(dtypes)[0]!r})."
        raise DataError(explain(tensor.name, got=got, allowed=" or ".join(sorted(dtypes)), cure=cure))
    wanted = tuple(sizes.get(str(size), size) for size in tensor.shape)
    fits = len(values.shape) == len(wanted) and all(
        isinstance(size, str) or size == actual for size, actual in zip(wanted, values.shape, strict=True)
    )
    if not fits or 0 in values.shape:
        cure = f"Axes: {'; '.join(tensor.axes)}."
        raise DataError(explain(f"shape of {tensor.name}", got=values.shape, allowed=wanted, cure=cure))
    sizes.update(
        (str(size), actual) for size, actual in zip(tensor.shape, values.shape, strict=True) if isinstance(size, str)
    )
    if tensor.name in MASKS and not np.isin(values, (0, 1)).all():
        cure = "Give a boolean array."
        raise DataError(explain(tensor.name, got="values between or beyond", allowed="0 and 1", cure=cure))


def _without_the_meaningless(name: str, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Zero where a mask says that the values mean nothing, so that not even NaN travels through the graph."""
    values, counts = inputs[name], inputs.get(MEANINGFUL_WHERE.get(name, ""))
    if counts is None:
        return values
    counts = counts.astype(bool).reshape(counts.shape + (1,) * (values.ndim - 2))
    return np.where(counts, values, np.zeros((), values.dtype))
