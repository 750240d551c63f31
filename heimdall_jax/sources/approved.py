"""A catalogue's approved sessions as a prepared set that follows the catalogue: only what changed is read again.

The set is TFDS's `approved_sessions/SPLIT/1.2.N`. A change writes version N + 1 beside it, which takes over the records
that are as they were and appears whole, by one renaming; then N is removed. So there is a whole set at any moment.
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from heimdall_jax.errors import DataError, StorageError, explain
from heimdall_jax.sources.approved_before import Before, read_before
from heimdall_jax.sources.approved_records import Origin, Shard, Work, shard_ends
from heimdall_jax.sources.beam import beam_settings, workers_errors
from heimdall_jax.sources.catalogue import CatalogueSource, open_catalogue
from heimdall_jax.sources.eligible import CatalogueSession
from heimdall_jax.sources.prepared import held_tests, remove_unfinished, run_builder, write_split, writing
from heimdall_jax.sources.sides import HOW, SIDES, Rule, draw_rule


@dataclass(frozen=True)
class Written:
    """Where the set is, and how many of its sessions were read from the store, taken over, and dropped."""

    folder: Path
    read: int
    kept: int
    dropped: int


def prepare_approved(
    path: str | Path,
    out: str | Path,
    spec: str = "random",
    *,
    objects: str = "",
    min_receivers: int = 3,
    validation_fraction: float = 0.15,
    runner: str | None = None,
    runner_options: str = "",
) -> Written:
    """Make the prepared set in a folder hold a catalogue's approved sessions, all of them and no others.

    A session that is in the set already is read again only where its rows or the stations changed, or an object was
    written anew: a recording or its metadata. It stays on its side for good; new ones get theirs by `sides.Rule`. Where
    nothing changed, nothing is written.

    Args:
        path: The catalogue's folder, or the URL of its database.
        out: Folder, made where it is missing; with `runner` all workers must see it under this name.
        spec: `random`, `time`, `block` or `none`.
        objects: URL of the recordings' store; empty: the folder's own, or with a URL the platform's bucket.
        min_receivers: Sessions with fewer measurements are skipped and counted.
        validation_fraction: Expected share of the sessions that are not test.
        runner: Apache Beam's (`direct`, `FlinkRunner`, …); None writes in this process.
        runner_options: Its command-line options.

    Raises:
        ConfigError: The folder holds another set, or one split otherwise; or Beam does not know the runner.
        DataError: No usable session, none to train on, or none to test on under a split that has a test.
        StorageError: The catalogue cannot be read or the folder written; or another process is writing it.
    """
    settings = beam_settings(runner, runner_options) if runner is not None else {}
    root = Path(out).absolute()
    with writing(root), _alone(root):
        before = read_before(root, spec, validation_fraction)
        source = open_catalogue(path, store=objects, min_receivers=min_receivers)
        rule = before.rule if before else draw_rule(source.transmissions, spec, validation_fraction)
        plan = Plan(source, rule, _by_side(source.transmissions, rule, before), _contents(source), before)
        remove_unfinished(root)
        with workers_errors(runner):
            folder = plan.write(root, settings)
    return Written(folder, len(source) - plan.kept, plan.kept, plan.dropped)


@dataclass(frozen=True)
class Plan:
    """What the new set holds: numbers of the source's sessions by side, and hashes of their contents by session."""

    source: CatalogueSource
    rule: Rule
    by_side: Mapping[str, Sequence[int]]
    hashes: Mapping[str, str]
    before: Before | None

    @property
    def kept(self) -> int:
        """Sessions that are taken over."""
        held = self.before.held if self.before else {}
        return sum(name in held and held[name][1] == content for name, content in self.hashes.items())

    @property
    def dropped(self) -> int:
        """Sessions of the set before that the catalogue has no more."""
        return sum(name not in self.hashes for name in self.before.held) if self.before else 0

    def rows(self, side: str) -> list[CatalogueSession]:
        """Of a side, in the order of its records."""
        return [self.source.transmissions[number] for number in self.by_side.get(side, ())]

    def write(self, root: Path, settings: dict[str, Any]) -> Path:
        """Write a new version where anything changed, and leave but the newest; gives its folder."""
        tests = {row.session_id for row in self.rows("test")}
        if self.before and self.kept == len(self.source) and not self.dropped:
            folder = self.before.folder
        else:
            # Before the new set appears: at no moment is a test session of either set one to train on.
            self._write_tests(root, tests | held_tests(root, self.rule.spec))
            folder = self._write_version(root, settings)
        for older in folder.parent.iterdir():
            if older != folder:
                shutil.rmtree(older)
        self._write_tests(root, tests)
        return folder

    def _write_tests(self, root: Path, tests: set[str]) -> None:
        if tests and tests != held_tests(root, self.rule.spec):
            write_split(root, self.rule.spec, sorted(tests))

    def _write_version(self, root: Path, settings: dict[str, Any]) -> Path:
        from heimdall_jax.sources.builders import ApprovedSessions, tfds

        first: Any = ApprovedSessions.VERSION
        patch = int(self.before.folder.name.rpartition(".")[2]) + 1 if self.before else first.patch
        config = tfds.core.BuilderConfig(name=self.rule.spec, version=f"{first.major}.{first.minor}.{patch}")
        options = {"data_dir": str(root), "file_format": "array_record", "config": config}
        work = self._work()
        builder = ApprovedSessions(files=self._files(work), about=self._about(), **options)
        with tempfile.TemporaryDirectory(prefix="incomplete.", dir=root) as folder:
            if settings:
                work.save(Path(folder) / "work.pickle")
            run_builder(builder, **settings)
        return Path(builder.data_dir)

    def _work(self) -> Work:
        before = self.before
        held = before.held if before else {}
        origins: dict[str, list[Origin]] = {side: [] for side in self.by_side}
        for side, numbers in self.by_side.items():
            for number, row in zip(numbers, self.rows(side), strict=True):
                kept, content = held.get(row.session_id, (number, ""))
                origins[side].append(kept if content == self.hashes[row.session_id] else number)
        return Work(self.source, before.folder if before else None, origins)

    def _files(self, work: Work) -> dict[str, list[Shard]]:
        return {
            side: [Shard(work, side, start, stop) for start, stop in pairwise([0, *shard_ends(self.rows(side))])]
            for side in self.by_side
        }

    def _about(self) -> dict[str, Any]:
        """The set's metadata."""
        source, rows = self.source, {side: self.rows(side) for side in self.by_side}
        overview = {side: [[row.session_id, row.start_time_s, row.truth_deg] for row in rows[side]] for side in rows}
        return {
            "receivers": list(source.receivers),
            "origin_deg": list(source.origin_deg),
            "skipped": dict(source.skipped),
            "notes": [*source.notes, HOW[self.rule.spec]],
            "rule": dataclasses.asdict(self.rule),
            "transmissions": overview,
            "contents": {side: [self.hashes[row.session_id] for row in rows[side]] for side in rows},
        }


