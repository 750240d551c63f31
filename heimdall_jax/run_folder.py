"""What a run folder holds: names of files, and how its tracked run is found. Imports no JAX."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heimdall_jax.errors import StorageError, explain
from heimdall_jax.export.bundle import MANIFEST, write_atomically
from heimdall_jax.outside import parse_json, read_file

CONFIG, METRICS, MODEL = "config.yaml", "metrics.json", "model.onnx"
TRACKED = "tracked.json"
MAX_NOTE_BYTES = 1 << 20
"""Of each small file of a run; `metrics.json` has 20 kB."""


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
        kept = parse_json(read_file(path, MAX_NOTE_BYTES))
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


def read_metrics(folder: Path) -> dict[str, Any]:
    """The `metrics.json` of a run.

    Raises:
        StorageError: It cannot be read, or is no JSON object.
    """
    path = folder / METRICS
    try:
        tree = parse_json(read_file(path, MAX_NOTE_BYTES))
        if not isinstance(tree, dict):
            raise ValueError(type(tree).__name__)
    except (OSError, ValueError) as error:
        cure = "Resume the run with --resume, which makes it again."
        raise StorageError(explain(str(path), got=error, allowed="a whole file", cure=cure)) from error
    return tree


def is_begun(folder: Path) -> bool:
    """Whether a folder holds a run, which can be resumed."""
    return (folder / CONFIG).exists()


def is_finished(folder: Path) -> bool:
    """Whether a run went to its end: the export's manifest is written when metrics and model are."""
    return all((folder / name).exists() for name in (METRICS, MODEL, MANIFEST))
