"""The port through which a run is tracked, and its twins that need no server.

Metrics are buffered, and a (key, step) that the run already holds is dropped: a resumed run, which replays the steps
since its last checkpoint, logs every metric once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from heimdall_jax.errors import StorageError, explain

PARAMETER_LENGTH = 6000
"""Longest parameter value that MLflow takes."""


class Row(NamedTuple):
    """One value of one metric."""

    step: int
    key: str
    value: float


@runtime_checkable
class Tracker(Protocol):
    """What runs need of a tracking system; `start` comes first and `finish` last, or `attach` first."""

    def start(self, run_name: str, parameters: Mapping[str, object], run_id: str | None = None) -> str:
        """Begin a run, or continue the one with this id; nested parameters are flattened with dots."""
        ...

    def attach(self, run_id: str) -> None:
        """Take up a run only to add files to it: it stays as it was, running or ended."""
        ...

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hold metrics of a step until `flush`; those the run already has are dropped."""
        ...

    def flush(self) -> None:
        """Store what `log` holds, in order of step."""
        ...

    def last_step(self) -> int:
        """Highest step the run has stored, -1 if none."""
        ...

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Store a copy of a file, in a folder among the run's files."""
        ...

    def register_model(self, onnx_path: Path, manifest: Mapping[str, Any], name: str, alias: str) -> str:
        """Store a model under a name and point the alias at it; gives its version."""
        ...

    def finish(self, status: str = "FINISHED") -> None:
        """Flush and close the run as FINISHED, FAILED or KILLED."""
        ...


class NoopTracker:
    """Forgets everything."""

    def start(self, run_name: str, parameters: Mapping[str, object], run_id: str | None = None) -> str:
        return run_id or ""

    def attach(self, run_id: str) -> None: ...

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def flush(self) -> None: ...

    def last_step(self) -> int:
        return -1

    def log_artifact(self, path: Path, folder: str = "") -> None: ...

    def register_model(self, onnx_path: Path, manifest: Mapping[str, Any], name: str, alias: str) -> str:
        return ""

    def finish(self, status: str = "FINISHED") -> None: ...


class MetricBuffer:
    """Rows waiting to be stored, and which (key, step) the run holds already."""

    def __init__(self) -> None:
        self.waiting: list[Row] = []
        self._seen: dict[str, set[int]] = {}
        self.last_step = -1

    def start(self, stored: Mapping[str, set[int]]) -> None:
        """Forget the previous run; `stored` says what the new one holds."""
        self.waiting = []
        self._seen = {key: set(steps) for key, steps in stored.items()}
        self.last_step = max((max(steps) for steps in stored.values() if steps), default=-1)

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep the metrics that are new."""
        for key, value in metrics.items():
            steps = self._seen.setdefault(key, set())
            if step not in steps:
                steps.add(step)
                self.waiting.append(Row(int(step), key, float(value)))

    def chunks(self, size: int) -> Iterator[list[Row]]:
        """Waiting rows by step, at most `size` at once; a chunk leaves the buffer once the consumer asks for the next.

        So a failing write loses nothing, and whatever is stored at a kill is a prefix by step.
        """
        self.waiting.sort(key=lambda row: row.step)
        while self.waiting:
            chunk = self.waiting[:size]
            yield chunk
            self.waiting = self.waiting[size:]
            self.last_step = max(self.last_step, chunk[-1].step)


@dataclass
class MemoryRun:
    """What a `MemoryTracker` holds of one run."""

    name: str
    parameters: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, dict[int, float]] = field(default_factory=dict)
    artifacts: dict[str, Path] = field(default_factory=dict)
    status: str = "RUNNING"


class MemoryTracker:
    """Remembers in this process: for tests and notebooks."""

    def __init__(self) -> None:
        self.runs: dict[str, MemoryRun] = {}
        self.models: dict[str, list[Path]] = {}
        self.aliases: dict[tuple[str, str], str] = {}
        self._buffer = MetricBuffer()
        self._run_id = ""

    def start(self, run_name: str, parameters: Mapping[str, object], run_id: str | None = None) -> str:
        if run_id is not None:
            self.attach(run_id)
        self._run_id = run_id or f"memory-{len(self.runs)}"
        run = self.runs.setdefault(self._run_id, MemoryRun(run_name))
        run.parameters = flatten(parameters) | run.parameters
        run.status = "RUNNING"
        self._buffer.start({key: set(values) for key, values in run.metrics.items()})
        return self._run_id

    def attach(self, run_id: str) -> None:
        if run_id not in self.runs:
            raise no_such_run(run_id, "this process")
        self._run_id = run_id

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._buffer.add(step, metrics)

    def flush(self) -> None:
        for chunk in self._buffer.chunks(len(self._buffer.waiting)):
            for step, key, value in chunk:
                self.runs[self._run_id].metrics.setdefault(key, {})[step] = value

    def last_step(self) -> int:
        return self._buffer.last_step

    def log_artifact(self, path: Path, folder: str = "") -> None:
        self.runs[self._run_id].artifacts[f"{folder}/{path.name}".lstrip("/")] = path

    def register_model(self, onnx_path: Path, manifest: Mapping[str, Any], name: str, alias: str) -> str:
        versions = self.models.setdefault(name, [])
        versions.append(onnx_path)
        self.aliases[name, alias] = str(len(versions))
        return str(len(versions))

    def finish(self, status: str = "FINISHED") -> None:
        self.flush()
        self.runs[self._run_id].status = status


def flatten(parameters: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Nested parameters as `outer.inner` text, each within MLflow's length; a longer one ends in its length."""
    flat: dict[str, str] = {}
    for key, value in parameters.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
            continue
        text = str(value)
        mark = f"... ({len(text)} characters)"
        flat[f"{prefix}{key}"] = text if len(text) <= PARAMETER_LENGTH else text[: PARAMETER_LENGTH - len(mark)] + mark
    return flat


def no_such_run(run_id: str, where: str) -> StorageError:
    """The error of continuing a run that a store does not hold."""
    cure = "Give the folder that holds its database, or run with --tracking.enabled False."
    return StorageError(explain("tracked run", got=run_id, allowed=f"a run that {where} holds", cure=cure))
