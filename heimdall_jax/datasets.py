"""From a config to training, validation and test data: joins sources, simulation and `HeimdallDataset`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heimdall_jax.config import Config
from heimdall_jax.errors import ConfigError, DataError, explain
from heimdall_jax.features.extract import samples_needed
from heimdall_jax.memory import trim
from heimdall_jax.simulation.sessions import ENDLESS, SimulatedSessions
from heimdall_jax.simulation.world import World
from heimdall_jax.sources.powder import read_powder
from heimdall_jax.sources.recorded import Recordings, Stored
from heimdall_jax.sources.splits import held_out, split
from heimdall_jax.sources.subset import Subset
from heimdall_jax.training.dataset import HeimdallDataset, Progress, fit_domain
from heimdall_jax.types import Domain, Sample, SessionSource

FEATURES_VERSION = 6
"""Raise when the code of simulation or features changes what it gives, so that cached features are made anew."""
COUNTS = ("train", "endless", "validation", "test")
"""Settings of a world that change none of its transmissions."""


@dataclass(frozen=True, eq=False)
class Data:
    """A data set, split.

    Attributes:
        name: Of the data set.
        split: Of the split.
        domain: Fitted on `train`, or a finished model's own.
        train: None where only evaluation was asked for; `validation` likewise.
        test: None where the split has no test.
        skipped: What was masked or dropped, by reason.
        notes: What a reader of the results should know.
        world: The simulated world; None for real data.
        test_sessions: The simulated transmissions behind `test`.
    """

    name: str
    split: str
    domain: Domain
    train: HeimdallDataset | None
    validation: HeimdallDataset | None
    test: HeimdallDataset | None
    skipped: dict[str, int]
    notes: tuple[str, ...] = ()
    world: World | None = None
    test_sessions: SimulatedSessions | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each side."""
        sides = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: 0 if side is None else len(side) for name, side in sides.items()}


def load_data(config: Config, *, cache: Path, progress: Progress = lambda done, total: None) -> Data:
    """The data to train on.

    Raises:
        ConfigError: The split or the model does not fit the source.
        DataError: The data set is unreadable, or a side that must hold rows is empty.
    """
    if config.data.source == "simulation":
        return _simulated(config, None, cache, progress)
    source = open_recordings(config)
    parts = split(
        source,
        config.data.split,
        validation_fraction=config.data.validation_fraction,
        validation_seed=config.data.validation_seed,
        folder=config.data.path,
        limit=config.data.limit,
    )
    powers = _without_iq(source)
    trained_on = (powers[int(i)] for i in parts.train)
    known = sorted({name for s in trained_on for name, heard in zip(s.receivers, s.heard_R, strict=True) if heard})
    whole = _dataset(config, source, source.origin_deg, known, cache, progress)
    sides = [_side(whole, source, indices) for indices in (parts.train, parts.validation, parts.test)]
    train, validation, test = sides
    if train is None or validation is None:
        cure = "Give more data, or lower data.min_receivers."
        got = f"no usable {'training' if train is None else 'validation'} row"
        raise DataError(explain(f"split {parts.name}", got=got, allowed="one or more", cure=cure))
    domain = fit_domain(train, source.origin_deg, known)
    skipped, notes = _skipped(source, whole), (*source.notes, *parts.notes)
    return Data(config.data.source, parts.name, domain, train, validation, test, skipped, notes)


def load_test_data(
    config: Config, domain: Domain, *, cache: Path, progress: Progress = lambda done, total: None
) -> Data:
    """The data to evaluate a finished model on: the test side of the split, or every row where the split is `none`.

    Raises:
        DataError: The data set is unreadable, or holds no row to evaluate on.
    """
    if config.data.source == "simulation":
        return _simulated(config, domain, cache, progress)
    source = open_recordings(config)
    spec = config.data.split
    indices, notes = held_out(source, spec, folder=config.data.path)
    if spec == "none":
        indices, notes = np.arange(len(source)), ("every row of the data is evaluated",)
    whole = _dataset(config, source, domain.origin_deg, domain.receivers, cache, progress)
    test = _side(whole, source, indices)
    if test is None:
        raise DataError(explain(f"split {spec}", got="no usable row", allowed="one or more", cure="Check --split."))
    skipped = _skipped(source, whole)
    name = spec if not spec.endswith(".json") else Path(spec).name
    return Data(config.data.source, name, domain, None, None, test, skipped, (*source.notes, *notes))


def open_recordings(config: Config) -> Recordings:
    """The real data set a config names, by its source and path.

    Raises:
        ConfigError: No path, or a source that reads none.
        DataError: The data set is unreadable.
    """
    data = config.data
    if not data.path:
        cure = f"Give --data FOLDER with the {data.source} data set."
        raise ConfigError(explain("data.path", got="nothing", allowed="a folder or file", cure=cure))
    if data.source == "powder":
        return read_powder(data.path, min_receivers=data.min_receivers)
    if data.source == "prepared":
        from heimdall_jax.sources.prepared import open_prepared

        return open_prepared(data.path)
    from heimdall_jax.sources.catalogue import open_catalogue

    samples = samples_needed(config.features) if _needs_iq(config) else None
    least, iq = data.min_receivers, _needs_iq(config)
    return open_catalogue(data.path, store=data.objects, min_receivers=least, iq=iq, samples=samples)


def _without_iq(source: Recordings) -> SessionSource:
    """The same sessions without IQ where that would have to be fetched."""
    return source.without_iq() if isinstance(source, Stored) else source


