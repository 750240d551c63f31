#!/usr/bin/env python3
"""Measure speed beside peers: `bench.py --help`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from heimdall_jax.command import leave, run_script
from heimdall_jax.flags import flag, parse


@dataclass(frozen=True)
class Arguments:
    """Time features, training, input, inference and startup, each beside its peers in the same rounds.

    Peers need the extra `bench` (torch and librosa); a line without its peer says why. Nothing else should run.

    Example: bench.py train --out speed.json
    """

    section: tyro.conf.Positional[Literal["features", "train", "input", "infer", "startup", "all"]] = "all"
    """What to time."""
    out: Annotated[Path | None, flag("FILE")] = None
    """JSON file for the results."""
    json: bool = False
    """Print one JSON object; tables go to standard error."""
    repeats: int = 7
    """Rounds; the medians are reported."""
    debug: bool = False
    """Show tracebacks."""


def main(arguments: list[str]) -> None:
    """Parse and measure."""
    parsed = parse(Arguments, arguments)
    from rich.console import Console

    from heimdall_jax.benchmarks.sections import bench
    from heimdall_jax.benchmarks.table import speed_tree

    results = bench(parsed.section, repeats=parsed.repeats, out=parsed.out, console=Console(stderr=parsed.json))
    if parsed.json:
        print(json.dumps(speed_tree(results)))


if __name__ == "__main__":
    leave(run_script(main, keep_memory=False))
