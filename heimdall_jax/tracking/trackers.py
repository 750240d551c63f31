"""The port through which a run is tracked, and its twins that need no server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from heimdall_jax.errors import StorageError, explain
from heimdall_jax.tracking.metric_buffer import MetricBuffer
from heimdall_jax.tracking.promotion import Version, judge
from heimdall_jax.tracking.spool import Row

PARAMETER_LENGTH = 6000
"""Longest parameter value that MLflow takes."""


@runtime_checkable
class Log(Protocol):
    """What training tells of its steps to."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hold metrics of a step until `flush`; those the run already has are dropped."""
        ...

    def flush(self) -> None:
        """Store what `log` holds, in order of step, or keep it where it outlives the process; never waits long."""
        ...


class Several:
    """Tells several logs the same, in order."""

    def __init__(self, *logs: Log) -> None:
        self._logs = logs

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for each in self._logs:
            each.log(step, metrics)

    def flush(self) -> None:
        for each in self._logs:
            each.flush()


@runtime_checkable
class Tracker(Log, Protocol):
    """What runs need of a tracking system; `start` comes first and `finish` last, or `attach` first."""

    def start(
        self, run_name: str, parameters: Mapping[str, object], run_id: str | None = None, token: str | None = None
    ) -> str:
        """Begin a run, or continue the one with this id; nested parameters are flattened with dots.

        A run that was begun with a token, by a process that did not live to note its id, is continued by the token.
        """
        ...

    def attach(self, run_id: str) -> None:
        """Take up a run only to add files to it: it stays as it was, running or ended."""
        ...

    def last_step(self) -> int:
        """Highest step the run has stored, -1 if none."""
        ...

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Store a copy of a file, in a folder among the run's files."""
        ...

    def register_model(
        self, onnx_path: Path, manifest: Mapping[str, Any], name: str, alias: str, tags: Mapping[str, str] | None = None
    ) -> str:
        """Store a model under a name and point the alias at it; its version, which is given, and its run get tags."""
        ...

    def promote(self, name: str, version: str, champion: str) -> str:
        """Point the alias `champion` at a version if `promotion.judge` says so; gives the reason, in one line."""
        ...

    def finish(self, status: str = "FINISHED") -> None:
        """Flush and close the run as FINISHED, FAILED or KILLED; only the first waits for a tracker out of reach."""
        ...


class NoopTracker:
    """Forgets everything."""

    def start(
        self, run_name: str, parameters: Mapping[str, object], run_id: str | None = None, token: str | None = None
    ) -> str:
        return run_id or ""

    def attach(self, run_id: str) -> None: ...

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def flush(self) -> None: ...

    def last_step(self) -> int:
        return -1

    def log_artifact(self, path: Path, folder: str = "") -> None: ...

    def register_model(
        self, onnx_path: Path, manifest: Mapping[str, Any], name: str, alias: str, tags: Mapping[str, str] | None = None
    ) -> str:
        return ""

    def promote(self, name: str, version: str, champion: str) -> str:
        return ""

    def finish(self, status: str = "FINISHED") -> None: ...


@dataclass
class MemoryRun:
    """What a `MemoryTracker` holds of one run."""

    name: str
    parameters: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, dict[int, float]] = field(default_factory=dict)
    artifacts: dict[str, Path] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    status: str = "RUNNING"


class MemoryTracker:
    """Remembers in this process: for tests and notebooks."""

    def __init__(self) -> None:
        self.runs: dict[str, MemoryRun] = {}
        self.models: dict[str, list[Path]] = {}
        self.aliases: dict[tuple[str, str], str] = {}
        self.tags: dict[tuple[str, str], dict[str, str]] = {}
        self._buffer = MetricBuffer()
        self._run_id = ""

    def start(
        self, run_name: str, parameters: Mapping[str, object], run_id: str | None = None, token: str | None = None
    ) -> str:
        if run_id is not None:
            self.attach(run_id)
        elif token is not None:
            run_id = next((its_id for its_id, run in self.runs.items() if run.token == token), None)
        self._run_id = run_id or f"memory-{len(self.runs)}"
        run = self.runs.setdefault(self._run_id, MemoryRun(run_name, token=token))
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
        self._buffer.flush(self._write, max(1, len(self._buffer.waiting)))

    def _write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self.runs[self._run_id].metrics.setdefault(row.key, {})[row.step] = row.value

    def last_step(self) -> int:
        return self._buffer.last_step

    def log_artifact(self, path: Path, folder: str = "") -> None:
        self.runs[self._run_id].artifacts[f"{folder}/{path.name}".lstrip("/")] = path

    def register_model(
        self, onnx_path: Path, manifest: Mapping[str, Any], name: str, alias: str, tags: Mapping[str, str] | None = None
    ) -> str:
        versions = self.models.setdefault(name, [])
        versions.append(onnx_path)
        version = str(len(versions))
        self.aliases[name, alias], self.tags[name, version] = version, dict(tags or {})
        if self._run_id:
            self.runs[self._run_id].tags |= tags or {}
        return version

    def promote(self, name: str, version: str, champion: str) -> str:
        held = self.aliases.get((name, champion))
        holder = None if held is None else Version(held, self.tags[name, held])
        verdict = judge(Version(version, self.tags[name, version]), holder)
        if verdict.moves:
            self.aliases[name, champion] = version
        return verdict.reason

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
    cure = "Give the folder that holds its database, or --tracking.uri of its server, or --tracking.enabled False."
    return StorageError(explain("tracked run", got=run_id, allowed=f"a run that {where} holds", cure=cure))
