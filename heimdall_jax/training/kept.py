"""Finished arrays of a data set, kept on disk between runs under the hash of all that they depend on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heimdall_jax.errors import StorageError, explain
from heimdall_jax.outside import parse_npz, read_file

MAX_TABLE_BYTES = 1 << 30
"""Of a table of features, as a file and as arrays."""


class Kept:
    """A table (`.npz`) and a memory-mapped array (`.npy`), both there or neither.

    Args:
        folder: Of the cache; made if absent.
        key: Everything the arrays depend on; dataclasses and JSON values.

    Raises:
        StorageError: The folder cannot be written or read (any method).
    """

    def __init__(self, folder: Path, key: list[Any]) -> None:
        plain = [asdict(part) if is_dataclass(part) and not isinstance(part, type) else part for part in key]
        digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:24]
        self._table, self._array = folder / f"{digest}.npz", folder / f"{digest}.npy"
        self._part = folder / f"{digest}.{os.getpid()}.part"
        with self._storing():
            folder.mkdir(parents=True, exist_ok=True)

    def load(self) -> tuple[dict[str, np.ndarray], np.ndarray | None] | None:
        """The table and the array (None if there is none); None where nothing whole is kept."""
        if not self._table.exists():
            return None
        with self._storing():
            columns = parse_npz(read_file(self._table, MAX_TABLE_BYTES), MAX_TABLE_BYTES)
            return columns, np.load(self._array, mmap_mode="r") if self._array.exists() else None

    def create(self, shape: tuple[int, ...]) -> np.ndarray:
        """A float16 array on disk to fill before `store`."""
        with self._storing():
            return np.lib.format.open_memmap(self._part, "w+", np.float16, shape)

    def store(self, table: dict[str, np.ndarray], array: np.ndarray | None) -> None:
        """Make the filled array, then the table visible: a reader that finds the table finds both."""
        with self._storing():
            if isinstance(array, np.memmap):
                array.flush()
                os.replace(self._part, self._array)
            with self._part.open("wb") as file:
                np.savez(file, allow_pickle=False, **table)
            os.replace(self._part, self._table)

    @contextlib.contextmanager
    def _storing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, EOFError, TypeError, SyntaxError) as error:  # NumPy's, of the mapped array
            cure = "Free space, delete that folder, or name another with --data.cache."
            allowed = "a writable folder of whole files"
            raise StorageError(
                explain(f"feature cache {self._table.parent}", got=error, allowed=allowed, cure=cure)
            ) from error
