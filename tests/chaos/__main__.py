"""By hand: `python -m tests.chaos kills --kills 100 --processes 2`, `python -m tests.chaos soak --minutes 30`."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import OmitArgPrefixes, subcommand

from heimdall_jax.config import TrackingConfig
from heimdall_jax.tracking.mlflow_tracker import DATABASE, open_tracker
from tests.chaos.harness import chaos
from tests.chaos.soak import soak
from tests.powder_like import write_powder_like


@dataclass(frozen=True)
class Kills:
    """Kill a training at random moments and compare what it leaves with one that was left alone, bit by bit."""

    kills: int = 100
    processes: int = 1
    """Of the training, on loopback."""
    seed: int = 0
    """Of moments, signals and victims."""


@dataclass(frozen=True)
class Soak:
    """Train while servers go and come, and see whether memory and file handles stay as they are."""

    minutes: float = 30.0
    seed: int = 0
    """Of which server goes, and when."""


Command = Annotated[Kills, subcommand("kills")] | Annotated[Soak, subcommand("soak")]


def main(command: OmitArgPrefixes[Command]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        open_tracker(TrackingConfig(experiment="template"), folder / "run")
        if isinstance(command, Soak):
            soak(folder, folder / DATABASE, minutes=command.minutes, seed=command.seed)
            return
        data, seed = write_powder_like(folder / "powder"), command.seed
        chaos(folder, data, folder / DATABASE, kills=command.kills, processes=command.processes, seed=seed)
    print("equal to the bit")


if __name__ == "__main__":
    tyro.cli(main)
