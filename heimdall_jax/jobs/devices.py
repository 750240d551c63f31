"""One task on a device at a time: a lock file for each device of this machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from heimdall_jax.jobs.settings import WHOLE_MACHINE, devices


@dataclass(frozen=True)
class Slot:
    """A device, held as long as `descriptor` is open in any process that it was passed to."""

    device: str
    descriptor: int

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process see this device only."""
        if self.device == WHOLE_MACHINE:
            return {}
        return {"JAX_PLATFORMS": "cpu"} if self.device == "cpu" else {"CUDA_VISIBLE_DEVICES": self.device}


@contextlib.contextmanager
def free_slot(folder: Path) -> Iterator[Slot | None]:
    """A device that nobody has, or None.

    A process that got the descriptor keeps the device if this one is killed.

    Args:
        folder: Of the lock files; the same for all workers of a machine.

    Raises:
        ConfigError: The environment names devices wrongly.
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as opened:
        for device in devices():
            path = folder / f"{socket.gethostname()}-{quote(device, safe='')}.lock"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            opened.callback(os.close, descriptor)
            yield Slot(device, descriptor)
            return
        yield None
