"""A training killed and stopped at random moments and restarted by the same command, against one left alone."""

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.training import BATCHES, Training, compare

EPOCHS_A_KILL, EPOCHS_AT_THE_END = 12, 20
"""More than pass between two kills: the training must not end before the last one."""


def chaos(
    folder: Path,
    data: Path,
    mlflow_template: Path,
    *,
    kills: int,
    processes: int,
    seed: int,
    tell: Callable[[str], None] = print,
) -> None:
    """Raises AssertionError where a restart fails, an exit code is wrong, or anything that is left differs.

    Each kill comes after a checkpoint that the restarted training made, so beyond start-up and a save; as it saves
    twice a second, saves are hit, too.
    """
    epochs = kills * EPOCHS_A_KILL + EPOCHS_AT_THE_END
    killed = Training(folder / "killed", data, mlflow_template, epochs, processes=processes)
    draw, auto = random.Random(seed), ("--auto-resume", "--training.checkpoint-seconds", "0.5")
    for kill in range(1, kills + 1):
        began, at = time.monotonic(), max(killed.latest(), 0)
        running = killed.start(*auto)
        try:
            number, victim = draw.choice([signal.SIGKILL, signal.SIGTERM]), draw.randrange(processes)
            ended_s = killed.strike(running, at + draw.randint(5, 45), draw.uniform(0, 0.6), number, victim)
        finally:
            running.kill()
        left, took_s = killed.latest(), time.monotonic() - began
        how = f"{number.name} to process {victim}: all ended in {ended_s:.1f} s"
        tell(f"kill {kill} of {kills}: {how}; {left} is the latest step ({took_s:.0f} s)")
        assert at < left < epochs * BATCHES, "it ended before its last kill"
    killed.finish(killed.start(*auto))
    whole = Training(folder / "whole", data, mlflow_template, epochs, processes=processes)
    whole.finish(whole.start())
    compare(killed, whole, epochs * BATCHES)
