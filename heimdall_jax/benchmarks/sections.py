"""What `scripts/bench.py` calls: one section or all of them, printed and written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from heimdall_jax.benchmarks.features import features
from heimdall_jax.benchmarks.inference import inference
from heimdall_jax.benchmarks.inputs import inputs
from heimdall_jax.benchmarks.race import Result
from heimdall_jax.benchmarks.startup import startup
from heimdall_jax.benchmarks.table import speed_table, speed_tree
from heimdall_jax.benchmarks.training import training
from heimdall_jax.errors import ConfigError, explain
from heimdall_jax.export.bundle import write_atomically

SECTIONS: dict[str, Callable[[int], Iterator[Result]]] = {
    "features": features,
    "input": inputs,
    "infer": inference,
    "startup": startup,
    "train": training,  # the last, as memory is kept from then on
}


def bench(section: str, *, repeats: int, out: Path | None, console: Console) -> list[Result]:
    """Measure a section, or every one for "all"; results are printed and written as each is there.

    Args:
        section: Of `SECTIONS`, or "all".
        repeats: Rounds of every race.
        out: JSON file.
        console: Where the tables go.

    Raises:
        ConfigError: No such section, or no rounds.
        StorageError: `out` cannot be written, or a run that startup begins fails.
    """
    if section not in (*SECTIONS, "all"):
        raise ConfigError(explain("section", got=section, allowed=", ".join((*SECTIONS, "all")), cure="Name one."))
    if repeats < 1:
        raise ConfigError(explain("--repeats", got=repeats, allowed="1 or more", cure="Give 7, as the report has."))
    results: list[Result] = []
    for name in SECTIONS if section == "all" else (section,):
        for line in SECTIONS[name](repeats):
            results.append(line)
            console.print(speed_table([line]))
            if out is not None:
                write_atomically(out, json.dumps(speed_tree(results), indent=1).encode())
    return results
