"""`python -m tests.chaos --kills 100 --processes 2 --seed 0`: as `harness.chaos` says; takes hours for many kills."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

from heimdall_jax.config import TrackingConfig
from heimdall_jax.tracking.mlflow_tracker import DATABASE, open_tracker
from tests.chaos.harness import chaos
from tests.powder_like import write_powder_like


@dataclass(frozen=True)
class Arguments:
    """Kill a training at random moments and compare what it leaves with one that was left alone, bit by bit."""

    kills: int = 100
    processes: int = 1
    """Of the training, on loopback."""
    seed: int = 0
    """Of moments, signals and victims."""


def main(arguments: Arguments) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        open_tracker(TrackingConfig(experiment="template"), folder / "run")
        data, seed = write_powder_like(folder / "powder"), arguments.seed
        chaos(folder, data, folder / DATABASE, kills=arguments.kills, processes=arguments.processes, seed=seed)
    print("equal to the bit")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
