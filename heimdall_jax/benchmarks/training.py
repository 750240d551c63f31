"""Training steps beside PyTorch's, and as a share of the matrix product that this machine can do."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from heimdall_jax.benchmarks.race import OURS, Result, race, result
from heimdall_jax.config import ModelConfig, TrainingConfig
from heimdall_jax.memory import reuse
from heimdall_jax.models.localization_net import LocalizationNet
from heimdall_jax.models.receiver_set import ReceiverSetNet
from heimdall_jax.models.tokens import FEATURES
from heimdall_jax.training.step import Trainer
from heimdall_jax.types import Domain, Sample

PRODUCT = 4096
"""Rows and columns of the matrices whose product is the machine's peak."""
RESNET_FLOPS = 28.4e9
"""Of a step of ResNet-18 on 32 spectrograms of three receivers, 128 x 32."""
RECEIVERS = 25
"""Of the receiver-set network: as many as POWDER has at once."""
PEAK = "share of the matrix-product peak"
COMPILERS = {"PyTorch": False, "torch.compile": True}


def training(repeats: int) -> Iterator[Result]:
    """Every line of the section. Freed memory is kept as `train.py` keeps it, by peers, too."""
    reuse()
    yield resnet(repeats)
    yield receiver_set(repeats)


def resnet(repeats: int, *, batch_size: int = 32) -> Result:
    """Steps of the default `LocalizationNet`, and in the same rounds the product of two large matrices."""
    model, config = ModelConfig(receivers=3), TrainingConfig(batch_size=batch_size)
    rng = np.random.default_rng(0)
    batch = _labels(batch_size, rng) | {
        "mel_spectrogram": rng.standard_normal((batch_size, 3, 128, 32), np.float32),
        "heard": np.ones((batch_size, 3), bool),
    }
    net = LocalizationNet(model, rngs=nnx.Rngs(0))
    matrix = jnp.ones((PRODUCT, PRODUCT))
    product = jax.jit(lambda a: a @ a)
    works = {OURS: _steps(net, config, batch, ("mel_spectrogram", "heard"))}
    facts: dict[str, Any] = {"parameters": _count(net), "batch": batch_size}
    works |= _peers(lambda peers: peers.ResNet(model), (batch["mel_spectrogram"],), batch, config, facts)
    works["matrix product"] = lambda: product(matrix).block_until_ready()
    seconds = race(works, repeats=repeats)
    flops_per_s = 2 * PRODUCT**3 / statistics.median(seconds.pop("matrix product"))
    facts |= {"peak GFLOP/s": flops_per_s / 1e9}
    work = f"ResNet-18 step, batch {batch_size}, float32"
    found = result(work, seconds, targets=dict.fromkeys(COMPILERS, ">= 1.3") | {PEAK: ">= 0.6"}, facts=facts)
    found.ratios[PEAK] = RESNET_FLOPS * batch_size / 32 / found.timings[OURS].median_s / flops_per_s
    return found


def receiver_set(repeats: int, *, batch_size: int = 64) -> Result:
    """Steps of the receiver-set network of `--config powder`'s size, without identities, which the peer lacks."""
    model, config = ModelConfig(name="receiver_set", identity=False), TrainingConfig(batch_size=batch_size)
    rng = np.random.default_rng(0)
    present = rng.random((batch_size, RECEIVERS)) < 0.8
    batch = _labels(batch_size, rng) | {
        "rss_db": rng.standard_normal((batch_size, RECEIVERS), np.float32),
        "receiver_m": rng.standard_normal((batch_size, RECEIVERS, 2), np.float32),
        "heard": present,
        "present": present,
    }
    net = ReceiverSetNet(model, Domain(origin_deg=(0.0, 0.0), receivers=()), rngs=nnx.Rngs(0))
    works = {OURS: _steps(net, config, batch, ("rss_db", "receiver_m", "heard", "present"))}
    facts: dict[str, Any] = {"parameters": _count(net), "batch": batch_size, "receivers": RECEIVERS}
    tokens = rng.standard_normal((batch_size, RECEIVERS, FEATURES), np.float32)
    works |= _peers(lambda peers: peers.SetTransformer(model, FEATURES), (tokens, ~present), batch, config, facts)
    work = f"receiver-set step, batch {batch_size}, float32"
    return result(work, race(works, repeats=repeats), targets=dict.fromkeys(COMPILERS, ">= 1.3"), facts=facts)


def _labels(batch_size: int, rng: np.random.Generator) -> Sample:
    return {
        "position_m": rng.standard_normal((batch_size, 2), np.float32),
        "position_error_m": np.ones(batch_size, np.float32),
        "weight": np.ones(batch_size, np.float32),
        "index": np.arange(batch_size),
    }


def _steps(net: nnx.Module, config: TrainingConfig, batch: Sample, inputs: tuple[str, ...]) -> Callable[[], Any]:
    """One step after another, from the batch in the host's memory to the loss."""
    trainer = Trainer(net, config, total_steps=10_000, seed=0, inputs=inputs)
    state = trainer.start()

    def step() -> Any:
        nonlocal state
        state, report = trainer.step(state, trainer.place(batch))
        return jax.block_until_ready((state, report))

    return step


def _peers(
    build: Callable[[Any], Any],
    inputs: tuple[np.ndarray, ...],
    batch: Sample,
    config: TrainingConfig,
    facts: dict[str, Any],
) -> dict[str, Callable[[], Any]]:
    """PyTorch's steps, eager and compiled; why there are none goes into `facts`."""
    try:
        import torch  # pyright: ignore[reportMissingImports]

        from heimdall_jax.benchmarks import peers
    except ImportError as error:
        facts["PyTorch"] = str(error)
        return {}
    given, truth = tuple(map(torch.from_numpy, inputs)), torch.from_numpy(batch["position_m"])
    facts["PyTorch's parameters"] = sum(p.numel() for p in build(peers).parameters())
    return {
        name: peers.train_step(build(peers), given, truth, config, compiled=compiled)
        for name, compiled in COMPILERS.items()
    }


def _count(net: nnx.Module) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(net, nnx.Param)))
