"""A network by its configured name, and the sample keys it takes."""

from __future__ import annotations

import difflib
from typing import get_args, get_type_hints

from flax import nnx

from heimdall_jax.config import FeatureConfig, ModelConfig, RadioMapConfig
from heimdall_jax.errors import ConfigError, explain
from heimdall_jax.models.localization_net import LocalizationNet
from heimdall_jax.models.radio_map import RadioMapNet
from heimdall_jax.models.receiver_set import ReceiverSetNet
from heimdall_jax.models.settings import check
from heimdall_jax.types import Domain

TIMING = ("receiver_up_m", "clock_sigma_s", "tdoa_s", "arrival_precision_per_s2", "timing_valid")
"""What a network that fuses arrival times takes besides."""


def build(
    config: ModelConfig,
    domain: Domain,
    rngs: nnx.Rngs,
    *,
    n_mels: int = FeatureConfig.n_mels,
    radio_map: RadioMapConfig | None = None,
) -> LocalizationNet | ReceiverSetNet | RadioMapNet:
    """The configured network with fresh weights.

    Args:
        config: Which network and its size.
        domain: What the data look like, kept inside the network.
        rngs: Source of initial values and of dropout.
        n_mels: Bands of the spectrograms, where the receiver-set network encodes them.
        radio_map: Grid and spreads of a radio map, which is empty at first; the defaults if None.

    Raises:
        ConfigError: A name is unknown (the nearest is suggested) or a size is impossible.
    """
    _known("name", config.name)
    _known("backbone", config.backbone)
    check(config)
    if config.name == "receiver_set":
        return ReceiverSetNet(config, domain, n_mels=n_mels, rngs=rngs)
    if config.name == "radio_map":
        return RadioMapNet(domain, radio_map or RadioMapConfig())
    return LocalizationNet(config, domain, rngs=rngs)


def input_names(config: ModelConfig) -> tuple[str, ...]:
    """The sample keys that the configured network takes as keyword arguments.

    Raises:
        ConfigError: The network's name is unknown.
    """
    _known("name", config.name)
    if config.name == "localization_net":
        return ("mel_spectrogram", "heard")
    names = ("rss_db", "receiver_m", "heard", "present")
    if config.name == "radio_map":
        return (*names, "identity")
    return (
        *names,
        *("identity",) * config.identity,
        *("snr_db", "snr_known") * config.snr,
        *("mel_spectrogram",) * config.spectrogram,
        *TIMING * config.timing,
    )


def _known(field: str, name: str) -> None:
    allowed = get_args(get_type_hints(ModelConfig)[field])
    if name not in allowed:
        near = difflib.get_close_matches(name, allowed, 1)
        cure = f"Did you mean {near[0]!r}?" if near else "Choose one of them."
        raise ConfigError(explain(f"model.{field}", got=repr(name), allowed=", ".join(allowed), cure=cure))
