"""A worker's side of the process that does a task's work (`jobs/process.py`)."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from heimdall_jax import errors
from heimdall_jax.errors import HeimdallError, StorageError
from heimdall_jax.jobs.requests import RunRequest, TrainRequest
from heimdall_jax.run_lock import BusyRunError, locked

PROGRAM = ("-m", "heimdall_jax.jobs.process")
LOG = "job.log"
"""In the run folder: what the processes of its tasks print."""
TAIL_BYTES = 2000
END_SECONDS = 10.0


class ProcessError(HeimdallError, RuntimeError):
    """The process of a task failed in a way that no error of the house describes."""


class StoppedError(HeimdallError, RuntimeError):
    """The process of a task was stopped by somebody else than its worker; a training can go on."""


class _Inlet:
    """Takes the process's lines as they come, so that it never waits; of progress only the newest counts."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.outcome: Mapping[str, Any] | None = None
        self._progress: Mapping[str, Any] | None = None
        self._news, self._ended = threading.Event(), False
        self._stream = stream
        threading.Thread(target=self._take, daemon=True).start()

    def follow(self, tell: Callable[[Mapping[str, Any]], None]) -> None:
        """Tell the newest progress until the process's lines end, the last of all included."""
        told, ended = None, False
        while not ended:
            self._news.wait()
            self._news.clear()
            ended = self._ended  # before the newest is looked at, so that none comes after it
            newest = self._progress
            if newest is not None and newest is not told:
                tell(newest)
                told = newest

    def _take(self) -> None:
        try:
            with self._stream:
                for line in self._stream:
                    message = json.loads(line) if line.endswith(b"\n") else {}  # a kill may cut the last one
                    if "progress" in message:
                        self._progress = message["progress"]
                        self._news.set()
                    elif message:
                        self.outcome = message
        finally:
            self._ended = True
            self._news.set()


def work(
    name: str,
    request: TrainRequest | RunRequest,
    *,
    environment: Mapping[str, str],
    descriptors: Sequence[int] = (),
    tell: Callable[[Mapping[str, Any]], None],
) -> Any:
    """Have a task's work done by a process of its own, and give its result.

    Args:
        name: Of the task.
        request: Its checked arguments.
        environment: For the process, beside this one's.
        descriptors: Open files that the process holds, too.
        tell: Is called with the newest progress.

    Raises:
        BusyRunError: Another process trains in the folder.
        StoppedError: Somebody stopped the process.
        HeimdallError: What the process says, or that it died.
    """
    folder = _existing(request)
    if isinstance(request, TrainRequest):
        with locked(folder):  # a busy run is told without starting a process, which then locks it again
            pass
    arguments = {key: value for key, value in vars(request).items() if value is not None}
    with (folder / LOG).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **environment},
            pass_fds=tuple(descriptors),
            start_new_session=True,  # Ctrl-C in the worker's terminal is the worker's
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        inlet = _Inlet(process.stdout)
        with contextlib.suppress(BrokenPipeError):  # it died already, which its exit code tells
            process.stdin.write(json.dumps({"task": name, "arguments": arguments}).encode() + b"\n")
            process.stdin.flush()
        inlet.follow(tell)
        return _result(inlet.outcome, process.wait(), folder / LOG)
    finally:
        _end(process)


def _result(outcome: Mapping[str, Any] | None, code: int, log: Path) -> Any:
    """What the process's last line says.

    Raises:
        HeimdallError: It says an error, or nothing.
    """
    if outcome is None:
        tail = log.read_bytes()[-TAIL_BYTES:].decode(errors="replace").strip()
        last = " | ".join(tail.splitlines()[-5:])
        raise ProcessError(f"the process of the task died with code {code} and said nothing; {log} ends: {last}")
    if "busy" in outcome:
        raise BusyRunError(outcome["busy"])
    if "stopped" in outcome:
        raise StoppedError(f"stopped by signal {outcome['stopped']}")
    if "error" in outcome:
        kind, message = outcome["error"]
        raise getattr(errors, kind, HeimdallError)(message)
    if "fault" in outcome:
        kind, message = outcome["fault"]
        raise ProcessError(f"{kind}: {message} (the trace is in {log})")
    return outcome["result"]


def _existing(request: TrainRequest | RunRequest) -> Path:
    """The run's folder, made for a training.

    Raises:
        StorageError: There is none, or it cannot be made.
    """
    folder = Path(request.folder)
    try:
        if isinstance(request, TrainRequest):
            folder.mkdir(parents=True, exist_ok=True)
        elif not folder.is_dir():
            raise FileNotFoundError("no such folder")
    except OSError as error:
        cure = "Give a run's folder as this worker sees it."
        raise StorageError(errors.explain(f"run {folder}", got=error, allowed="a folder", cure=cure)) from error
    return folder


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let go of the process; one that is still at work stops."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(timeout=END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
