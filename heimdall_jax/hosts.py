"""Several processes of one training, one on each host: how they find each other, agree, and end together.

They meet on JAX's own runtime. What they tell each other beside arrays goes through its coordination service, which
process 0 holds: that one was asked to stop, that one failed, and how far the first is with what it does alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import jax
from jax._src import distributed  # JAX has no public door to its key-value store

from heimdall_jax.errors import ConfigError, HeimdallError, explain
from heimdall_jax.launch import Launch
from heimdall_jax.stopping import LOST, STOPPED, Stop

HEARTBEAT_SECONDS = 20
"""Without a sign of life for so long, JAX takes a process for dead and ends the others."""
SHUTDOWN_SECONDS = 30
PERIOD_S = 0.5
"""Between two looks at what the others say."""
UNHEEDED_SECONDS = 7.0
"""After which a stop ends a process that waits inside of JAX for one that is gone, and cannot notice it."""
HEARD_SECONDS = 3.0
"""After which what another process told before its end has been read."""
OF_A_PEER = re.compile(r"\b(Gloo|NCCL)\b|\b(UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED):")
"""What JAX says of sums and messages whose other side is gone; a save that fails for it repeats it."""
FOLDER, STOP, FAILED, LEFT = "heimdall/", "stop", "failed", "left-"
CURE = "Run the same command again with --resume (or --auto-resume): it goes on from the last checkpoint."


class Hosts:
    """This process's place among several: the watch it keeps on the others, and what it tells them."""

    def __init__(self, stop: Stop) -> None:
        self.index, self.count = jax.process_index(), jax.process_count()
        self._client: Any = distributed.global_state.client
        self._stop, self._said, self._asked_at = stop, dict[str, str](), 0.0
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._keep_watch, daemon=True)
        self._watch.start()

    @property
    def name(self) -> str:
        """Of this process, in messages."""
        return f"process {self.index} of {self.count}"

    def tell(self, key: str, value: str = "") -> None:
        """Say something to all; what was said first under a key stays."""
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._client.key_value_set(FOLDER + key, value or "1")

    def await_first(self, key: str) -> None:
        """Wait until process 0 has said something; signals are heard meanwhile, and a failure of it ends this one."""
        while key not in self._said:
            time.sleep(PERIOD_S / 5)

    def meet(self, key: str) -> None:
        """Wait for all: on CPUs JAX gives up on a process that comes to their first sum 30 s after another."""
        self.tell(f"{key}-{self.index}")
        while sum(said.startswith(f"{key}-") for said in self._said) < self.count:
            time.sleep(PERIOD_S / 5)

    def leave_stopped(self, number: int) -> None:
        """Pass a stop on, and be the last to leave where the others need this process."""
        self.tell(STOP, str(number))
        self.tell(f"{LEFT}{self.index}")
        until = time.monotonic() + UNHEEDED_SECONDS + 2 * PERIOD_S
        while self.index == 0 and time.monotonic() < until:
            if sum(key.startswith(LEFT) for key in self._said) == self.count:
                break
            time.sleep(PERIOD_S / 5)
        self.close()

    def close(self) -> None:
        """End the watch."""
        self._ended.set()
        self._watch.join()

    def _keep_watch(self) -> None:
        while not self._ended.wait(PERIOD_S):
            try:
                entries = self._client.key_value_dir_get(FOLDER)
            except jax.errors.JaxRuntimeError:  # the service is gone: JAX ends this process in a moment
                continue
            self._said = {key.removeprefix(FOLDER): value for key, value in entries}
            self._pass_on_stop()
            if FAILED in self._said and not self._ended.is_set():
                self._end(1, f"error: {self.name}: ended, for {self._said[FAILED]}")

    def _pass_on_stop(self) -> None:
        """A stop of one process is one of all of them."""
        number = self._stop.number
        if number is not None and STOP not in self._said:
            self.tell(STOP, str(number))
        if STOP not in self._said:
            return
        self._asked_at = self._asked_at or time.monotonic()
        if number is None:
            os.kill(os.getpid(), int(self._said[STOP]))
        if not self._stop.heard and time.monotonic() - self._asked_at > UNHEEDED_SECONDS:
            self._end(STOPPED + int(self._said[STOP]), f"stopped: {self.name}, between two checkpoints. {CURE}")

    def _end(self, code: int, message: str) -> None:
        if self.index == 0:  # the others read it here
            time.sleep(3 * PERIOD_S)
        say(message)
        os._exit(code)


@contextlib.contextmanager
def joined(launch: Launch | None, stop: Stop) -> Iterator[Hosts | None]:
    """Inside, this process is one of several; None, and nothing is done, where no launch is given.

    Raises:
        ConfigError: JAX does not find the others.
    """
    if launch is None:
        yield None
        return
    _connect(launch)
    hosts = Hosts(stop)
    _explain_aborts(hosts.name)
    try:
        yield hosts
    except KeyboardInterrupt as stopped:
        hosts.leave_stopped(stopped.args[0] if stopped.args else signal.SIGINT)
        raise
    except BaseException as error:
        _fail(hosts, error)
        raise
    hosts.close()
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # one is gone that had nothing more to do
        jax.distributed.shutdown()


def _connect(launch: Launch) -> None:
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from `Stop`
    try:
        jax.distributed.initialize(
            launch.coordinator_address,
            launch.num_processes,
            launch.process_id,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except (ValueError, TypeError, RuntimeError) as error:
        problem = " ".join(str(error).split())[:300]
        cure = (
            "Give --coordinator-address HOST:PORT --num-processes N --process-id I, or start under SLURM, MPI or a TPU."
        )
        allowed = "a cluster that JAX knows, whose processes reach one another"
        raise ConfigError(explain("--distributed", got=problem, allowed=allowed, cure=cure)) from error


def _fail(hosts: Hosts, error: BaseException) -> None:
    """Tell the others why this process ends; where it does for one that is gone, end as JAX's runtime would."""
    if is_of_a_peer(error):
        time.sleep(HEARD_SECONDS)  # had it a reason to tell, the watch ends this process meanwhile
        _leave_lost(hosts.name)
    if isinstance(error, HeimdallError):
        error.args = (f"{hosts.name}: {error}",)
    hosts.tell(FAILED, f"{hosts.name} failed: {' '.join(str(error).split())[:500]}")
    hosts.close()
    if hosts.index == 0:
        time.sleep(4 * PERIOD_S)


def is_of_a_peer(error: BaseException | None) -> bool:
    """Whether a sum or a service failed because another process is gone, which shows before its heartbeat stops."""
    while error is not None:
        if isinstance(error, (jax.errors.JaxRuntimeError, HeimdallError)) and OF_A_PEER.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _leave_lost(name: str) -> NoReturn:
    """Say that another process is gone, and leave with a code that says resume."""
    got, allowed = "another process gone, or JAX's runtime failed", "all of them to the end"
    say(f"error: {explain(name, got=got, allowed=allowed, cure=CURE)}")
    os._exit(LOST)


def _explain_aborts(name: str) -> None:
    """JAX's runtime aborts a process whose peer is gone: end it as `_leave_lost` does.

    Python would run a handler of its own only after the abort; this one runs in the thread that aborts.
    """
    global _on_abort
    _on_abort = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: _leave_lost(name))
    ctypes.CDLL(None).signal(int(signal.SIGABRT), _on_abort)


_on_abort: Any = None
"""Kept: the C library has only its address."""


def say(line: str) -> None:
    """On standard error, whatever state Python's streams are in."""
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{line}\n".encode())
