"""The radio map of a run: to draw training samples from, or as its whole model."""

from __future__ import annotations

import numpy as np

from heimdall_jax.config import Config
from heimdall_jax.datasets import Data
from heimdall_jax.errors import ConfigError, explain
from heimdall_jax.models.radio_map import RadioMapNet
from heimdall_jax.sources.splits import folds, groups
from heimdall_jax.training.dataset import HeimdallDataset
from heimdall_jax.training.map_fit import HeldOut, learn_map
from heimdall_jax.training.radio_map import RadioMap, choose_kernels, fit_radio_map

FOLDS = 5
"""Parts left out in turn. One block would not do: POWDER's differ, from 43 to 83 % of truths in a region of 68 %."""


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
    columns, kernels = train.columns(), None
    if config.radio_map.cross_validate:
        kernels = choose_kernels(columns, groups(train.start_time_s, columns["position_m"], config.data.split))
    return fit_radio_map(columns, config.radio_map, kernels)


def fill_map(net: RadioMapNet, config: Config, data: Data) -> HeldOut:
    """Learn all that a radio map network knows; gives the fixes that its regions can be judged by.

    With stated spreads the validation rows are left out. With cross-validated ones `FOLDS` parts are, drawn as the test
    is, and then all rows but the test's are learned; without validation's where these are what is measured.

    Raises:
        DataError: Too few readings.
    """
    train, validation = data.train, data.validation
    assert train is not None
    assert validation is not None
    both = {name: np.concatenate([values, validation.columns()[name]]) for name, values in train.columns().items()}
    known = np.arange(len(both["weight"])) < len(train)
    if not config.radio_map.cross_validate:
        return learn_map(net, both, [~known], refit=False)
    start_time_s, place_m = np.concatenate([train.start_time_s, validation.start_time_s]), both["position_m"]
    if data.test is None:
        both, start_time_s, place_m = train.columns(), train.start_time_s, place_m[known]
    how = start_time_s, place_m, config.data.split
    return learn_map(net, both, folds(*how, count=FOLDS), groups(*how), refit=True)
