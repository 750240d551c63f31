"""A mistake of a user: the folder it is made in, the command line, and what must be said. Made up for the table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from heimdall_jax import config as configs
from heimdall_jax.config import POWDER
from heimdall_jax.run_folder import TRACKED
from heimdall_jax.tracking.spool import SPOOL
from tests.powder_like import write_powder_like

RATE_HZ = 12_000
HEADER = "session,start,latitude,longitude,frequency_hz,station,file,sample_rate_hz"


class Case(NamedTuple):
    """A command line in a folder that was made for it, and what must be said."""

    name: str
    command: tuple[str, ...]
    match: str
    make: Callable[[Path], object] = lambda here: None
    environment: Mapping[str, str] = MappingProxyType({})
    code: int = 1


def own(*changes: tuple[str, str], iq: Callable[[Path], object] = lambda file: None) -> Callable[[Path], None]:
    """Three stations and a session of one's own, with changes to the text of the tables, and to the last recording."""

    def make(here: Path) -> None:
        names = ("hill", "roof", "mast")
        places = ("45.01,7.01", "45.11,7.11", "45.21,7.21")
        tables = {
            "stations.csv": ["name,latitude,longitude", *map(",".join, zip(names, places, strict=True))],
            "recordings.csv": [
                HEADER,
                *(f"a,2026-03-01T12:00:00Z,45.05,7.05,145e6,{name},{name}.npy,{RATE_HZ}" for name in names),
            ],
        }
        for name, lines in tables.items():
            text = "\n".join(lines) + "\n"
            for old, new in changes:
                text = text.replace(old, new)
            (here / name).write_text(text)
        for name in names:
            np.save(here / f"{name}.npy", np.full(600, 0.1 + 0.1j, np.complex64))
        iq(here / "mast.npy")

    return make


def described(**changes: object) -> Callable[[Path], None]:
    """Three receivers' recordings as NumPy files with a JSON beside each; the last one's has changes."""

    def make(here: Path) -> None:
        start = {"start": "2026-03-01T12:00:00Z", "sample_rate_hz": RATE_HZ, "frequency_hz": 145e6}
        for name, place in {"TO": (45.04, 7.67), "GE": (44.4, 8.96), "MI": (45.48, 9.12)}.items():
            np.save(here / f"{name}.npy", np.full(600, 0.1 + 0.1j, np.complex64))
            told = {"latitude": place[0], "longitude": place[1], **start, **(changes if name == "MI" else {})}
            (here / f"{name}.json").write_text(json.dumps(told))

    return make


def text(name: str, content: str | bytes = "x\n") -> Callable[[Path], object]:
    """A file."""
    return lambda here: (here / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def folder(name: str) -> Callable[[Path], object]:
    return lambda here: (here / name).mkdir()


def together(*makers: Callable[[Path], object]) -> Callable[[Path], None]:
    """One after the other."""

    def make(here: Path) -> None:
        for one in makers:
            one(here)

    return make


def powder(here: Path) -> None:
    """A small POWDER data set in `data`."""
    write_powder_like(here / "data")


def tracked_run(here: Path) -> None:
    """A run that was stopped while its server was away."""
    (here / "run").mkdir()
    configs.save(POWDER, here / "run" / "config.yaml")
    (here / "run" / TRACKED).write_text(json.dumps({"run_id": "1" * 32}))
    (here / "run" / SPOOL).write_text('[0, "train/loss", 1.0, 1]\n')
