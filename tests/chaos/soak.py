"""Half an hour of training while servers go and come: is memory flat, are file handles, and is nothing lost?

Three programs run side by side: a training on an endless simulated world and one on a catalogue, with a radio map that
draws samples, both tracked, and a reader that opens the catalogue and reads every recording of it again and again.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from heimdall_jax.stopping import STOPPED
from heimdall_jax.store import open_store
from tests import platform_like, servers
from tests.laws import ROOT

WARM_UP = 1 / 3
"""Share of the time after which memory must be flat: programs are compiled and caches are full by then."""
WINDOWS = 4
"""Parts of the rest, the medians of which are compared."""
GROWTH = 0.02
DOWN_SECONDS, UP_SECONDS = (1.0, 8.0), (10.0, 40.0)
"""How long a server is away, and how long all are there in between."""
SMALL = {"--model.width": "16", "--model.depth": "1", "--model.heads": "2", "--features.n-frames": "8"}
ENDLESSLY = {"--training.epochs": "1000000", "--training.patience": "1000000", "--training.checkpoint-seconds": "10"}
READER = """
import sys, time
from heimdall_jax.sources.catalogue import open_catalogue
while True:
    source = open_catalogue(sys.argv[1], store=sys.argv[2])
    print(sum(session.iq_RT is not None for session in source.__getitems__(range(len(source)))), flush=True)
    time.sleep(1.0)
"""


@dataclass
class Watched:
    """A program, and what it held each time it was looked at."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    bytes_held: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def look(self) -> None:
        assert self.process.poll() is None, f"{self.name} ended\n{self.log.read_text()[-3000:]}"
        folder = Path("/proc") / str(self.process.pid)
        resident_pages = int((folder / "statm").read_text().split()[1])
        self.bytes_held.append(resident_pages * resource.getpagesize())
        self.files.append(len(list((folder / "fd").iterdir())))

    def windows(self, seen: list[int]) -> list[float]:
        """Medians of the parts after the warm-up."""
        warm = seen[int(len(seen) * WARM_UP) :]
        cuts = [len(warm) * part // WINDOWS for part in range(WINDOWS + 1)]
        return [statistics.median(warm[a:b]) for a, b in itertools.pairwise(cuts)]

    def told(self) -> str:
        held = ", ".join(f"{size / 2**20:.1f}" for size in self.windows(self.bytes_held))
        files = ", ".join(f"{count:.0f}" for count in self.windows(self.files))
        return f"{self.name}: MiB held {held}; files open {files}"

    def check(self) -> None:
        """Raises AssertionError where the last part holds more than the first."""
        held, files = self.windows(self.bytes_held), self.windows(self.files)
        assert held[-1] <= (1 + GROWTH) * held[0], self.told()
        assert files[-1] <= files[0], self.told()


@contextlib.contextmanager
def _platform(folder: Path, mlflow_template: Path) -> Iterator[tuple[dict[str, servers.Server], dict[str, str]]]:
    """Servers by name, filled with a catalogue, and the environment of their clients."""
    with (
        servers.postgresql() as database,
        servers.s3(folder / "s3") as s3,
        servers.mlflow(folder / "mlflow", mlflow_template) as tracking,
    ):
        (folder / "s3" / "raw").mkdir()
        keys = servers.s3_environment(s3)
        os.environ.update(keys)
        platform_like.write_platform(folder / "catalogue", good=80)
        platform_like.copy_platform(folder / "catalogue", database.url, open_store("s3://raw"))
        environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
        environment |= {"MLFLOW_TRACKING_URI": tracking.url, "HEIMDALL_PATIENCE_SECONDS": "120"}
        yield {"PostgreSQL": database, "S3": s3, "MLflow": tracking}, environment


def _programs(folder: Path, database_url: str) -> dict[str, list[str]]:
    """Arguments of Python by name."""
    train = [str(ROOT / "scripts" / "train.py"), "--config", "simulation"]
    settings = [word for pair in (SMALL | ENDLESSLY).items() for word in pair]
    where = ["--catalogue", database_url, "--objects", "s3://raw", "--split", "random"]
    where += ["--augmentation.simulated", "0.3", "--radio-map.spacing-m", "1000"]
    return {
        "simulation": [*train, *settings, "--world.endless", "True", "--out", str(folder / "runs" / "simulation")],
        "catalogue": [*train, *settings, *where, "--out", str(folder / "runs" / "catalogue")],
        "reader": ["-c", READER, database_url, "s3://raw"],
    }


def soak(
    folder: Path, mlflow_template: Path, *, minutes: float, seed: int, tell: Callable[[str], None] = print
) -> None:
    """Raises AssertionError where a program ends early, grows, or does not stop as it should."""
    draw, watched = random.Random(seed), []
    with _platform(folder, mlflow_template) as (running, environment):
        try:
            for name, arguments in _programs(folder, running["PostgreSQL"].url).items():
                log = folder / f"{name}.log"
                with log.open("wb") as out:
                    process = subprocess.Popen([sys.executable, *arguments], stdout=out, stderr=out, env=environment)
                watched.append(Watched(name, process, log))
            restarts = _disturb(running, watched, draw, 60 * minutes)
            tell(f"{minutes:g} minutes; " + ", ".join(f"{name} restarted {n} times" for name, n in restarts.items()))
            for one in watched:
                tell(one.told())
            for one in watched:
                one.check()
                one.process.send_signal(signal.SIGTERM)
                expected = -signal.SIGTERM if one.name == "reader" else STOPPED + signal.SIGTERM
                assert one.process.wait(60) == expected, one.log.read_text()[-3000:]
        finally:
            for one in watched:
                one.process.kill()


def _disturb(
    running: dict[str, servers.Server], watched: list[Watched], draw: random.Random, seconds: float
) -> dict[str, int]:
    """Look at the programs each second and restart a server now and then; gives how often each was restarted."""
    restarts, end = dict.fromkeys(running, 0), time.monotonic() + seconds

    def look_for(span_s: float) -> None:
        until = min(end, time.monotonic() + span_s)
        while time.monotonic() < until:
            for one in watched:
                one.look()
            time.sleep(1.0)

    look_for(60.0)  # beyond start-up
    while time.monotonic() < end:
        name = draw.choice(list(running))
        with running[name].stopped():
            look_for(draw.uniform(*DOWN_SECONDS))
        restarts[name] += 1
        look_for(draw.uniform(*UP_SECONDS))
    return restarts
