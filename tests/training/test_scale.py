"""One step on any number of devices: nothing of the batch moves, nothing is copied, nothing is compiled twice."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from flax import nnx

from heimdall_jax.config import AugmentationConfig, ModelConfig
from heimdall_jax.models.build import build, input_names
from heimdall_jax.training.batches import iterate, training_batches
from heimdall_jax.training.checkpoints import Checkpoints
from heimdall_jax.training.dataset import HeimdallDataset, fit_domain
from heimdall_jax.training.step import Trainer
from tests.training.conftest import ORIGIN, RECEIVERS, Sessions
from tests.training.step_program import batch_shapes, said_of, trainer_of, training_of

ROOT = Path(__file__).resolve().parents[2]
SMALL = ModelConfig(name="receiver_set", width=16, depth=1, heads=2)


def faults(said, devices):
    """What is wrong with a compiled step. Kernel taps that only meet padding have no gradient: not all are averaged."""
    return {
        "the batch moves between devices": said["moves"],
        "a device holds more rows than its own": said["rows"] != [1],
        "gradients are not averaged": devices > 1 and said["reduced"] < said["parameters"] / 2,
        "the state is copied": said["overwritten"] != said["leaves"],
    }


@pytest.mark.parametrize(
    ("network", "devices"),
    [
        *(("receiver_set", devices) for devices in (8, 256)),
        pytest.param("receiver_set", 1, marks=pytest.mark.slow),
        *(pytest.param("fused", n, marks=pytest.mark.slow) for n in (1, 8, 256)),
        *(pytest.param("resnet", n, marks=pytest.mark.slow) for n in (1, 8, 256)),
        *(pytest.param("convnext", n, marks=pytest.mark.slow) for n in (1, 8, 256)),
    ],
)
def test_a_step_compiles_from_shapes_for_any_number_of_devices(network, devices):
    program = [sys.executable, "-m", "tests.training.step_program", network, str(devices)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True, timeout=280)
    said = json.loads(done.stdout.splitlines()[-1])
    assert not any(faults(said, devices).values()), faults(said, devices)


@pytest.mark.slow
def test_a_batch_on_every_device_a_gather_and_a_copy_are_found():
    devices = jax.device_count()
    trainer = trainer_of(SMALL, training_of("receiver_set", batch_size=devices))
    state, batch = trainer.shapes(batch_shapes(devices))
    everywhere = trainer.placement.everywhere

    def gathering(state, batch):
        return trainer._step(state, jax.lax.with_sharding_constraint(batch, everywhere))

    def found(step, batch):
        said = said_of(step.lower(state, batch).compile(), state)
        return {fault for fault, there in faults(said, devices).items() if there}

    whole = {k: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=everywhere) for k, v in batch.items()}
    assert found(trainer.step, batch) == set()
    assert found(trainer.step, whole) == {"a device holds more rows than its own", "gradients are not averaged"}
    copying = jax.jit(gathering, out_shardings=everywhere)
    assert {"the batch moves between devices", "the state is copied"} <= found(copying, batch)


@pytest.fixture(scope="module")
def data():
    return HeimdallDataset(Sessions(60), origin_deg=ORIGIN, rows=RECEIVERS, known=RECEIVERS)


@pytest.fixture(scope="module")
def trainer(data):
    model = build(SMALL, fit_domain(data, ORIGIN, RECEIVERS), nnx.Rngs(0))
    training = training_of("receiver_set", batch_size=16)
    return Trainer(model, training, total_steps=8, seed=0, inputs=input_names(SMALL))


def test_ragged_batches_epochs_and_resuming_compile_one_step_and_move_nothing_to_the_host(
    trainer, data, tmp_path, caplog
):
    batches = training_batches(data, batch_size=16, augmentation=AugmentationConfig(noise_db=1.0), seed=1)
    weights = [float(batches[step]["weight"].sum()) for step in range(8)]
    assert weights == [16, 16, 16, 12] * 2
    state, first = trainer.start(), trainer.place(batches[0])
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        assert trainer.cost(state, first).flops > 0
        for step, batch in zip(range(6), iterate(batches, 0, 2), strict=False):
            placed = trainer.place(batch)
            with jax.transfer_guard("disallow"):
                state, _ = trainer.step(state, placed)
            if step == 3:
                with Checkpoints(tmp_path / "c") as checkpoints:
                    checkpoints.save(4, state, {}, 0.0)
                    checkpoints.wait()
                    state = checkpoints.state(4, trainer.start())
    compiled = [record.getMessage() for record in caplog.records if "Compiling jit(_step)" in record.getMessage()]
    assert len(compiled) == 1
    assert int(state.step) == 6


def test_the_guard_sees_a_batch_that_was_not_placed(trainer, data):
    batches = training_batches(data, batch_size=16, augmentation=AugmentationConfig(), seed=1)
    unplaced = {name: batches[0][name] for name in trainer.place(batches[0])}
    state = trainer.start()
    with jax.transfer_guard("disallow"), pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        trainer.step(state, unplaced)


def test_shapes_are_those_of_what_a_step_takes(trainer, data):
    batch = training_batches(data, batch_size=16, augmentation=AugmentationConfig(), seed=1)[0]
    real, shaped = (trainer.start(), trainer.place(batch)), trainer.shapes(batch)
    assert jax.tree.structure(real) == jax.tree.structure(shaped)
    for array, shape in zip(jax.tree.leaves(real), jax.tree.leaves(shaped), strict=True):
        assert (array.shape, array.dtype) == (shape.shape, shape.dtype)
        assert array.sharding.is_equivalent_to(shape.sharding, array.ndim)
