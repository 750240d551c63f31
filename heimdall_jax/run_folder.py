"""What a run folder holds: names of files, how its tracked run is found, and who is at work. Imports no JAX."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from heimdall_jax.errors import StorageError, explain
from heimdall_jax.export.bundle import MANIFEST, write_atomically

CONFIG, METRICS, MODEL = "config.yaml", "metrics.json", "model.onnx"
TRACKED = "tracked.json"


@dataclass(frozen=True)
class TrackedNote:
    """How the tracked run of a folder is found again.

    Attributes:
        run_id: Of it; empty while it is begun, and where nothing is tracked.
        token: By which it is found if nobody lived to note its id.
        revision: Of the code that trained last.
    """

    run_id: str = ""
    token: str = ""
    revision: str = ""


def read_note(folder: Path) -> TrackedNote:
    """The folder's note; an empty one if there is none yet.

    Raises:
        StorageError: It cannot be read.
    """
    path = folder / TRACKED
    if not path.exists():
        return TrackedNote()
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return TrackedNote(str(kept["run_id"]), str(kept.get("token", "")), str(kept.get("revision", "")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        cure = "Remove it: resuming then begins a new tracked run."
        raise StorageError(explain(str(path), got=repr(error), allowed='{"run_id": …}', cure=cure)) from error


def write_note(folder: Path, note: TrackedNote) -> None:
    """Keep how the tracked run is found.

    Raises:
        StorageError: The folder cannot be written.
    """
    write_atomically(folder / TRACKED, json.dumps(asdict(note)).encode())


def is_finished(folder: Path) -> bool:
    """Whether a run went to its end: the export's manifest is written when metrics and model are."""
    return all((folder / name).exists() for name in (METRICS, MODEL, MANIFEST))


@contextlib.contextmanager
def occupied(folder: Path) -> Iterator[None]:
    """Inside, no other process trains or delivers the run of this folder; the system ends it with the process.

    Raises:
        StorageError: Another process is at work there, or the folder cannot be opened.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise StorageError(
            explain(f"run folder {folder}", got=error, allowed="a folder", cure="Check --out.")
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            cure = "Wait for it, or stop it."
            got = "another process at work in it"
            raise StorageError(explain(f"run folder {folder}", got=got, allowed="one", cure=cure)) from error
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):  # no locks on this system
                raise
        yield
    finally:
        os.close(descriptor)
