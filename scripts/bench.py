"""Measure speed beside peers: `bench.py --help`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from heimdall_jax.command import leave, run_script


@dataclass(frozen=True)
class Arguments:
    """Time features, training, input, inference and startup, each beside its peers in the same rounds.

    Peers need the extra `bench` (torch and librosa); a line without its peer says why. Nothing else should run.
    Examples: bench.py · bench.py train --json out.json
    """

    section: tyro.conf.Positional[Literal["features", "train", "input", "infer", "startup", "all"]] = "all"
    """What to time."""
    json: Path | None = None
    """File for the results."""
    repeats: int = 7
    """Rounds; the medians are reported."""
    debug: bool = False
    """Show tracebacks."""


def main(arguments: list[str]) -> None:
    """Parse and measure."""
    parsed = tyro.cli(Arguments, args=arguments)
    from rich.console import Console

    from heimdall_jax.benchmarks.sections import bench

    bench(parsed.section, repeats=parsed.repeats, out=parsed.json, console=Console())


if __name__ == "__main__":
    leave(run_script(main))
