"""Data written once for many runs: a config's or a catalogue's in TFDS's format, or one's own as a catalogue."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

from heimdall_jax import config as configs
from heimdall_jax.config import Config
from heimdall_jax.credentials import refuse_secret
from heimdall_jax.errors import ConfigError, explain
from heimdall_jax.flags import flag, parse
from heimdall_jax.progress import counted
from heimdall_jax.sources.approved import prepare_approved
from heimdall_jax.sources.own_recordings import import_recordings
from heimdall_jax.sources.prepared import SplitName, prepare, prepare_powder
from heimdall_jax.sources.sigmf_write import write_sessions
from heimdall_jax.sources.splits import SPLITS


@dataclass(frozen=True)
class PrepareArguments:
    """Write data once for many runs.

    Example: prepare_data.py --recordings FOLDER --out CATALOGUE
    """

    out: Path
    """Folder to write; train from it with --data.source prepared (or catalogue) --data OUT."""
    config: str = "simulation"
    """Named config (simulation, powder) or a YAML file that names the data."""
    data: Annotated[str | None, flag("PATH", "config's")] = None
    """POWDER's folder or file."""
    split: Annotated[str | None, flag("NAME", "config's")] = None
    """random, time, block, none, or of POWDER block1 to block4: how the data is split."""
    limit: Annotated[int | None, flag("COUNT", "all")] = None
    """Prepare at most this many training transmissions."""
    recordings: Annotated[Path | None, flag("FOLDER")] = None
    """Folder with one's own stations.csv, recordings.csv and .npy or SigMF files, to become a catalogue."""
    sigmf: Annotated[int | None, flag("COUNT")] = None
    """Write so many test transmissions of the config's simulated world as SigMF collections."""
    catalogue: Annotated[str | None, flag("URL|FOLDER")] = None
    """Catalogue whose approved sessions --out shall hold; run again, only new and changed ones are read."""
    objects: Annotated[str | None, flag("URL", "s3://heimdall-raw-iq")] = None
    """Store of the recordings of a catalogue at a URL."""
    runner: Annotated[str | None, flag("NAME", "none, TFDS writes alone")] = None
    """Apache Beam's runner that writes a catalogue's sessions: direct, FlinkRunner, SparkRunner, DataflowRunner."""
    runner_options: Annotated[str, flag("OPTIONS")] = ""
    """Options of the runner in one string, as "--flink_master=HOST:8081 --parallelism=8"."""
    json: bool = False
    """Print one JSON object: the folder, and what was written."""
    debug: bool = False
    """Show tracebacks."""


def parse_prepare(arguments: list[str]) -> PrepareArguments:
    """The script's flags; those in `--runner-options` begin with hyphens, too, and are one value.

    Raises:
        SystemExit: Code 2, the flags are wrong, or 0 after --help.
    """
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] in ("--runner-options", "--runner_options"):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return parse(PrepareArguments, joined)


def prepare_data(arguments: PrepareArguments) -> str:
    """Do what the arguments ask for; gives one line that says what was written.

    Raises:
        HeimdallError: One of its children, with the cure.
    """
    if arguments.sigmf is not None:
        return _write_sigmf(arguments, arguments.sigmf)
    if arguments.catalogue is not None:
        return _prepare_catalogue(arguments, arguments.catalogue)
    for name in ("objects", "runner", "runner_options"):
        if getattr(arguments, name):
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(explain(flag, got="no catalogue", allowed="with --catalogue", cure="Leave it out."))
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


def _prepare_catalogue(arguments: PrepareArguments, catalogue: str) -> str:
    """The prepared set of a catalogue, brought up to date."""
    for name in ("recordings", "data", "limit"):
        if getattr(arguments, name) is not None:
            cure = "Give it when training." if name == "limit" else "Prepare one at a time."
            raise ConfigError(explain(f"--{name}", got="--catalogue too", allowed="one of them", cure=cure))
    data = configs.load(arguments.config).data
    objects = arguments.objects or data.objects
    refuse_secret("--catalogue", catalogue)
    refuse_secret("--objects", objects)
    written = prepare_approved(
        catalogue,
        arguments.out,
        arguments.split or data.split,
        objects=objects,
        min_receivers=data.min_receivers,
        validation_fraction=data.validation_fraction,
        runner=arguments.runner,
        runner_options=arguments.runner_options,
    )
    changes = f"{written.read} sessions read, {written.kept} kept, {written.dropped} dropped"
    return f"prepared set in {written.folder}: {changes}"


def _write_sigmf(arguments: PrepareArguments, count: int) -> str:
    """Simulated transmissions of the config's world, as SigMF."""
    for name in ("catalogue", "recordings", "data", "split", "limit"):
        if getattr(arguments, name) is not None:
            cure = "Leave it out."
            raise ConfigError(explain(f"--{name}", got="--sigmf too", allowed="one of them", cure=cure))
    return write_sigmf(configs.load(arguments.config), count, arguments.out)


def write_sigmf(config: Config, count: int, out: Path) -> str:
    """Write the first test transmissions of a config's world as SigMF collections; gives a line that says what.

    Raises:
        ConfigError: The config has no simulated world, `count` is below 1, or `out` is not empty.
        StorageError: A file cannot be written.
    """
    if config.data.source != "simulation":
        cure = "Choose a config such as simulation."
        raise ConfigError(explain("data.source", got=config.data.source, allowed="simulation with --sigmf", cure=cure))
    if count < 1:
        raise ConfigError(
            explain("--sigmf", got=count, allowed="1 or more transmissions", cure="Ask for at least one.")
        )
    from heimdall_jax.simulation.sessions import CHUNK, SimulatedSessions
    from heimdall_jax.simulation.world import World

    world = World.build(config.world, sample_rate_hz=config.features.sample_rate_hz)
    made = SimulatedSessions(world, "test", count)
    chunks = (made.__getitems__(range(at, min(at + CHUNK, count))) for at in range(0, count, CHUNK))
    told = counted(itertools.chain.from_iterable(chunks), count, "writing collections", "sessions")
    sessions, recordings = write_sessions(told, out)
    seconds = world.samples / world.sample_rate_hz
    return f"{sessions} SigMF collections of {recordings} recordings, {seconds:g} s each, in {out}"


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
