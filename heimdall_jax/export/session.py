"""ONNX Runtime, opened one way everywhere. Imports no JAX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
from jaxtyping import Float32, Float64
from numpy import ndarray

from heimdall_jax.errors import ExportError, explain

FATAL_ONLY = 4
"""ONNX Runtime's log level; below it, it warns of every optional input, and prints errors that it raises, too."""


def open_session(model: bytes, threads: int | None = None) -> onnxruntime.InferenceSession:
    """A CPU session on a model's bytes.

    Args:
        model: A self-contained ONNX file.
        threads: Threads of one call; None leaves the choice to ONNX Runtime.

    Raises:
        ExportError: ONNX Runtime cannot run the model.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    # Work in small pieces: a thread that the machine holds up then holds up less.
    options.add_session_config_entry("session.dynamic_block_base", "4")
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    try:
        # Else it prints an error and tries once more in the same way.
        return onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"], enable_fallback=False)
    except Exception as error:  # its exceptions share no public base class
        problem = " ".join(str(error).split())[:300]
        cure = "Update onnxruntime, or export the run again."
        raise ExportError(explain("ONNX Runtime", got=problem, allowed="a model it can run", cure=cure)) from error


def ask(
    session: Any, feed: Mapping[str, ndarray]
) -> tuple[Float32[ndarray, "B 2"], Float64[ndarray, "B 2"], Float64[ndarray, "B 2 2"]]:
    """Position (B, E) in local metres, the same in degrees, and its covariance (B, E, E) in square metres."""
    position_m, position_deg, spread = session.run(None, dict(feed))
    spread = spread.astype(np.float64)
    covariance_m2 = np.einsum("bi,ij->bij", spread**2, np.eye(2)) if spread.ndim == 2 else spread
    return position_m, position_deg, covariance_m2
