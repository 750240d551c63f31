"""Which smaller files a run leaves beside its model (`export/shrink.py`), and where it is published. Imports no JAX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from heimdall_jax.errors import ConfigError, explain

Precision = Literal["float16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class ExportConfig:
    """Smaller files beside `model.onnx`, and where a finished model goes.

    Raises:
        ConfigError: A precision is unknown or told twice.
    """

    precisions: tuple[Precision, ...] = ()
    """Also write model_float16.onnx, model_int8.onnx or both, refused where the test error grows by more than 2 %."""
    publish: str = ""
    """Store to publish the model in, as s3://heimdall-models or a folder; empty: none."""

    def __post_init__(self) -> None:
        if not set(self.precisions) <= set(PRECISIONS) or len(set(self.precisions)) < len(self.precisions):
            cure = "Correct the value."
            allowed = f"each of {', '.join(PRECISIONS)} at most once"
            raise ConfigError(explain("config export.precisions", got=self.precisions, allowed=allowed, cure=cure))

    def check(self, model: str, *, timing: bool) -> None:
        """Refuse, before anything is trained, what the configured network can never become.

        Raises:
            ConfigError: It reads arrival times, or has no layers of weights and int8 is asked for.
        """
        if timing and self.precisions:
            allowed = "none with model.timing, whose graph computes delays in float64: their rounding would be metres"
            cure = "Leave export.precisions empty."
            raise ConfigError(explain("config export.precisions", got=self.precisions, allowed=allowed, cure=cure))
        if model == "radio_map" and "int8" in self.precisions:
            allowed = "float16 with model.name radio_map, which has tables but no layers that could compute in int8"
            cure = "Leave int8 out."
            raise ConfigError(explain("config export.precisions", got=self.precisions, allowed=allowed, cure=cure))
