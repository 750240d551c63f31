"""States that are cut among devices train as whole ones do."""

import jax
import numpy as np
import pytest
from flax import nnx

from heimdall_jax.config import AugmentationConfig, ModelConfig
from heimdall_jax.models.build import build, input_names
from heimdall_jax.training.batches import training_batches
from heimdall_jax.training.dataset import HeimdallDataset, fit_domain
from heimdall_jax.training.placement import Placement, Sharding
from heimdall_jax.training.step import Trainer
from tests.training.conftest import ORIGIN, RECEIVERS, Sessions
from tests.training.step_program import training_of

MODEL = ModelConfig(name="receiver_set", width=128, depth=1, heads=2)


@pytest.fixture(scope="module")
def data() -> HeimdallDataset:
    return HeimdallDataset(Sessions(40), origin_deg=ORIGIN, rows=RECEIVERS, known=RECEIVERS)


def trainer_of(data: HeimdallDataset, sharding: Sharding) -> Trainer:
    model = build(MODEL, fit_domain(data, ORIGIN, RECEIVERS), nnx.Rngs(0))
    training = training_of("receiver_set", batch_size=16, sharding=sharding)
    return Trainer(model, training, total_steps=8, seed=0, inputs=input_names(MODEL))


def bytes_on_one_device(tree) -> int:
    return sum(leaf.addressable_data(0).nbytes for leaf in jax.tree.leaves(tree))


@pytest.mark.slow
def test_a_state_that_is_cut_trains_alike_in_a_share_of_the_memory(data: HeimdallDataset):
    batches = training_batches(data, batch_size=16, augmentation=AugmentationConfig(), seed=1)
    losses, held = {}, {}
    for sharding in ("replicated", "fsdp"):
        trainer = trainer_of(data, sharding)
        state, losses[sharding] = trainer.start(), []
        for step in range(4):
            state, report = trainer.step(state, trainer.place(batches[step]))
            losses[sharding].append(report.metrics.compute()["loss"])
        held[sharding] = bytes_on_one_device((state.params, state.optimizer, state.average))
        shapes = trainer.shapes(batches[0])[0]
        assert jax.tree.map(lambda leaf: leaf.sharding, state) == jax.tree.map(lambda leaf: leaf.sharding, shapes)
    np.testing.assert_allclose(losses["fsdp"], losses["replicated"], rtol=1e-5)
    assert 1 <= jax.device_count() * held["fsdp"] / held["replicated"] < 1.2


def test_only_large_arrays_are_cut_and_along_the_longest_axis_that_divides():
    placement = Placement("fsdp")
    shapes = [jax.ShapeDtypeStruct(shape, np.float32) for shape in ((64,), (63, 65), (64, 128), (128, 64), (129, 64))]
    cut = [tuple(where.spec) for where in placement.of_state(shapes)]
    assert cut == [(), (), (None, "data"), ("data",), (None, "data")]
    assert placement.rows(16) is None  # one process holds all of them
