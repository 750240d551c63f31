"""Fuzz readers by hand: `python -m tests.fuzz [TARGET ...] --executions N`; one line of JSON for each.

A process for each target, so that one which a reader takes down is told, too, with the input that did it.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.fuzz.harness import run, save
from tests.fuzz.targets import TARGETS

HELD = 4 << 20
"""Bytes for the input that is being read, its size and its time."""
STUCK_SECONDS = 60.0
"""Without a new execution, however busy the machine is."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--executions", type=int, help="of each target; by default those of the long run")
    parser.add_argument("--short", action="store_true", help="the executions of CI")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for each target at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, default=Path("findings"), help="folder for inputs that gave findings")
    parser.add_argument("--at", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    names = asked.targets or list(TARGETS)
    if asked.at is not None:
        return _child(names[0], asked)
    return max([_parent(name, asked) for name in names])


def _child(name: str, asked: argparse.Namespace) -> int:
    target = TARGETS[name]
    executions = asked.executions or (target.short if asked.short else target.long)
    options = {"executions": executions, "seed": asked.seed, "seconds": asked.seconds}
    with asked.at.open("r+b") as file, mmap.mmap(file.fileno(), HELD) as held:

        def at(data: bytes) -> None:
            """Faster than a file, and outlives the process all the same."""
            held[:16] = len(data).to_bytes(8, "little") + time.time_ns().to_bytes(8, "little")
            held[16 : 16 + len(data)] = data[: HELD - 16]

        tally = run(target, **options, at=at, limited=True)
    save(tally.findings, name, asked.save)
    told = asdict(tally) | {"target": name, "findings": sorted(tally.findings)}
    print(json.dumps({key: round(value, 3) if isinstance(value, float) else value for key, value in told.items()}))
    return int(bool(tally.findings))


def _parent(name: str, asked: argparse.Namespace) -> int:
    """Watch a target's process; the input that it was at is saved if it died or stood still."""
    with tempfile.NamedTemporaryFile() as at:
        at.truncate(HELD)
        command = [part for part in sys.argv[1:] if part not in TARGETS]
        process = subprocess.Popen([sys.executable, "-m", "tests.fuzz", *command, "--at", at.name, name])
        begun = time.monotonic()
        while process.poll() is None:
            time.sleep(0.1)
            told = os.pread(at.fileno(), 16, 0)
            size, since_ns = (int.from_bytes(part, "little") for part in (told[:8], told[8:]))
            still = min(time.monotonic() - begun, time.time() - since_ns / 1e9)
            if still > STUCK_SECONDS:
                process.kill()
        if process.returncode in (0, 1):
            return process.returncode
        save({"died": Path(at.name).read_bytes()[16 : 16 + size]}, name, asked.save)
        print(json.dumps({"target": name, "findings": [f"ended with {process.returncode}"]}))
        return 2


if __name__ == "__main__":
    sys.exit(main())