def _ever_present(source: Recordings) -> list[str]:
    """Receivers that took part in any session: rows for the others would cost time and say nothing."""
    powers = _without_iq(source)
    present = np.any([session.present_R for session in (powers[i] for i in range(len(powers)))], axis=0)
    return [name for name, once in zip(source.receivers, present, strict=True) if once]


def _reading(config: Config) -> dict[str, Any]:
    """How `HeimdallDataset` is to read IQ for the configured network."""
    return {
        "features": config.features if _needs_iq(config) else None,
        "spectrogram": _needs_spectrograms(config),
        "timing": config.timing if config.model.timing else None,
    }


def _needs_iq(config: Config) -> bool:
    return _needs_spectrograms(config) or config.model.timing


def _needs_spectrograms(config: Config) -> bool:
    return config.model.name == "localization_net" or config.model.spectrogram


def _dataset(
    config: Config,
    source: Recordings,
    origin_deg: tuple[float, float],
    known: Sequence[str],
    cache: Path,
    progress: Progress,
) -> HeimdallDataset:
    channels = config.model.name == "localization_net"
    if channels and len(known) != config.model.receivers:
        cure = f"Set --model.receivers {len(known)}, or --model.name receiver_set."
        raise ConfigError(
            explain("model.receivers", got=config.model.receivers, allowed=f"{len(known)} in this data", cure=cure)
        )
    return HeimdallDataset(
        source,
        origin_deg=origin_deg,
        rows=known if channels else _ever_present(source),
        known=known,
        **_reading(config),
        cache=cache,
        fingerprint=f"{FEATURES_VERSION} {source.fingerprint()}" if isinstance(source, Stored) else None,
        min_receivers=config.data.min_receivers,
        progress=progress,
    )


def _skipped(source: Recordings, whole: HeimdallDataset) -> dict[str, int]:
    """What either left out: the source by what it knew at once, the data set when it read."""
    counts = Counter(source.skipped)
    counts.update(whole.skipped)
    return dict(counts)


def _side(whole: HeimdallDataset, source: Recordings, indices: np.ndarray) -> HeimdallDataset | None:
    """The samples of the sessions at `indices`; None if none of them is usable."""
    position = {name: i for i, name in enumerate(whole.session_ids)}
    names = [source.transmissions[int(i)].session_id for i in indices]
    kept = np.array([position[name] for name in names if name in position], np.int64)
    return whole.subset(kept) if len(kept) else None


def simulated_side(
    config: Config, name: str, count: int, cache: Path, progress: Progress
) -> tuple[HeimdallDataset, SimulatedSessions]:
    """The first `count` transmissions of the split `name` of a config's world, and the sessions behind them."""
    world = World.build(config.world, sample_rate_hz=config.features.sample_rate_hz)
    sessions = SimulatedSessions(world, name, count, iq=_needs_iq(config))
    stations = [asdict(station) for station in world.stations]  # a file of them may change under its name
    drawn = {key: value for key, value in asdict(config.world).items() if key not in COUNTS}
    if config.model.name == "localization_net" and config.model.receivers != len(stations):
        allowed, cure = len(stations), f"Set --model.receivers {len(stations)}."
        raise ConfigError(explain("model.receivers", got=config.model.receivers, allowed=allowed, cure=cure))
    dataset = HeimdallDataset(
        sessions,
        **_simulated_reading(config, world),
        cache=cache,
        fingerprint=json.dumps([FEATURES_VERSION, drawn, stations, name], sort_keys=True),
        min_receivers=config.data.min_receivers,
        progress=progress,
    )
    trim()
    return dataset, sessions


def _simulated_reading(config: Config, world: World) -> dict[str, Any]:
    """How `HeimdallDataset` is to read a world's sessions."""
    known = [station.name for station in world.stations]
    return _reading(config) | {"origin_deg": world.origin_deg, "rows": known, "known": known}


def fresh_samples(config: Config) -> Callable[[np.ndarray], Sample] | None:
    """Makes the training samples of session numbers (B,), where the config trains on an endless world; else None.

    Sessions that too few receivers heard have weight 0.
    """
    if config.data.source != "simulation" or not config.world.endless:
        return None
    world = World.build(config.world, sample_rate_hz=config.features.sample_rate_hz)
    sessions = SimulatedSessions(world, "train", ENDLESS, iq=_needs_iq(config))
    reading = _simulated_reading(config, world)

    def make(numbers: np.ndarray) -> Sample:
        made = HeimdallDataset(Subset(sessions, numbers), **reading, min_receivers=0)
        batch = made.gather(np.arange(len(numbers)))
        enough = batch["heard"].sum(axis=1) >= config.data.min_receivers
        return batch | {"weight": batch["weight"] * enough, "index": np.asarray(numbers, np.int32)}

    return make


def _simulated(config: Config, domain: Domain | None, cache: Path, progress: Progress) -> Data:
    """Train, validation and test are transmissions of the same world at places drawn independently."""
    limit = config.data.limit or config.world.train
    counts = {"train": min(limit, config.world.train), "validation": config.world.validation, "test": config.world.test}
    wanted = counts if domain is None else {"test": counts["test"]}
    sides = {name: simulated_side(config, name, count, cache, progress) for name, count in wanted.items()}
    made = {name: dataset for name, (dataset, _) in sides.items()}
    train, validation, sessions = made.get("train"), made.get("validation"), sides["test"][1]
    world = sessions.world
    if domain is None:
        domain = fit_domain(made["train"], world.origin_deg, sessions.receivers)
    skipped = dict(sum((dataset.skipped for dataset in made.values()), start=Counter[str]()))
    return Data("simulation", "new places", domain, train, validation, made["test"], skipped, (), world, sessions)
