"""One process trains or delivers in a run folder at a time, whichever machines its tasks are given to.

On one machine a lock of the kernel says so, which a killed process loses at once. Between machines whose shared
folder knows no such locks, a note does that its process touches every two seconds and that counts for half a minute.
Two machines that begin within the same instant on such a folder are not told apart.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from heimdall_jax.errors import StorageError, explain
from heimdall_jax.outside import parse_json

LOCK = "training.lock"
BEAT_SECONDS = 2.0
STALE_SECONDS = 30.0
NO_LOCKS = (errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL)
"""What a system says that knows none; the note is left then."""


class BusyRunError(StorageError):
    """Another process trains in this folder."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Inside, the run in an existing folder is this process's.

    Raises:
        BusyRunError: It is another's.
        StorageError: The folder cannot be written.
    """
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        cure = "Check --out, or choose another."
        raise StorageError(
            explain(f"run folder {folder}", got=error, allowed="a folder to write", cure=cure)
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _busy(folder, _holder(descriptor)) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        host = _holder(descriptor).get("host")
        if host not in {None, socket.gethostname()} and _age_s(folder, descriptor) < STALE_SECONDS:
            raise _busy(folder, _holder(descriptor))
        _write(descriptor, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        ended = threading.Event()
        beat = threading.Thread(target=_beat, args=(descriptor, ended), daemon=True)
        beat.start()
        try:
            yield
        finally:
            ended.set()
            beat.join()
            _write(descriptor, "")
    finally:
        os.close(descriptor)


def _beat(descriptor: int, ended: threading.Event) -> None:
    while not ended.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError):  # a folder that is away for a moment
            os.utime(descriptor)


def _write(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)


def _holder(descriptor: int) -> dict[str, object]:
    """What the last process wrote; nothing if it ended by itself."""
    try:
        found = parse_json(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _age_s(folder: Path, descriptor: int) -> float:
    """Seconds since the last touch, by the folder's own clock."""
    with tempfile.TemporaryFile(dir=folder) as now:
        return os.fstat(now.fileno()).st_mtime - os.fstat(descriptor).st_mtime


def _busy(folder: Path, holder: dict[str, object]) -> BusyRunError:
    got = f"process {holder.get('pid', '?')} on {holder.get('host', 'this machine')} at work"
    return BusyRunError(explain(f"run {folder}", got=got, allowed="one at a time", cure="Wait, or cancel it."))
