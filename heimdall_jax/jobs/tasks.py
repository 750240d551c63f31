"""The tasks. They hold no work: each hands its request to a process of its own and passes on what that tells."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, NoReturn

from celery import Task
from celery.exceptions import Ignore, Reject
from celery.states import PENDING, READY_STATES
from celery.utils.log import get_task_logger

from heimdall_jax.errors import ConfigError, HeimdallError, explain
from heimdall_jax.jobs.app import app
from heimdall_jax.jobs.devices import free_slot
from heimdall_jax.jobs.requests import checked
from heimdall_jax.jobs.settings import jobs_folder, visibility_s
from heimdall_jax.jobs.supervision import StoppedError, work
from heimdall_jax.run_lock import BusyRunError

PROGRESS, WAITING = "PROGRESS", "WAITING"
"""States beside Celery's own: at work, and not yet for want of a device or because the run is in other hands."""
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0

_log = get_task_logger(__name__)


class Job(Task):
    """A task whose arguments are given by name, and refused where they are wrong before they are sent."""

    abstract = True
    needs_device = True
    throws = (HeimdallError,)

    @property
    def request_name(self) -> str:
        """Of the request that its arguments make."""
        return str(self.name).rpartition(".")[2]

    def apply_async(self, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        """Send it.

        Raises:
            ConfigError: An argument is missing, unknown, wrong or secret.
        """
        if args:
            got, cure = f"{len(args)} arguments without a name", "Write out=..., run=..."
            raise ConfigError(explain(f"task {self.request_name}", got=got, allowed="named ones", cure=cure))
        request = checked(self.request_name, kwargs or {})
        return super().apply_async((), dict(vars(request)), *more, **options)

    def perform(self, arguments: Mapping[str, Any]) -> Any:
        """Do the work in a process of its own, on a device of its own.

        Raises:
            HeimdallError: As what the process does, with its message.
        """
        request = checked(self.request_name, arguments)
        if self._state() in READY_STATES:  # cancelled while it waited, or given once more after its end
            raise Ignore
        given = {"request": request, "tell": self._tell}
        try:
            if not self.needs_device:
                return work(self.request_name, environment={}, **given)
            with free_slot(jobs_folder() / "devices") as slot:
                if slot is not None:
                    held = {"environment": slot.environment, "descriptors": (slot.descriptor,)}
                    return work(self.request_name, **held, **given)
            self._wait("a device")
        except BusyRunError:
            self._wait("the run, which another process has")
        except StoppedError as stopped:
            raise Reject(stopped, requeue=True) from stopped

    def _wait(self, what: str) -> NoReturn:
        """Let the task come again in a while, under its own id and without a word over another worker's."""
        if self._state() in {PENDING, WAITING}:
            self.update_state(state=WAITING, meta={"for": what})
        tries = self.request.retries
        # Far below the time after which Redis gives a waiting message to others, too: copies would breed copies.
        longest = min(LONGEST_WAIT_S, visibility_s() / 4, FIRST_WAIT_S * 2 ** min(tries, 10))
        again: Any = self.signature_from_request(countdown=longest * random.uniform(0.5, 1), retries=tries + 1)
        again.apply_async()
        raise Ignore

    def _state(self) -> str:
        return str(self.AsyncResult(self.request.id).state)

    def _tell(self, progress: Mapping[str, Any]) -> None:
        """A store of results that is away costs a progress, never a training."""
        try:
            self.update_state(state=PROGRESS, meta=dict(progress))
        except Exception as error:
            _log.warning("progress is not told: %s", type(error).__name__)


@app.task(base=Job, bind=True, name="heimdall.train")
def train(self: Job, **arguments: Any) -> dict[str, Any]:
    """Train, or go on with, the run in `out`; the contents of `metrics.json`. Arguments: `requests.TrainRequest`."""
    return self.perform(arguments)


@app.task(base=Job, bind=True, name="heimdall.evaluate")
def evaluate(self: Job, **arguments: Any) -> dict[str, Any]:
    """Measure a run; the contents of `metrics.json`. Arguments: `requests.EvaluateRequest`."""
    return self.perform(arguments)


@app.task(base=Job, bind=True, name="heimdall.export")
def export(self: Job, **arguments: Any) -> dict[str, Any]:
    """Prove a run's export; how ONNX Runtime and JAX differ. Arguments: `requests.ExportRequest`."""
    return self.perform(arguments)


@app.task(base=Job, bind=True, name="heimdall.publish", needs_device=False)
def publish(self: Job, **arguments: Any) -> dict[str, Any]:
    """Publish a run's model; what was published. Arguments: `requests.PublishRequest`."""
    return self.perform(arguments)


def cancel(task_id: str) -> None:
    """Stop a task that waits or works; a training leaves a checkpoint of its step, and `train` goes on from there.

    A worker that is not there yet learns of it from the store of results.
    """
    app.control.revoke(task_id, terminate=True)
    result = app.AsyncResult(task_id)
    if result.state not in READY_STATES:
        app.backend.mark_as_revoked(task_id, "cancelled")
