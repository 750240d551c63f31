"""Metrics that a tracking server has not taken yet, kept in the run folder until it has. Imports no JAX."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from heimdall_jax.errors import DataError, StorageError, explain
from heimdall_jax.outside import parse_json, read_file

SPOOL = "tracking_spool.jsonl"
MAX_BYTES = 1 << 28
"""Of the file: three million values."""


class Row(NamedTuple):
    """One value of one metric, with the Unix time in milliseconds at which it came.

    The time never changes: a store drops the row that it has to the last digit, so sending it twice does no harm.
    """

    step: int
    key: str
    value: float
    time_ms: int


class Spool:
    """A file of rows, one JSON list a line; absent while everything is stored.

    Args:
        path: Of the file.

    Raises:
        StorageError: It cannot be read or written (any method).
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Row]:
        """All whole rows; a line that a kill cut off was never promised to anyone, and is removed."""
        if not self.path.exists():
            return []
        try:
            content = read_file(self.path, MAX_BYTES)
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                os.truncate(self.path, whole)
        except (OSError, DataError) as error:
            raise self._unusable(error) from error
        rows = []
        for number, line in enumerate(content[:whole].splitlines(), 1):
            try:
                step, key, value, time_ms = parse_json(line)
                rows.append(Row(int(step), str(key), float(value), int(time_ms)))
            except (ValueError, TypeError, OverflowError) as error:
                cure = "Remove that line; the others are delivered then."
                what = f"{self.path} line {number}"
                raise StorageError(explain(what, got=error, allowed="[step, key, value, ms]", cure=cure)) from error
        return rows

    def append(self, rows: Sequence[Row]) -> None:
        """Add rows; once this returns they outlive the process and the machine."""
        if not rows:
            return
        lines = "".join(json.dumps(list(row)) + "\n" for row in rows).encode()
        try:
            with self.path.open("ab") as file:
                before = file.tell()
                try:
                    file.write(lines)
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    os.truncate(self.path, before)  # half a line would spoil the next one
                    raise
            if before == 0:
                self._sync_folder()
        except OSError as error:
            raise self._unusable(error) from error

    def clear(self) -> None:
        """Forget the rows: all of them are stored."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise self._unusable(error) from error

    def _sync_folder(self) -> None:
        descriptor = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _unusable(self, error: Exception) -> StorageError:
        cure = "Free space and run again with --resume."
        return StorageError(explain(str(self.path), got=error, allowed="a writable file", cure=cure))
