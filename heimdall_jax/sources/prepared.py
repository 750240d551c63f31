"""Prepared sets: sessions written once in TFDS's format, and read back exactly, in any order, without TensorFlow."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, SupportsIndex

import numpy as np

from heimdall_jax.errors import ConfigError, DataError, StorageError, explain
from heimdall_jax.outside import MAX_TEXT_BYTES, parse_json, read_file
from heimdall_jax.types import Session, SessionSource

INFO = "dataset_info.json"
CLASSES = {
    f"tensorflow_datasets.core.features.{name}"
    for name in ("features_dict.FeaturesDict", "tensor_feature.Tensor", "text_feature.Text", "scalar.Scalar")
}
"""Of the features that a set may have."""
DAMAGE = (ValueError, LookupError, TypeError, AttributeError, RuntimeError)
"""What TFDS raises for files that are not what they say."""
SplitName = Literal["random", "time", "block", "block1", "block2", "block3", "block4", "none"]


@dataclass(frozen=True)
class PreparedSession:
    """Which record a session is, and what a split needs to know of it."""

    side: str
    record: int
    session_id: str
    start_time_s: float
    truth_deg: tuple[float, float] | None


class PreparedSource:
    """The sessions of a prepared set in the order of time; a `SessionSource`.

    Attributes:
        receivers: Names of all receivers.
        origin_deg: Origin of the local frame.
        transmissions: One `PreparedSession` for each session.
        skipped: What was masked or skipped when the set was prepared, by reason.
        notes: What a reader of results should know.
        name: Of the data set.
    """

    def __init__(self, builder: Any, sides: Iterable[str]) -> None:
        """`builder` is TFDS's, of a set that `prepare` wrote."""
        about = builder.info.metadata
        self.name = str(builder.name)
        self.receivers: tuple[str, ...] = tuple(about["receivers"])
        latitude, longitude = about["origin_deg"]
        self.origin_deg: tuple[float, float] = (float(latitude), float(longitude))
        self.skipped: dict[str, int] = dict(about["skipped"])
        self.notes: tuple[str, ...] = tuple(about["notes"])
        self._records = {side: builder.as_data_source(split=side) for side in sides}
        rows = [
            PreparedSession(side, record, name, start, (truth[0], truth[1]) if truth else None)
            for side in self._records
            for record, (name, start, truth) in enumerate(about["transmissions"][side])
        ]
        self.transmissions = tuple(sorted(rows, key=lambda row: (row.start_time_s, row.session_id)))

    def __len__(self) -> int:
        return len(self.transmissions)

    def __getitem__(self, index: SupportsIndex, /) -> Session:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Iterable[SupportsIndex], /) -> list[Session]:
        rows = [self.transmissions[i] for i in indices]
        try:
            return [self._decode(self._records[row.side][row.record]) for row in rows]
        except (*DAMAGE, OSError) as error:
            got = f"an unreadable record ({error})"
            raise StorageError(explain(self.name, got=got, allowed="a whole set", cure="Prepare it again.")) from error

    def _decode(self, record: Mapping[str, Any]) -> Session:
        def known(name: str) -> float | None:
            value = float(record[name])
            return None if np.isnan(value) else value

        truth, iq = record["truth_deg"], record["iq"]
        return Session(
            session_id=record["session_id"].decode(),
            start_time_s=float(record["start_time_s"]),
            receivers=self.receivers,
            receiver_deg_RE=record["receiver_deg"],
            present_R=record["present"],
            heard_R=record["heard"],
            rss_db_R=record["rss_db"],
            truth_deg=None if np.isnan(truth).any() else (float(truth[0]), float(truth[1])),
            truth_error_m=float(record["truth_error_m"]),
            iq_RT=iq.reshape(-1).view(np.complex64).reshape(len(self.receivers), -1) if iq.size else None,
            sample_rate_hz=known("sample_rate_hz"),
            frequency_hz=known("frequency_hz"),
            altitude_m_R=record["altitude_m"] if record["altitude_m"].size else None,
            clock_sigma_s_R=record["clock_sigma_s"] if record["clock_sigma_s"].size else None,
            snr_db_R=record["snr_db"] if record["snr_db"].size else None,
            masked=tuple(record["masked"].decode().splitlines()),
        )


def open_prepared(folder: str | Path, sides: str | None = None) -> PreparedSource:
    """The sessions of the prepared set in a folder.

    Args:
        folder: That `prepare` wrote, or one in it.
        sides: `train`, `validation`, `test`, or some joined by `+`; None reads all.

    Raises:
        StorageError: No folder, or its files cannot be read.
        DataError: It holds no prepared set, or several; of several versions of one it is the newest.
        ConfigError: A side is not in the set.
    """
    root = Path(folder)
    if not root.is_dir():
        raise StorageError(
            explain("prepared set", got=f"no folder {root}", allowed="a folder", cure="Make it with prepare_data.py.")
        )
    found = held_sets(root)
    if len(found) != 1:
        got = ", ".join(str(path.relative_to(root)) for path in found) or "none"
        cure = "Name one of them." if found else "Make it with scripts/prepare_data.py."
        raise DataError(explain(f"prepared sets in {root}", got=got, allowed="one", cure=cure))
    import tensorflow_datasets as tfds
    from google.protobuf.json_format import ParseError

    try:
        _check_classes(found[0])
        builder: Any = tfds.builder_from_directory(found[0])
        if "masked" not in builder.info.features:
            raise ValueError(f"version {builder.version}, which does not say what was masked")
        held = sorted(builder.info.metadata["transmissions"])
        asked = held if sides is None else sides.split("+")
        for side in asked:
            if side not in held:
                raise ConfigError(explain("side", got=side, allowed=held, cure="Name one of those, or join them by +."))
            for file in builder.info.splits[side].filepaths:
                if not stat.S_ISREG(Path(file).stat().st_mode) or Path(file).parent != Path(found[0]):
                    raise ValueError(f"records in {file}")
        return PreparedSource(builder, asked)
    except ConfigError:
        raise
    except (*DAMAGE, OSError, ImportError, ParseError) as error:
        cure = "Prepare it again."
        raise DataError(explain(f"prepared set {found[0]}", got=error, allowed="a whole set", cure=cure)) from error


