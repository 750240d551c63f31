"""The process that does one task's work: `python -m heimdall_jax.jobs.process`, which only a worker starts.

Standard input brings the request as one line of JSON and then stays open: where it ends, the worker is gone or the
task was cancelled, and a training stops after its step. Standard output takes progress and the outcome, a line of
JSON each; all else that is printed goes to standard error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from heimdall_jax import config as configs
from heimdall_jax.command import STOPPED, leave, quieten
from heimdall_jax.errors import HeimdallError
from heimdall_jax.jobs.requests import EvaluateRequest, ExportRequest, PublishRequest, RunRequest, TrainRequest, checked
from heimdall_jax.memory import collect_rarely, reuse
from heimdall_jax.run_lock import BusyRunError
from heimdall_jax.stopping import Stop

TELL_SECONDS = 0.5
LINGER_SECONDS = 120.0
"""After the worker is gone: a stop that takes longer is stuck."""
FINISHED = "finished.json"
"""In a run folder whose training a task brought to its very end, delivery included."""


class Outlet:
    """Lines of JSON to the worker; one that is gone is no reason to fail."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream
        self._told_at, self._work = 0.0, ""

    def say(self, message: Mapping[str, Any]) -> None:
        """Write a line at once."""
        if self._stream is None:
            return
        try:
            print(json.dumps(message), file=self._stream, flush=True)
        except BrokenPipeError:
            self._stream = None

    def progress(self, numbers: Mapping[str, Any]) -> None:
        """Tell progress: what is new in kind or final at once, the rest now and then."""
        now, work = time.monotonic(), numbers["work"]
        if work != self._work or numbers["step"] == numbers["total"] or now - self._told_at >= TELL_SECONDS:
            self._told_at, self._work = now, work
            self.say({"progress": dict(numbers)})


def main() -> int:
    """Do what standard input asks for; the exit code is 0, 1 after an error, 143 stopped."""
    outlet = Outlet(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    stop = Stop()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once it listens no more: a second one must not cut off its answer
    try:
        with stop.listening():
            asked = json.loads(_first_line())
            threading.Thread(target=_stop_without_worker, daemon=True).start()
            quieten()
            collect_rarely()
            reuse()
            outlet.say({"result": _answer(checked(asked["task"], asked["arguments"]), outlet, stop)})
    except BusyRunError as error:
        outlet.say({"busy": str(error)})
    except HeimdallError as error:
        outlet.say({"error": [type(error).__name__, str(error)]})
        return 1
    except KeyboardInterrupt as stopped:
        number = stopped.args[0] if stopped.args else signal.SIGINT
        outlet.say({"stopped": number})
        return STOPPED + number
    except Exception as error:
        traceback.print_exc()
        outlet.say({"fault": [type(error).__name__, " ".join(str(error).split())]})
        return 1
    return 0


def _answer(request: TrainRequest | RunRequest, outlet: Outlet, stop: Stop) -> Any:
    """The task's result. Rooms that bring JAX are imported where they are needed: a busy run is told at once."""
    folder, console = Path(request.folder), Console(file=sys.stderr, force_terminal=False, width=120)
    if isinstance(request, TrainRequest):
        return _train(request, folder, console, stop, outlet.progress)
    if isinstance(request, EvaluateRequest):
        from heimdall_jax.pipeline import evaluate

        out = None if request.out is None else Path(request.out)
        asked: dict[str, Any] = {"data_path": request.data, "objects": request.objects, "split": request.split}
        asked |= {"conditions": request.conditions, "faults": request.faults, "report": request.report}
        return evaluate(folder, out=out, console=console, **asked)
    if isinstance(request, ExportRequest):
        from heimdall_jax.delivery import validate_export

        return validate_export(folder).to_tree()
    assert isinstance(request, PublishRequest)
    from heimdall_jax.publishing import publish_run

    return asdict(publish_run(folder, request.store, name=request.name, version=request.version))


def _train(
    request: TrainRequest, folder: Path, console: Console, stop: Stop, listener: Callable[[Mapping[str, Any]], None]
) -> dict[str, Any]:
    """Begin the run, go on with it, or give the metrics of a finished one, which is not trained again."""
    from heimdall_jax.export.bundle import write_atomically
    from heimdall_jax.pipeline import train
    from heimdall_jax.run import begin
    from heimdall_jax.run_folder import is_begun, read_metrics

    config = configs.from_tree(request.config)
    resume = is_begun(folder)
    if resume and (folder / FINISHED).exists():
        begin(config, folder, resume=True)  # refuses another config
        return read_metrics(folder)
    metrics = train(config, folder, resume=resume, console=console, stop=stop, listener=listener)
    write_atomically(folder / FINISHED, b"{}\n")
    return metrics


def _first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(0, 65536)
        if not part:
            raise KeyboardInterrupt(signal.SIGTERM)  # cancelled as it began
        line += part
    return line


def _stop_without_worker() -> None:
    """Wait for the end of standard input, then stop as SIGTERM does."""
    while os.read(0, 65536):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LINGER_SECONDS)
    os._exit(STOPPED + signal.SIGTERM)


if __name__ == "__main__":
    leave(main())
