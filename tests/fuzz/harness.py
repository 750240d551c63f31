"""One target run many times under limits: two seconds a reading, 512 MB of memory, and errors of the house alone."""

from __future__ import annotations

import hashlib
import resource
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from heimdall_jax.errors import HeimdallError
from tests.fuzz.mutators import Mutator

MOST_SECONDS = 2.0
MOST_MEMORY = 512 << 20
LONGEST_MESSAGE = 4500
Reader = Callable[[bytes], object]


@dataclass(frozen=True)
class Target:
    """A reader of outside bytes.

    Attributes:
        name: Of the target.
        seeds: Inputs that are read without an error.
        open: Makes the reader, which may write into the folder it is given.
        spoil: Changes an input.
        long: Executions of the long run.
        short: Executions in CI.
    """

    name: str
    seeds: Callable[[], list[bytes]]
    open: Callable[[Path], Reader]
    spoil: Mutator
    long: int
    short: int


@dataclass
class Tally:
    """What a run of a target gave; `findings` by kind and place, each with the first input that gave it."""

    executions: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    peak_bytes: int = 0
    findings: dict[str, bytes] = field(default_factory=dict)


def spoilt(target: Target, seeds: list[bytes], seed: int, number: int) -> bytes:
    """The input of an execution, the same whenever it is asked for."""
    rng = Random(f"{target.name} {seed} {number}")
    data = rng.choice(seeds)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        data = target.spoil(data, rng)
    return data


def problem(reader: Reader, data: bytes) -> tuple[str, bool, float]:
    """What is wrong with how an input was read (empty: nothing), whether it was refused, and how long it took."""
    begun, refused, wrong = time.perf_counter(), False, ""
    try:
        reader(data)
    except HeimdallError as error:
        refused, text = True, str(error)
        if "\n" in text or not text.isprintable() or len(text) > LONGEST_MESSAGE:
            wrong = f"unclear message of {type(error).__name__} in {_place(error)}"
    except Exception as error:
        wrong = f"{type(error).__name__} in {_place(error)}"
    return wrong, refused, time.perf_counter() - begun


def examine(reader: Reader, data: bytes, tally: Tally) -> None:
    """Read an input once, and note what it gave; one that takes too long is read again, as others share the cores."""
    wrong, refused, seconds = problem(reader, data)
    if seconds > MOST_SECONDS:
        seconds = min(seconds, problem(reader, data)[2])
    if not wrong and seconds > MOST_SECONDS:
        wrong = "hang"
    peak = resident()
    if not wrong and peak - BASELINE[0] > MOST_MEMORY:
        wrong = "memory"
    tally.executions += 1
    tally.refused += refused
    tally.slowest_s = max(tally.slowest_s, seconds)
    tally.peak_bytes = max(tally.peak_bytes, peak - BASELINE[0])
    if wrong:
        tally.findings.setdefault(wrong, data)


BASELINE = [0]
"""Most memory that was held before the first input, bytes."""


def limit_memory() -> None:
    """From now on this process gets 512 MB more and not a page beyond, so that greed is a `MemoryError`."""
    BASELINE[0] = resident()
    held = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))
    most = int(held.split()[1]) * 1024 + MOST_MEMORY
    resource.setrlimit(resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def resident() -> int:
    """Most memory that this process has held, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run(
    target: Target,
    *,
    executions: int,
    seed: int = 0,
    seconds: float = float("inf"),
    at: Callable[[bytes], object] = lambda data: None,
    limited: bool = False,
) -> Tally:
    """Read so many spoilt inputs, or as many as time allows; the seeds come first and must be read."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="error"):
        for kind in (DeprecationWarning, ResourceWarning):  # of libraries, and of their open files
            warnings.simplefilter("ignore", kind)
        seeds, reader = target.seeds(), target.open(Path(folder))
        for data in seeds:
            reader(data)
        if limited:
            limit_memory()
        elif not BASELINE[0]:
            BASELINE[0] = resident()
        begun = time.monotonic()
        for number in range(executions):
            if time.monotonic() - begun > seconds:
                break
            data = spoilt(target, seeds, seed, number)
            at(data)
            examine(reader, data, tally)
        tally.seconds = time.monotonic() - begun
    return tally


def save(findings: dict[str, bytes], target: str, folder: Path) -> None:
    """Keep each finding's input under its target and hash."""
    folder.mkdir(parents=True, exist_ok=True)
    for data in findings.values():
        (folder / f"{target}-{hashlib.sha256(data).hexdigest()[:10]}.bin").write_bytes(data)


def _place(error: BaseException) -> str:
    """Where in the package an error came from, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/heimdall_jax/" in frame.filename] or list(frames)
    told = f"{Path(ours[-1].filename).name} {ours[-1].name}"
    return told if ours[-1] is frames[-1] else f"{told} from {Path(frames[-1].filename).name} {frames[-1].name}"
