"""One process of a small training, alone or among several: `python -m tests.training.hosts_program '{"out": ...}'`.

It fits through `fit_model`, in a folder that it shares, and leaves `said-INDEX.json` there: the loss of each step, what
the devices hold of the state, and every training sample that this process placed.
"""

import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    GIVEN = json.loads(sys.argv[1])
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={GIVEN['devices']}"
    os.environ["JAX_ENABLE_X64"] = str(int(GIVEN.get("double", False)))

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.console import Console

from heimdall_jax.command import leave, run_script
from heimdall_jax.compilations import remember_compilations
from heimdall_jax.config import AugmentationConfig, Config, ModelConfig, TrainingConfig
from heimdall_jax.datasets import Data
from heimdall_jax.display import Display
from heimdall_jax.errors import DataError
from heimdall_jax.fitting import Fit, fit_model, prepare_fit
from heimdall_jax.hosts import joined
from heimdall_jax.launch import Launch
from heimdall_jax.run import make_model, make_trainer
from heimdall_jax.stopping import Stop
from heimdall_jax.tracking.trackers import MemoryTracker
from heimdall_jax.training.dataset import HeimdallDataset, fit_domain
from heimdall_jax.training.step import Trainer
from tests.training.conftest import ORIGIN, RECEIVERS, Sessions

ROWS = 60
"""Four batches of 16 an epoch, the last of them padded by four."""
NETWORK = {"name": "receiver_set", "width": 16, "depth": 1, "heads": 2}
STOP = Stop()


@dataclass(frozen=True)
class Asked:
    """What a process should do.

    Attributes:
        out: Run folder.
        devices: Virtual ones of this process.
        launch: Address of process 0, how many, which one; None if alone.
        steps: How many.
        double: Compute in float64.
        pause_s: Before each step.
        fails_at: The step at which this process fails.
        training: Settings of `TrainingConfig`.
        network: Settings of `ModelConfig`.
    """

    out: str
    devices: int
    launch: tuple[str, int, int] | None = None
    steps: int = 8
    double: bool = False
    pause_s: float = 0.0
    fails_at: int = -1
    training: dict[str, Any] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict)


def config_of(asked: Asked) -> Config:
    training = {"batch_size": 16, "epochs": -(-asked.steps // 4), "ema_decay": 0.9, "patience": 10**6, "prefetch": 2}
    training |= {"evaluations_per_epoch": 0.1, "checkpoint_seconds": 1000.0}
    return Config(
        model=ModelConfig(**(NETWORK | asked.network)),
        augmentation=AugmentationConfig(receiver_dropout=0.1, noise_db=1.0, power_offset_db=1.0),
        training=TrainingConfig(**(training | asked.training)),
    )


def data_of() -> Data:
    made = {"origin_deg": ORIGIN, "rows": RECEIVERS, "known": RECEIVERS}
    train, validation = (HeimdallDataset(Sessions(count, seed=seed), **made) for count, seed in ((ROWS, 0), (36, 1)))
    return Data("made", "none", fit_domain(train, ORIGIN, RECEIVERS), train, validation, None, {})


def doubled(tree: Any) -> Any:
    """Every float32 of a tree or batch as float64."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64) if leaf.dtype == jnp.float32 else leaf, tree)


def in_double(config: Config, data: Data, fit: Fit) -> Fit:
    model = make_model(config, data.domain)
    graph, randomness, rest = nnx.split(model, nnx.RngState, ...)
    trainer = make_trainer(config, nnx.merge(graph, randomness, doubled(rest)), fit.total_steps)
    batches = fit.batches.map(lambda batch: {key: np.asarray(doubled(value)) for key, value in batch.items()})
    return fit._replace(trainer=trainer, batches=batches)


def held_share(state: Any) -> float:
    """Of the bytes of parameters and moments, the part that is on one device."""
    leaves = jax.tree.leaves((state.params, state.optimizer))
    return sum(leaf.addressable_data(0).nbytes for leaf in leaves) / sum(leaf.nbytes for leaf in leaves)


def watched(trainer: Trainer, asked: Asked) -> list[list[int]]:
    """Grows by the sample numbers of each training batch that the trainer places; slow, or failing, as asked."""
    placed: list[list[int]] = []
    place = trainer.place

    def watching(batch: Any, wish: int = 0) -> Any:
        time.sleep(asked.pause_s)
        if len(placed) == asked.fails_at:
            raise DataError("a recording is not what it was")
        placed.append([int(index) for index in batch["index"]])
        return place(batch, wish)

    def unwatched(method: Any) -> Any:
        def call(*given: Any) -> Any:
            trainer.place = place
            try:
                return method(*given)
            finally:
                trainer.place = watching

        return call

    trainer.place = watching
    trainer.evaluate, trainer.compile = unwatched(trainer.evaluate), unwatched(trainer.compile)
    return placed


def fitted(asked: Asked) -> None:
    launch = None if asked.launch is None else Launch(*asked.launch)
    out = Path(asked.out)
    with joined(launch, STOP) as hosts:
        remember_compilations(out.parent)
        config, data = config_of(asked), data_of()
        fit = prepare_fit(config, data)
        fit = in_double(config, data, fit) if asked.double else fit
        tracker, placed = MemoryTracker(), watched(fit.trainer, asked)
        tracker.start("hosts", {})
        try:
            fit_model(config, data, fit, out, tracker, Display(Console(quiet=True), 1), STOP, hosts)
        finally:
            tracker.finish()
            if placed:
                tell(tracker, placed, fit, out)


def tell(tracker: MemoryTracker, placed: list[list[int]], fit: Fit, out: Path) -> None:
    metrics = {key: sorted(steps.items()) for key, steps in tracker.runs["memory-0"].metrics.items()}
    said = {"metrics": metrics, "placed": placed, "share": held_share(fit.trainer.start())}
    (out / f"said-{jax.process_index()}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    leave(run_script(lambda arguments: fitted(Asked(**GIVEN)), stop=STOP))