def _contents(source: CatalogueSource) -> dict[str, str]:
    """By session, what is other when its record would be."""
    from heimdall_jax.sources.builders import ApprovedSessions

    form: Any = ApprovedSessions.VERSION
    return {name: f"{form.major}.{form.minor} {content}" for name, content in source.contents().items()}


def _by_side(rows: Sequence[CatalogueSession], rule: Rule, before: Before | None) -> dict[str, list[int]]:
    """Numbers of the sessions of each side that has any; a session that had a side keeps it.

    Raises:
        DataError: None is left to train on, or to test on where the rule has a test.
    """
    held = before.held if before else {}
    found: dict[str, list[int]] = {side: [] for side in SIDES}
    for number, (row, side) in enumerate(zip(rows, rule.sides(rows), strict=True)):
        found[held[row.session_id][0].side if row.session_id in held else side].append(number)
    for side in ("train", "test"):
        if not found[side] and not (side == "test" and rule.spec == "none"):
            got = f"none of {len(rows)} sessions in {side}"
            cure = "Approve more sessions, or prepare with --split random, or none, which has no test."
            raise DataError(explain(f"split {rule.spec}", got=got, allowed="one or more", cure=cure))
    return {side: numbers for side, numbers in found.items() if numbers}


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold the folder against other preparations, for as long as this process lives.

    Raises:
        StorageError: Another one holds it.
    """
    root.mkdir(parents=True, exist_ok=True)
    handle = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            got, cure = "another process that writes it", "Wait for it to end."
            raise StorageError(explain(f"prepared set {root}", got=got, allowed="one at a time", cure=cure)) from error
        yield
    finally:
        os.close(handle)
