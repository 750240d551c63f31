"""Which recordings have a time, and what is said when too few are left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from heimdall_jax.errors import DataError, explain
from heimdall_jax.sources.alignment import fit_clock
from heimdall_jax.sources.kiwi_wav import parse_name, read_stamped

NEEDED = 3
"""Receivers: two coordinates and the time of sending."""


def dated(paths: Iterable[Path]) -> tuple[list[Path], list[dict[str, str]]]:
    """Recordings whose stamps date them, and which do not and why: those would also cut the common time wrongly.

    Raises:
        StorageError: A file cannot be read.
        DataError: One breaks its format, or fewer than three have a time.
    """
    kept, refused = [], []
    for path in paths:
        name = parse_name(path)
        clock = fit_clock(read_stamped(path), name.start_s, str(path))
        if clock.refused:
            refused.append({"name": name.station, "reason": f"its times cannot be used: {clock.refused}"})
        else:
            kept.append(path)
    if len(kept) < NEEDED:
        too_few(len(kept), refused)
    return kept, refused


def too_few(count: int, refused: Sequence[dict[str, str]]) -> NoReturn:
    """Say how many receivers are left, and why the others are not.

    Raises:
        DataError: Always.
    """
    why = "; ".join(f"{entry['name']}: {entry['reason']}" for entry in refused)
    cure = f"Refused: {why}." if refused else "Give more recordings of the same transmission."
    raise DataError(explain("receivers", got=f"{count} usable", allowed=f"{NEEDED} or more", cure=cure))
