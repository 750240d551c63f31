"""The radio map of a run: to draw training samples from, or as its whole model."""

from __future__ import annotations

import numpy as np

from heimdall_jax.assessment import batches_of
from heimdall_jax.config import Config
from heimdall_jax.errors import ConfigError, explain
from heimdall_jax.models.radio_map import RadioMapNet
from heimdall_jax.sources.splits import groups
from heimdall_jax.training.dataset import HeimdallDataset
from heimdall_jax.training.map_fit import learn_map
from heimdall_jax.training.radio_map import RadioMap, fit_radio_map


def radio_map(config: Config, train: HeimdallDataset) -> RadioMap | None:
    """The propagation model to draw samples from, if the config asks for any.

    Raises:
        ConfigError: The model takes spectrograms, which the map cannot draw.
        DataError: Too few readings to fit it.
    """
    if config.augmentation.simulated == 0.0 or config.model.name == "radio_map":  # which trains on no batches
        return None
    if config.model.name != "receiver_set" or config.model.spectrogram:
        cure = "Set it to 0, or use --model.name receiver_set without spectrograms."
        raise ConfigError(explain("augmentation.simulated", got="spectrograms", allowed="powers only", cure=cure))
    return fit_radio_map(train.columns(), config.radio_map, cross_validation_groups(config, train))


def fill_map(net: RadioMapNet, config: Config, train: HeimdallDataset, validation: HeimdallDataset) -> None:
    """Learn all that a radio map network knows.

    Raises:
        DataError: Too few readings.
    """
    learn_map(net, train.columns(), lambda: batches_of(config, validation), cross_validation_groups(config, train))


def cross_validation_groups(config: Config, train: HeimdallDataset) -> np.ndarray | None:
    """Group numbers (N,) of training rows for cross-validation, as the test is drawn; None if it is off."""
    if not config.radio_map.cross_validate:
        return None
    return groups(train.start_time_s, train.columns()["position_m"], config.data.split)