def _check_classes(folder: Path) -> None:
    """Raise an error unless a set's files are small and name TFDS's own classes: it imports what they name."""
    for name in (INFO, "metadata.json"):
        parse_json(read_file(folder / name, MAX_TEXT_BYTES))
    todo = [parse_json(read_file(folder / "features.json", MAX_TEXT_BYTES))]
    while todo:
        node = todo.pop()
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            if key in ("pythonClassName", "python_class_name") and value not in CLASSES:
                raise ValueError(f"features of the class {value!r}")
            todo += [value] if isinstance(value, (dict, list)) else []


def prepare(
    out: str | Path,
    sides: Mapping[str, SessionSource],
    *,
    about: Mapping[str, Any],
    name: Literal["powder_rss", "simulated_network"],
    spec: SplitName = "random",
) -> Path:
    """Write sessions as a TFDS data set, and beside it a split file, so that `--split SPEC` has the same test.

    Args:
        out: Folder, made where it is missing; must not hold this set already.
        sides: Sessions of train, validation and test, all with the same receivers; empty ones are left out.
        about: `receivers` and `origin_deg`, and where there are any `skipped` counts and `notes`.
        name: Of the data set.
        spec: How the test was drawn.

    Raises:
        ConfigError: The folder holds such a set.
        DataError: No side holds a session, or receivers differ.
        StorageError: The folder cannot be written.
    """
    held = {side: source for side, source in sides.items() if len(source)}
    if not held:
        raise DataError(explain("prepare", got="no sessions", allowed="one or more", cure="Raise the counts."))
    root = Path(out)
    if (root / name).is_dir() and held_sets(root / name):
        cure = "Remove it, or choose another folder."
        raise ConfigError(explain(f"{root}", got=f"{name} is there already", allowed="a new set", cure=cure))
    from heimdall_jax.sources import builders

    kind = {"powder_rss": builders.PowderRss, "simulated_network": builders.SimulatedNetwork}[name]
    whole = {"skipped": {}, "notes": [], **about}
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        remove_unfinished(root)
        options = {"config": spec} if name == "powder_rss" else {}
        builder = kind(sides=held, about=whole, data_dir=str(root), file_format="array_record", **options)
        run_builder(builder)
        if spec != "none" and "test" in held:
            write_split(root, spec, [row[0] for row in builder.info.metadata["transmissions"]["test"]])
    return Path(builder.data_dir)


def prepare_powder(path: str | Path, out: str | Path, spec: SplitName, **options: Any) -> Path:
    """Prepare POWDER under one of its splits; `options` are `min_receivers` and those of `splits.split`.

    Raises:
        HeimdallError: See `prepare`, `read_powder` and `split`.
    """
    from heimdall_jax.sources.builders import powder_sides

    sides, about = powder_sides(str(path), spec, **options)
    return prepare(out, sides, about=about, name="powder_rss", spec=spec)


def run_builder(builder: Any, **settings: Any) -> None:
    """Let TFDS write a set, in silence; `settings` are those of its `DownloadConfig`."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        config = tfds.download.DownloadConfig(try_download_gcs=False, **settings)
        builder.download_and_prepare(download_config=config)


def held_sets(root: Path) -> list[Path]:
    """Folders of the whole sets in a folder, each by its newest version."""
    newest: dict[Path, Path] = {}
    for folder in sorted((path.parent for path in root.rglob(INFO)), key=_version):
        if not any(part.startswith("incomplete.") for part in folder.relative_to(root).parts):
            newest[folder.parent] = folder
    return sorted(newest.values())


def remove_unfinished(root: Path) -> None:
    """Remove what was being written when TFDS was killed."""
    for left in root.rglob("incomplete.*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def write_split(root: Path, spec: str, names: list[str]) -> None:
    """The test's names, where `splits` looks for them; the whole file at once."""
    file = _split_file(root, spec)
    file.parent.mkdir(parents=True, exist_ok=True)
    written = file.with_name(f"incomplete.{file.name}")
    written.write_text(json.dumps(names))
    os.replace(written, file)


def held_tests(root: Path, spec: str) -> set[str]:
    """The names that `write_split` wrote; none where it wrote no file, or it cannot be read."""
    try:
        return set(json.loads(_split_file(root, spec).read_text()))
    except (OSError, ValueError, TypeError):
        return set()


@contextlib.contextmanager
def writing(root: Path) -> Iterator[None]:
    """Turn what goes wrong on the disk into our error.

    Raises:
        StorageError: The folder cannot be written.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        # A full disk is a RuntimeError where ArrayRecord writes; other ones are the source's own.
        if isinstance(error, StorageError) or not (isinstance(error, OSError) or "write() failed" in str(error)):
            raise
        cure = "Check the folder and the space on its disk."
        raise StorageError(
            explain(f"prepared set {root}", got=error, allowed="a writable folder", cure=cure)
        ) from error


def _split_file(root: Path, spec: str) -> Path:
    return root / "train_test_splits" / f"{spec}_split" / f"{spec}_test.json"


def _version(folder: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", folder.name)]
