"""How long a training run takes to begin, and the memory it takes in all: whole processes, as users start them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from heimdall_jax.benchmarks.race import OURS, Result, Timing, race
from heimdall_jax.errors import StorageError, explain

TRAIN = Path(__file__).resolve().parents[2] / "scripts" / "train.py"
FIRST_STEP = b"training 1/"
"""What `train.py` prints once the first step is done."""
WATCHED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, flush=True)
sys.exit(code)
"""
"""Between us and what is measured: a process counts the memory of the one it was forked from."""
UNTRACKED = ("--tracking.enabled", "False")


def startup(repeats: int) -> Iterator[Result]:
    """Every line of the section; the whole run fills the caches that the later ones find."""
    seconds = race({OURS: lambda: _until_end(("--help",))}, repeats=repeats)
    yield _seconds("train.py --help", seconds[OURS], "<= 0.6")
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        start = time.perf_counter()
        peak_bytes = _until_end(("--out", str(runs / "whole"), *UNTRACKED))
        timing = {OURS: Timing.of([time.perf_counter() - start])}
        ratio, target = {"GiB": peak_bytes / 2**30}, {"GiB": "<= 1.5"}
        yield Result("peak memory of the default training run", timing, ratio, target)
        began = [_until_first_step(runs / str(number)) for number in range(repeats)]
        yield _seconds("first training step, caches warm", began, "<= 6")


def _seconds(work: str, seconds: list[float], target: str) -> Result:
    timing = Timing.of(seconds)
    return Result(work, {OURS: timing}, {"seconds": timing.median_s}, {"seconds": target})


def _until_end(arguments: tuple[str, ...]) -> int:
    """Run `train.py` to its end; gives the largest resident memory of its process, bytes."""
    command = [sys.executable, "-c", WATCHED, sys.executable, str(TRAIN), *arguments]
    finished = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if finished.returncode:
        raise _failed(finished.stdout)
    return int(finished.stdout.split()[-1]) * (1 if sys.platform == "darwin" else 1024)


def _until_first_step(out: Path) -> float:
    """Seconds from the start of the process to the end of its first step; it is stopped there."""
    start, said = time.perf_counter(), b""
    command = [sys.executable, "-u", str(TRAIN), "--out", str(out), *UNTRACKED]
    watched = {**os.environ, "CI": ""}  # where no person watches, a step is no line
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=watched) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said += line
            if line.startswith(FIRST_STEP):
                took = time.perf_counter() - start
                process.kill()
                return took
    raise _failed(said)


def _failed(said: bytes) -> StorageError:
    got = said.decode(errors="replace").strip()[-300:]
    return StorageError(explain("train.py", got=got, allowed="a run", cure="Run it by hand."))
