"""The train step of each network, from shapes alone: built, lowered and compiled for any number of devices.

As a program, `python -m tests.training.step_program NETWORK DEVICES` says as JSON what a step's HLO holds.
"""

import json
import math
import os
import re
import sys
import warnings
from collections.abc import Mapping
from typing import Any

if __name__ == "__main__":
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"  # of code that never runs
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={sys.argv[2]} {flags}"

import jax
import jax.numpy as jnp
from flax import nnx

from heimdall_jax.config import NAMED, ModelConfig, TrainingConfig
from heimdall_jax.models.build import build, input_names
from heimdall_jax.training.step import Trainer
from heimdall_jax.types import Domain

DOMAIN = Domain((45.0, 8.0), tuple("abcdefg"), (0.0, 0.0), 1e4, -90.0, 10.0)
NETWORKS = {
    "resnet": ModelConfig(),
    "convnext": ModelConfig(backbone="convnext_tiny"),
    "receiver_set": NAMED["powder"].model,
    "spectral_set": ModelConfig(name="receiver_set", depth=1, spectrogram=True, snr=True),
    "fused": NAMED["simulation"].model,
}
RECEIVERS = 7
FIELDS: dict[str, tuple[tuple[int, ...], Any]] = {
    "rss_db": ((RECEIVERS,), jnp.float32),
    "receiver_m": ((RECEIVERS, 2), jnp.float32),
    "heard": ((RECEIVERS,), jnp.bool),
    "present": ((RECEIVERS,), jnp.bool),
    "identity": ((RECEIVERS,), jnp.int32),
    "snr_db": ((RECEIVERS,), jnp.float32),
    "snr_known": ((RECEIVERS,), jnp.bool),
    "mel_spectrogram": ((RECEIVERS, 128, 32), jnp.float32),
    "receiver_up_m": ((RECEIVERS,), jnp.float32),
    "clock_sigma_s": ((RECEIVERS,), jnp.float32),
    "tdoa_s": ((RECEIVERS, RECEIVERS), jnp.float32),
    "arrival_precision_per_s2": ((RECEIVERS,), jnp.float32),
    "timing_valid": ((RECEIVERS, RECEIVERS), jnp.bool),
    "position_m": ((2,), jnp.float32),
    "position_error_m": ((), jnp.float32),
    "weight": ((), jnp.float32),
    "index": ((), jnp.int32),
}
MOVES = ("all-gather", "all-to-all", "collective-permute", "collective-broadcast", "ragged-all-to-all", "send", "recv")


def batch_shapes(batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    return {name: jax.ShapeDtypeStruct((batch_size, *shape), dtype) for name, (shape, dtype) in FIELDS.items()}


def trainer_of(model: ModelConfig, training: TrainingConfig) -> Trainer:
    """With weights that are all zero: what a step compiles to does not depend on them."""

    def zero(leaf: Any) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        return jnp.zeros(leaf.shape, leaf.dtype)

    graph, state = nnx.split(nnx.eval_shape(lambda: build(model, DOMAIN, nnx.Rngs(0))))
    network = nnx.merge(graph, jax.tree.map(zero, state))
    return Trainer(network, training, total_steps=100, seed=0, inputs=input_names(model))


def training_of(name: str, **settings: Any) -> TrainingConfig:
    return TrainingConfig(ema_decay=0.99, outliers=0.01 if name == "fused" else 0.0, **settings)


def numbers_reduced(hlo: str) -> int:
    """How many numbers devices add up among them."""
    results = re.findall(r" = (\S.*?) all-reduce(?:-start)?\(", hlo)
    shapes = [re.findall(r"\w+\[([\d,]*)\]", result) for result in results]
    return sum(math.prod(int(size) for size in shape.split(",") if size) for result in shapes for shape in result)


def said_of(compiled: jax.stages.Compiled, state: Any) -> dict[str, Any]:
    """What devices exchange, inputs that outputs overwrite, the state's size, and rows of a batch on each device."""
    hlo = compiled.as_text() or ""
    head = hlo.split("\n", 1)[0]
    ((_, batch), _) = compiled.input_shardings
    sizes: Mapping[str, jax.ShapeDtypeStruct] = batch_shapes(jax.device_count())
    rows = {where.shard_shape(sizes[name].shape)[0] for name, where in batch.items() if where}  # none where unused
    return {
        "moves": [move for move in MOVES if re.search(rf" {move}(?:-start)?\(", hlo)],
        "reduced": numbers_reduced(hlo),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "overwritten": len(re.findall(r"(?:may|must)-alias", head)),
        "leaves": len(jax.tree.leaves(state)),
        "rows": sorted(rows),
    }


def main(name: str) -> dict[str, Any]:
    devices = jax.device_count()
    trainer = trainer_of(NETWORKS[name], training_of(name, batch_size=devices))
    shapes = trainer.shapes(batch_shapes(devices))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "Some donated buffers were not usable"
        compiled = trainer.step.lower(*shapes).compile()
    return said_of(compiled, shapes[0])


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
