"""Which transmissions train, validate and test: split by transmission, time or place, never within a recording."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from heimdall_jax.errors import ConfigError, DataError, explain
from heimdall_jax.geodesy import degrees_to_local
from heimdall_jax.sources.blocks import squares
from heimdall_jax.sources.powder_files import beside, load_json
from heimdall_jax.types import SessionSource

OTHER_BLOCKS = ("block1", "block2", "block3", "block4")
"""As many rows as the test of `block`, cut from what that leaves to training."""
SPLITS = ("random", "time", "block", *OTHER_BLOCKS, "none")
CHUNK_S = 300.0
"""POWDER's authors cut time into wall-clock bins of 5 minutes; so do we."""
CELL_M = 400.0
"""About the size of a hole in the map, as a test by place makes one."""
OWN_TEST_FRACTION = {"random": 0.18, "time": 0.2, "block": 0.12}
"""Test shares of the splits made here where the data set brings none: about those of POWDER."""


@runtime_checkable
class Transmission(Protocol):
    """What a split needs to know of a transmission; a `Session` has it."""

    @property
    def session_id(self) -> str:
        """Unique in its data set."""
        ...

    @property
    def start_time_s(self) -> float:
        """Unix time, seconds."""
        ...

    @property
    def truth_deg(self) -> tuple[float, float] | None:
        """Latitude, longitude of the transmitter."""
        ...


@dataclass(frozen=True, eq=False)
class Split:
    """Sorted indices of the transmissions on each side, what the split is called, and what a reader should know."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    name: str
    notes: tuple[str, ...]


def split(
    sessions: Sequence[Transmission] | SessionSource,
    spec: str,
    *,
    validation_fraction: float = 0.15,
    validation_seed: int = 0,
    folder: str | Path | None = None,
    limit: int | None = None,
) -> Split:
    """Split transmissions into training, validation and test.

    Validation is drawn from what the test leaves, as the test is: single transmissions for `random`, whole
    5-minute chunks for `time`, whole 400 m cells of the transmitter's place for all others.

    Args:
        sessions: The transmissions or their source; indices refer to their order.
        spec: `random`, `time`, `block`, `block1` to `block4`, `none` (no test), or a JSON file whose keys
            or items name the test.
        validation_fraction: Share of the rows that are not test.
        validation_seed: Draws the validation rows and the limited subset.
        folder: The data set's folder or file, beside which its own split files are looked for.
        limit: Keep at most this many training rows, chosen at random; a larger limit keeps a superset.

    Raises:
        ConfigError: `spec`, the fraction or the limit is not allowed.
        DataError: Repeated or unlabelled transmissions, a side that must hold rows is empty, or blocks do not fit.
    """
    if not 0.0 < validation_fraction < 1.0:
        cure = "0.15 is usual; early stopping needs validation rows."
        raise ConfigError(
            explain("data.validation_fraction", got=validation_fraction, allowed="0 < fraction < 1", cure=cure)
        )
    if limit is not None and limit < 1:
        raise ConfigError(explain("data.limit", got=limit, allowed="1 or more, or null", cure="Leave it out for all."))
    sessions = _transmissions(sessions)
    test, notes = held_out(sessions, spec, folder=folder)
    rest = np.setdiff1d(np.arange(len(sessions)), test)
    if not len(rest):
        cure = "Name fewer test rows, or evaluate a finished run on this data instead of training on it."
        raise DataError(
            explain(f"split {spec}", got=f"all {len(test)} rows in the test", allowed="training rows", cure=cure)
        )
    rng = np.random.default_rng(validation_seed)
    groups = _groups(sessions, spec if spec in SPLITS else "none")[rest]
    chosen = _draw(groups, validation_fraction, rng)
    train, validation = rest[~chosen], rest[chosen]
    if not len(train) or not len(validation):
        got = f"{len(rest)} rows in {len(np.unique(groups))} group(s) that cannot be divided"
        cure = "Give more data, or --split random, which divides single transmissions."
        raise DataError(explain(f"split {spec}", got=got, allowed="training and validation rows", cure=cure))
    if limit is not None and limit < len(train):
        notes = (*notes, f"training on {limit} of {len(train)} rows")
        train = np.sort(rng.permutation(train)[:limit])
    return Split(train, validation, test, spec if spec in SPLITS else Path(spec).name, notes)


def held_out(
    sessions: Sequence[Transmission] | SessionSource, spec: str, *, folder: str | Path | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Sorted indices of the test transmissions under `spec`, and notes; empty for `none`.

    Raises:
        ConfigError: `spec` is no split and no file.
        DataError: The split file is no JSON of timestamps or names none of these transmissions, or blocks do not fit.
    """
    sessions = _transmissions(sessions)
    ids = [session.session_id for session in sessions]
    if not ids:
        raise DataError(explain("split", got="no transmissions", allowed="one or more", cure="Check data.path."))
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise DataError(explain("split", got=f"{twice!r} twice", allowed="each once", cure="Remove the repetition."))
    if spec == "none":
        return np.arange(0), ("no test: all rows train or validate",)
    if spec not in SPLITS:
        file = Path(spec)
        if not file.is_file():
            near = difflib.get_close_matches(spec, SPLITS, 1)
            cure = f"Did you mean {near[0]!r}?" if near else "Check the path."
            raise ConfigError(
                explain("split", got=repr(spec), allowed=f"{', '.join(SPLITS)} or a JSON file", cure=cure)
            )
        return _named(ids, file)
    file = folder and beside(Path(folder), f"train_test_splits/{spec}_split/{spec}_test.json")
    if file:
        return _named(ids, Path(file))
    return _other_block(sessions, spec, folder) if spec in OTHER_BLOCKS else _own_test(sessions, spec)


