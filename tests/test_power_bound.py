"""A radio map beside the Bayes bound of its world: close to it, and not beyond it, which would betray a leak."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from heimdall_jax.assessment import batches_of, correction
from heimdall_jax.config import NAMED, Config
from heimdall_jax.datasets import Data, load_data
from heimdall_jax.evaluation.bayes import posterior_mean
from heimdall_jax.evaluation.calibration import coverage, squared_mahalanobis
from heimdall_jax.mapping import fill_map
from heimdall_jax.models.radio_map import RadioMapNet
from heimdall_jax.run import Run, make_model, make_trainer

POWER = NAMED["power"]
SMALL = dataclasses.replace(
    POWER,
    world=dataclasses.replace(
        POWER.world, train=2000, validation=600, test=400, shadowing_correlation_m=20_000.0, field_seed=3
    ),
    radio_map=dataclasses.replace(POWER.radio_map, correlation_m=20_000.0, spacing_m=4000.0),
)


def located(config: Config, cache: Path) -> tuple[Data, np.ndarray, np.ndarray]:
    """The data, and the fixes of its test side: means and covariances."""
    data = load_data(config, cache=cache)
    validation, test = data.validation, data.test
    assert validation is not None
    assert test is not None
    model = make_model(config, data.domain)
    assert isinstance(model, RadioMapNet)
    fill_map(model, config, data)
    trainer = make_trainer(config, model, 0)
    run = Run(cache, config, data.domain, trainer, trainer.start(), step=0)
    state = trainer.recalibrated(run.state, correction(run, validation).coefficients)
    return data, *trainer.predict(state, batches_of(config, test))


def squared_errors(data: Data, position_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared errors (N,) of the model and of the Bayes estimator on the same transmissions."""
    assert data.test_sessions is not None
    assert data.test is not None
    assert data.world is not None
    sent = data.test_sessions.transmissions(data.test.source_indices.tolist())
    best_m, _ = posterior_mean(data.world, np.asarray(sent.received_power_dbm_R), np.asarray(sent.heard_R))
    truth_m = data.test.columns()["position_m"]
    return ((position_m - truth_m) ** 2).sum(axis=1), ((best_m - truth_m) ** 2).sum(axis=1)


def standard_errors_above(model_m2: np.ndarray, bayes_m2: np.ndarray) -> float:
    """Mean of the paired difference of squared errors over its standard error; below -3 the world leaks."""
    difference = model_m2 - bayes_m2
    return float(difference.mean() / (difference.std(ddof=1) / np.sqrt(len(difference))))


def coverage_of_68(data: Data, position_m: np.ndarray, covariance_m2: np.ndarray) -> float:
    assert data.test is not None
    offset_m = data.test.columns()["position_m"].astype(np.float64) - position_m
    return coverage(squared_mahalanobis(offset_m, covariance_m2.astype(np.float64)))["0.68"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Data, np.ndarray, np.ndarray]:
    return located(SMALL, tmp_path_factory.mktemp("cache"))


def test_a_small_world_is_located_near_its_bound(small: tuple[Data, np.ndarray, np.ndarray]) -> None:
    model_m2, bayes_m2 = squared_errors(*small[:2])
    assert np.sqrt(model_m2.mean() / bayes_m2.mean()) < 1.3
    assert standard_errors_above(model_m2, bayes_m2) > -3


def test_knowing_a_little_of_the_truth_is_found(small: tuple[Data, np.ndarray, np.ndarray]) -> None:
    data, position_m, _ = small
    assert data.test is not None
    leaked_m = 0.6 * position_m + 0.4 * data.test.columns()["position_m"]
    assert standard_errors_above(*squared_errors(data, leaked_m)) < -3


@pytest.mark.long
def test_power_alone_is_within_a_fifth_of_the_bound(tmp_path: Path) -> None:
    """Issue B: shadowing correlated over 5 km, 20,000 training recordings, at least 2,000 of the test."""
    data, position_m, covariance_m2 = located(POWER, tmp_path)
    model_m2, bayes_m2 = squared_errors(data, position_m)
    assert len(model_m2) >= 4000
    assert np.sqrt(model_m2.mean() / bayes_m2.mean()) <= 1.2
    assert standard_errors_above(model_m2, bayes_m2) > -3
    assert 0.65 <= coverage_of_68(data, position_m, covariance_m2) <= 0.71
