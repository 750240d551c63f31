"""What goes into an exported graph and what comes out: names, dtypes, axes and units, one source for all of export.

Imports no JAX: serving reads it too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from heimdall_jax.errors import ExportError, explain

MASKS = ("heard", "present", "snr_known", "timing_valid")
"""Inputs that are booleans in samples and float32, 1 or 0, in the graph."""


@dataclass(frozen=True)
class Tensor:
    """One input or output of a graph.

    Attributes:
        name: Its name in the graph.
        dtype: NumPy's name of its dtype.
        shape: Sizes; a letter of the axis key where any size goes.
        axes: A word for each axis.
        unit: Of its values.
        meaning: One sentence for whoever calls the graph.
        optional: The graph fills it with ones where it is not given.
    """

    name: str
    dtype: str
    shape: tuple[str | int, ...]
    axes: tuple[str, ...]
    unit: str
    meaning: str
    optional: bool = False


_B, _R, _E, _DEG = "batch", "receiver", "east, north", "latitude, longitude"
_RATE = ", at the manifest's config.features.sample_rate_hz."

INPUTS = {
    tensor.name: tensor
    for tensor in (
        Tensor("i", "float32", ("B", "R", "T"), (_B, _R, "sample"), "full scale", f"Real part of the IQ{_RATE}"),
        Tensor("q", "float32", ("B", "R", "T"), (_B, _R, "sample"), "full scale", f"Imaginary part of the IQ{_RATE}"),
        Tensor("receiver_deg", "float64", ("B", "R", 2), (_B, _R, _DEG), "degrees", "Receivers, WGS84."),
        Tensor("altitude_m", "float32", ("B", "R"), (_B, _R), "m", "Of the receiver's antenna over the ellipsoid."),
        Tensor("rss_db", "float32", ("B", "R"), (_B, _R), "dB", "Received power, in the training data's reference."),
        Tensor("receiver_m", "float32", ("B", "R", 2), (_B, _R, _E), "m", "Receivers, local to the origin."),
        Tensor("heard", "float32", ("B", "R"), (_B, _R), "1 or 0", "The receiver measured the transmission."),
        Tensor("present", "float32", ("B", "R"), (_B, _R), "1 or 0", "It took part and its place is known."),
        Tensor("identity", "int32", ("B", "R"), (_B, _R), "index", "Its place in the list of receivers + 1; 0: new."),
        Tensor(
            "mel_spectrogram",
            "float32",
            ("B", "R", "M", "L"),
            (_B, _R, "mel band", "frame"),
            "dB full scale",
            "Log-mel spectrogram of each receiver's IQ.",
        ),
        Tensor("snr_db", "float32", ("B", "R"), (_B, _R), "dB", "Signal over noise, as the receiver measured it."),
        Tensor("snr_known", "float32", ("B", "R"), (_B, _R), "1 or 0", "It is known."),
        Tensor("receiver_up_m", "float32", ("B", "R"), (_B, _R), "m", "Height over the origin's horizontal plane."),
        Tensor("clock_sigma_s", "float32", ("B", "R"), (_B, _R), "s", "Standard deviation of the receiver's clock."),
        Tensor("tdoa_s", "float32", ("B", "R", "R"), (_B, _R, _R), "s", "Arrival time at the first less the second."),
        Tensor(
            "arrival_precision_per_s2",
            "float32",
            ("B", "R"),
            (_B, _R),
            "1/s^2",
            "1 / variance that noise gives the arrival time.",
        ),
        Tensor("timing_valid", "float32", ("B", "R", "R"), (_B, _R, _R), "1 or 0", "The pair's delay counts."),
    )
}
"""Every sample key that a model may take, as a graph takes it."""

POSITION_M = Tensor("position_m", "float32", ("B", 2), (_B, _E), "m", "Estimated place, local to the origin.")
POSITION_DEG = Tensor("position_deg", "float64", ("B", 2), (_B, _DEG), "degrees", "The same, WGS84.")
SIGMA_M = Tensor("sigma_m", "float32", ("B", 2), (_B, _E), "m", "Standard deviation per axis.")
COVARIANCE_M2 = Tensor("covariance_m2", "float32", ("B", 2, 2), (_B, _E, _E), "m^2", "Covariance of the place.")


def describe_inputs(
    names: Sequence[str], samples: Mapping[str, np.ndarray], *, dynamic_receivers: bool
) -> tuple[Tensor, ...]:
    """The graph inputs of a model that takes `names`, sized as `samples` (batched) are.

    The batch is always free; receivers are where `dynamic_receivers`. Where they are fixed, `heard` is optional; where
    IQ is taken, `present` is.

    Raises:
        ExportError: A name is unknown, or `samples` lacks it.
    """
    free = {"B", "R"} if dynamic_receivers else {"B"}
    inputs = []
    for name in names:
        if name not in INPUTS or name not in samples:
            cure = "Describe it in export/signature.py, and give samples that hold it."
            raise ExportError(explain("model input", got=name, allowed=sorted(INPUTS.keys() & samples), cure=cure))
        known, sizes = INPUTS[name], samples[name].shape
        shape = tuple(
            axis if isinstance(axis, int) or axis in free else int(size)
            for axis, size in zip(known.shape, sizes, strict=True)
        )
        optional = name == "present" if "i" in names else name == "heard" and not dynamic_receivers
        inputs.append(replace(known, shape=shape, optional=optional))
    return tuple(inputs)


def to_graph_dtype(tensor: Tensor, values: np.ndarray) -> np.ndarray:
    """A sample's array as the graph takes it: masks become float32."""
    return np.ascontiguousarray(values, dtype=tensor.dtype)
