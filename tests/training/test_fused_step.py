"""One step of the fused network on simulated arrival times, and its float64 predictions."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from heimdall_jax.config import Config, FeatureConfig, ModelConfig, TimingConfig, TrainingConfig
from heimdall_jax.models.build import build, input_names
from heimdall_jax.simulation.sessions import SimulatedSessions
from heimdall_jax.simulation.world import World
from heimdall_jax.training.batches import evaluation_batches
from heimdall_jax.training.dataset import HeimdallDataset, fit_domain
from heimdall_jax.training.step import Trainer
from heimdall_jax.worlds import TIMING_WORLD

MODEL = ModelConfig(name="receiver_set", width=16, depth=1, heads=2, identity=False, timing=True)


@pytest.fixture(scope="module")
def timed() -> HeimdallDataset:
    world = World.build(dataclasses.replace(TIMING_WORLD, kinds=("fm", "carrier")))
    names = [station.name for station in world.stations]
    return HeimdallDataset(
        SimulatedSessions(world, "train", 16),
        origin_deg=world.origin_deg,
        rows=names,
        known=names,
        features=FeatureConfig(),
        spectrogram=False,
        timing=TimingConfig(),
    )


def trainer(dataset: HeimdallDataset) -> Trainer:
    domain = fit_domain(dataset, (44.9365, 8.1965), dataset.rows)
    config = TrainingConfig(batch_size=8, warmup_fraction=0.0)
    model = build(MODEL, domain, nnx.Rngs(Config().seed))
    return Trainer(model, config, total_steps=4, seed=0, inputs=input_names(MODEL))


@pytest.mark.slow
def test_a_step_has_finite_gradients_and_float32_parameters_that_move(timed):
    train = trainer(timed)
    state = train.start()
    before = jax.tree.map(np.asarray, state.params)
    batch = next(evaluation_batches(timed, 8))
    state, report = train.step(state, train.place(batch))
    assert bool(report.finite)
    assert np.isfinite(float(report.gradient_norm))
    assert float(report.gradient_norm) > 0
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(state.params))
    moved = [np.any(np.asarray(a) != b) for a, b in zip(*map(jax.tree.leaves, (state.params, before)), strict=True)]
    assert sum(moved) > len(moved) / 2


def test_predictions_are_float64_and_metrics_float32(timed):
    train = trainer(timed)
    state = train.start()
    position_m, covariance_m2 = train.predict(state, evaluation_batches(timed, 8))
    rounded = position_m.astype(np.float32)
    assert (np.abs(position_m - rounded) > 0).all(), "float64 digits are there"
    assert (np.linalg.eigvalsh(covariance_m2) > 0).all()
    metrics = train.evaluate(state, evaluation_batches(timed, 8))
    error_m = np.linalg.norm(position_m - timed.columns()["position_m"], axis=1)
    assert metrics["error_m"] == pytest.approx(error_m.mean(), rel=1e-4)
