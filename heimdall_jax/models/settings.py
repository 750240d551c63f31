"""What a network's settings must satisfy together; the range of each alone is checked by the config."""

from __future__ import annotations

import math

from heimdall_jax.config import ModelConfig
from heimdall_jax.errors import ConfigError, explain


def check(config: ModelConfig) -> None:
    """Refuse combinations that no network can have, before anything is built.

    Raises:
        ConfigError: The width does not divide into heads, the bounds of sigma are not in order, or a radio map is to
            read more than powers.
    """
    if config.width % config.heads:
        lower = config.width - config.width % config.heads
        near = " or ".join(str(width) for width in (lower, lower + config.heads) if width)
        raise ConfigError(
            explain(
                "model.width",
                got=config.width,
                allowed=f"a multiple of model.heads = {config.heads}",
                cure=f"Set model.width to {near}, or change model.heads.",
            )
        )
    if config.name == "radio_map" and (config.spectrogram or config.timing):
        name = "spectrogram" if config.spectrogram else "timing"
        cure = f"Set --model.{name} False, or --model.name receiver_set."
        raise ConfigError(explain(f"model.{name}", got="True for a radio map", allowed="powers alone", cure=cure))
    if not 0.0 < config.sigma_min_m < config.sigma_max_m < math.inf:
        raise ConfigError(
            explain(
                "model.sigma_min_m, model.sigma_max_m",
                got=f"{config.sigma_min_m} m, {config.sigma_max_m} m",
                allowed="0 < minimum < maximum, finite",
                cure="Put them in order.",
            )
        )
