"""Data written once for many runs: a config's data set in TFDS's format, or one's own recordings as a catalogue."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

import tyro

from heimdall_jax import config as configs
from heimdall_jax.config import Config
from heimdall_jax.errors import ConfigError, explain
from heimdall_jax.sources.own_recordings import import_recordings
from heimdall_jax.sources.prepared import SplitName, prepare, prepare_powder
from heimdall_jax.sources.splits import SPLITS


@dataclass(frozen=True)
class PrepareArguments:
    """Write data once for many runs.

    Examples: prepare_data.py --out SET · prepare_data.py --config powder --data FOLDER --split time --out SET ·
    prepare_data.py --recordings FOLDER --out CATALOGUE
    """

    out: Path
    """Folder to write; train from it with --data.source prepared (or catalogue) --data OUT."""
    config: str = "simulation"
    """Named config (simulation, powder) or a YAML file that names the data."""
    data: Annotated[str | None, tyro.conf.arg(metavar="PATH")] = None
    """POWDER's folder or file."""
    split: str | None = None
    """random, time, block, block1 to block4 or none: how POWDER is split."""
    limit: int | None = None
    """Prepare at most this many training transmissions."""
    recordings: Path | None = None
    """Folder with one's own stations.csv, recordings.csv and .npy files, to become a catalogue."""
    debug: bool = False
    """Show tracebacks."""


def prepare_data(arguments: PrepareArguments) -> str:
    """Do what the arguments ask for; gives one line that says what was written.

    Raises:
        HeimdallError: One of its children, with the cure.
    """
    if arguments.recordings is not None:
        count = import_recordings(arguments.recordings, arguments.out)
        return f"{count} sessions in the catalogue {arguments.out}"
    config = configs.load(arguments.config)
    changes = {"path": arguments.data, "split": arguments.split, "limit": arguments.limit}
    data = dataclasses.replace(config.data, **{key: value for key, value in changes.items() if value is not None})
    written = prepare_config(dataclasses.replace(config, data=data), arguments.out)
    return f"prepared set in {written}"


def prepare_config(config: Config, out: Path) -> Path:
    """Write the data set that a config names, split as it says.

    Raises:
        ConfigError: The source is prepared already, or the split is none of those that a set can hold.
        HeimdallError: See `sources.prepared.prepare`.
    """
    data = config.data
    if data.source == "simulation":
        return _prepare_simulation(config, out)
    if data.source != "powder":
        cure = "Train from it as it is."
        raise ConfigError(explain("data.source", got=data.source, allowed="simulation or powder", cure=cure))
    if data.split not in SPLITS:
        cure = "A set keeps one of the named splits; give the file when training."
        raise ConfigError(explain("data.split", got=data.split, allowed=", ".join(SPLITS), cure=cure))
    return prepare_powder(
        data.path,
        out,
        cast(SplitName, data.split),
        min_receivers=data.min_receivers,
        validation_fraction=data.validation_fraction,
        validation_seed=data.validation_seed,
        limit=data.limit,
    )


def _prepare_simulation(config: Config, out: Path) -> Path:
    """Train, validation and test of the simulated network, IQ included."""
    from heimdall_jax.simulation.sessions import SimulatedSessions
    from heimdall_jax.simulation.world import World

    world = World.build(config.world, sample_rate_hz=config.features.sample_rate_hz)
    limit = config.world.train if config.data.limit is None else min(config.data.limit, config.world.train)
    counts = {"train": limit, "validation": config.world.validation, "test": config.world.test}
    sides = {name: SimulatedSessions(world, name, count) for name, count in counts.items()}
    about = {
        "receivers": [station.name for station in world.stations],
        "origin_deg": list(world.origin_deg),
        "notes": ["simulated"],
    }
    return prepare(out, sides, about=about, name="simulated_network", spec="random")