def _transmissions(source: Sequence[Transmission] | SessionSource) -> Sequence[Transmission]:
    """What a source says of its sessions without reading their samples, where it can say."""
    known = getattr(source, "transmissions", source)
    return known if isinstance(known, Sequence) else [source[i] for i in range(len(source))]


def _named(ids: list[str], file: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Indices of the transmissions that a split file names."""
    tree = load_json(file)
    if not isinstance(tree, (dict, list)) or not all(isinstance(name, str) for name in tree):
        cure = "Write a list of timestamps, or an object keyed by them."
        raise DataError(explain(str(file), got=type(tree).__name__, allowed="JSON timestamps", cure=cure))
    names = set(tree)
    test = np.array([i for i, name in enumerate(ids) if name in names], np.int64)
    if not len(test):
        got = f"{len(names)} names, of which the data holds none"
        cure = f"The data's are like {ids[0]!r}: check that both belong together."
        raise DataError(explain(str(file), got=got, allowed="names of transmissions in the data", cure=cure))
    absent = len(names) - len(test)
    return test, (f"test of {file.name}",) + ((f"{absent} of its rows are not in the data",) if absent else ())


def _own_test(sessions: Sequence[Transmission], spec: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """A test in the same spirit, where the data set brings none; the same whatever the validation's seed."""
    fraction = OWN_TEST_FRACTION[spec]
    rng = np.random.default_rng(0)
    if spec == "block":
        place = _places(sessions)
        distance = np.linalg.norm(place - place[rng.integers(len(place))], axis=1)
        cells = _groups(sessions, "block")
        nearest = np.full(cells.max() + 1, math.inf)
        np.minimum.at(nearest, cells, distance)
        order = np.argsort(nearest, kind="stable")
        upto = np.cumsum(np.bincount(cells)[order])
        test = np.flatnonzero(np.isin(cells, order[: 1 + int(np.argmin(np.abs(upto - fraction * len(place))))]))
        how = "all 400 m cells nearest to one transmission"
    else:
        test = np.flatnonzero(_draw(_groups(sessions, spec), fraction, rng))
        how = "5-minute chunks" if spec == "time" else "transmissions"
        how += " at random"
    note = f"the data brings no {spec} split: held out {len(test)} of {len(sessions)} rows, {how}"
    return test, (note,)


def _other_block(
    sessions: Sequence[Transmission], spec: str, folder: str | Path | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """One of the squares beside the test of `block`; the same whatever the validation's seed."""
    first, (origin, *_) = held_out(sessions, "block", folder=folder)
    found = squares(_places(sessions), first, len(OTHER_BLOCKS))
    if len(found) < len(OTHER_BLOCKS):
        got = f"room for {len(found)} squares of {len(first)} beside the test of block, in {len(sessions)} rows"
        cure = "Use --split block, more data, or a JSON file that names the test."
        raise DataError(explain(f"split {spec}", got=got, allowed=f"{len(OTHER_BLOCKS)} or more", cure=cure))
    rows, seed, reach_m = found[OTHER_BLOCKS.index(spec)]
    how = f"the square of {2 * reach_m:.0f} m about {sessions[seed].session_id!r}, as many as block has, apart from it"
    return rows, (f"held out {len(rows)} of {len(sessions)} rows, {how} and its like (block: {origin})",)


def groups(start_time_s: np.ndarray, places_m: np.ndarray, spec: str) -> np.ndarray:
    """Group number (N,) of each transmission by its start (N,) or place (N, E), as `split` draws them."""
    if spec == "random":
        return np.arange(len(start_time_s))
    keys = np.floor(start_time_s[:, None] / CHUNK_S) if spec == "time" else np.floor(places_m / CELL_M)
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)


def folds(start_time_s: np.ndarray, places_m: np.ndarray, spec: str, *, count: int) -> list[np.ndarray]:
    """Masks (N,) of disjoint parts of some transmissions, each drawn as a test under `spec` is: to leave out in turn.

    Parts by place are squares, as many as are found without overlap, at least one.
    """
    rng = np.random.default_rng(0)
    if spec in ("random", "time"):
        group = groups(start_time_s, places_m, spec)
        order = rng.permutation(group.max() + 1)
        before = np.concatenate([[0], np.cumsum(np.bincount(group)[order])[:-1]])[np.argsort(order)][group]
        part = np.floor(before / len(group) / OWN_TEST_FRACTION[spec])
        return [part == number for number in range(count)]
    size = max(1, round(OWN_TEST_FRACTION["block"] * len(places_m)))
    away_m = np.abs(places_m - places_m[rng.integers(len(places_m))]).max(axis=1)
    first = np.argsort(away_m, kind="stable")[:size]
    parts = [first, *(square.rows for square in squares(places_m, first, count - 1))]
    return [np.isin(np.arange(len(places_m)), rows) for rows in parts]


def _groups(sessions: Sequence[Transmission], spec: str) -> np.ndarray:
    """Group number (N,) of each transmission: groups are never divided."""
    starts_s = np.array([session.start_time_s for session in sessions])
    return groups(starts_s, np.zeros((len(sessions), 2)) if spec in ("random", "time") else _places(sessions), spec)


def _places(sessions: Sequence[Transmission]) -> np.ndarray:
    """East, north (N, 2) of the transmitters about their mean, metres."""
    truths = [session.truth_deg for session in sessions]
    if None in truths:
        got = f"transmission {sessions[truths.index(None)].session_id!r} without a place"
        cure = "Label it, leave it out, or split by time."
        raise DataError(explain("split by place", got=got, allowed="labelled transmissions", cure=cure))
    truth_deg = np.array(truths, np.float64)
    latitude, longitude = truth_deg.mean(axis=0)
    return degrees_to_local(truth_deg, (float(latitude), float(longitude)))


def _draw(groups: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Mask (N,) of whole groups, drawn at random until the fraction is met as nearly as they allow.

    At least one group is drawn and one is left, where there are two.
    """
    counts = np.bincount(groups)
    numbers = rng.permutation(np.flatnonzero(counts))
    target, total, chosen = fraction * len(groups), 0, []
    for group in numbers[:-1]:
        if total + counts[group] <= target:
            total += int(counts[group])
            chosen.append(group)
    left = min((group for group in numbers if group not in chosen), key=lambda group: counts[group])
    over = total + counts[left] - target
    if len(chosen) + 1 < len(numbers) and (not chosen or over < target - total):
        chosen.append(left)
    return np.isin(groups, chosen)
