"""Fixes by an exported model in ONNX Runtime: against the budget of a service, and against PyTorch's export."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from heimdall_jax.benchmarks.race import OURS, Result, Timing, race, result
from heimdall_jax.config import NAMED, Config, ModelConfig
from heimdall_jax.datasets import load_data
from heimdall_jax.export import onnx
from heimdall_jax.export.release import export_model
from heimdall_jax.export.session import open_session
from heimdall_jax.export.signature import describe_inputs
from heimdall_jax.features.extract import samples_needed
from heimdall_jax.models.localization_net import ANYWHERE, LocalizationNet
from heimdall_jax.registry.recordings import recording_inputs
from heimdall_jax.registry.runtime import Runtime
from heimdall_jax.run import make_model
from heimdall_jax.types import Sample

THREADS = 2
BATCH = 64
BURST = 20
"""Calls of a session before another one's turn: its threads wait for work for a while, in the other's way."""
FIXES = 200
"""Single fixes whose 95th percentile is reported."""


def inference(repeats: int) -> Iterator[Result]:
    """Every line of the section."""
    yield fix(repeats)
    yield resnet(repeats)


def fix(repeats: int) -> Result:
    """Raw IQ of seven receivers to a place, by the default network with its initial values."""
    config, runtime, samples = default_network()
    one = {name: values[:1] for name, values in samples.items()}
    seconds = race({"one": lambda: runtime.locate(one)}, repeats=max(FIXES, repeats))["one"]
    many = race({"many": lambda: runtime.locate(samples)}, repeats=repeats)["many"]
    single, batched = Timing.of(seconds), Timing.of([took / BATCH for took in many])
    figures = {
        "p95, ms": 1e3 * float(np.quantile(seconds, 0.95)),
        f"batch {BATCH} over 1, per fix": single.median_s / batched.median_s,
        "fixes a second": 1 / batched.median_s,
    }
    targets: dict[str, str] = dict(zip(figures, ("<= 15", ">= 0.9", ">= 80"), strict=True))
    timings = {OURS: single, f"batch {BATCH}, per fix": batched}
    facts = {"threads": THREADS, "receivers": samples["i"].shape[1], "samples": samples_needed(config.features)}
    return Result("one fix, raw IQ to place, ONNX Runtime", timings, figures, targets, facts)


def default_network() -> tuple[Config, Runtime, Sample]:
    """The default config, its network with initial values as exported, and a batch of recordings for it."""
    config = NAMED["simulation"]
    world = dataclasses.replace(config.world, train=BATCH, validation=BATCH, test=BATCH, endless=False)
    config = dataclasses.replace(config, world=world)
    with tempfile.TemporaryDirectory() as folder:
        data = load_data(config, cache=Path(folder))
    assert data.test is not None
    sessions = data.test.sessions.__getitems__(list(range(BATCH)))
    needed, rate_hz = samples_needed(config.features), config.features.sample_rate_hz
    batch, _ = recording_inputs(sessions, data.domain, samples=needed, sample_rate_hz=rate_hz)
    with tempfile.TemporaryDirectory() as folder:
        probes = {name: values[:8] for name, values in batch.items()}
        model = make_model(config, data.domain)
        manifest = export_model(model, Path(folder), config=config, domain=data.domain, samples=probes)
        runtime = Runtime.load(Path(folder), threads=THREADS)
    wanted = {tensor.name for tensor in manifest.inputs}
    return config, runtime, {name: values for name, values in batch.items() if name in wanted}


def resnet(repeats: int) -> Result:
    """The exported ResNet-18 `LocalizationNet`, batch 1, and PyTorch's export of the same network."""
    config = ModelConfig(receivers=3)
    mel = np.random.default_rng(0).standard_normal((1, 3, 128, 32), np.float32)
    samples: Sample = {"mel_spectrogram": mel, "heard": np.ones((1, 3), bool)}
    inputs = describe_inputs(("mel_spectrogram", "heard"), samples, dynamic_receivers=False)
    net = LocalizationNet(config, rngs=nnx.Rngs(0))
    proto, _ = onnx.build_graph(net, inputs=inputs, domain=ANYWHERE)
    session = open_session(proto.SerializeToString(), THREADS)
    feed = {"mel_spectrogram": mel, "heard": np.ones((1, 3), np.float32)}
    works: dict[str, Callable[[], Any]] = {OURS: lambda: [session.run(None, feed) for _ in range(BURST)]}
    facts: dict[str, Any] = {"threads": THREADS}
    try:
        works["torch.onnx"] = _torch_session(config, mel)
    except ImportError as error:
        facts["torch.onnx"] = str(error)
    seconds = race(works, repeats=max(FIXES // BURST, repeats))
    return result(f"exported ResNet-18, batch 1, {BURST} calls", seconds, targets={"torch.onnx": ">= 1.0"}, facts=facts)


def _torch_session(config: ModelConfig, mel: np.ndarray) -> Callable[[], Any]:
    import torch  # pyright: ignore[reportMissingImports]

    from heimdall_jax.benchmarks.peers import ResNet

    net = ResNet(config).eval()
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        axes = {"x": {0: "batch"}, "place": {0: "batch"}, "sigma": {0: "batch"}}
        names = {"input_names": ["x"], "output_names": ["place", "sigma"], "dynamic_axes": axes}
        torch.onnx.export(net, (torch.from_numpy(mel),), path, dynamo=False, **names)
        session = open_session(Path(path).read_bytes(), THREADS)
    return lambda: [session.run(None, {"x": mel}) for _ in range(BURST)]
