"""Short forms of the harness, on one process and on two; stops by a user; and what a soak calls growth."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.harness import chaos
from tests.chaos.soak import Watched
from tests.chaos.training import BATCHES, EVERY, Training, compare
from tests.powder_like import write_powder_like


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_powder_like(tmp_path_factory.mktemp("data") / "powder")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("processes", "seed"), [(1, 3), pytest.param(2, 1, marks=pytest.mark.chaos)])
def test_two_kills_change_nothing(tmp_path: Path, data: Path, mlflow_template: Path, processes: int, seed: int) -> None:
    chaos(tmp_path, data, mlflow_template, kills=2, processes=processes, seed=seed)


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_stops_leave_their_steps_and_change_nothing(tmp_path: Path, data: Path, mlflow_template: Path) -> None:
    """SIGTERM and Ctrl-C, where only evaluations would save: a step between two of them is the stop's."""
    whole = Training(tmp_path / "whole", data, mlflow_template, epochs := 60)
    stopped = Training(tmp_path / "stopped", data, mlflow_template, epochs)
    (stopped.folder.parent / "cache").symlink_to(whole.folder.parent / "cache")
    whole.finish(whole.start())
    left = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        process = stopped.start("--training.checkpoint-seconds", "1000", resume=bool(left))
        stopped.strike(process, (left[-1] if left else 0) + EVERY, 0.03, number)
        left.append(stopped.latest())
    assert any(step % EVERY for step in left), left  # by chance, one of them may fall on an evaluation
    assert left[-1] < epochs * BATCHES
    assert stopped.log.read_text().count("stopped; train.py --out RUN --resume goes on") == 3
    stopped.finish(stopped.start(resume=True))
    compare(stopped, whole, epochs * BATCHES)


@pytest.mark.parametrize(
    ("last_mib", "last_files", "flat"), [(101, 8, True), (103, 8, False), (100, 9, False), (80, 7, True)]
)
def test_growth_after_the_warm_up_is_told(last_mib: int, last_files: int, flat: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        watched = Watched("training", process, Path("none"))
        watched.look()
        process.communicate(b"\n")
    assert watched.bytes_held[0] > 0
    assert watched.files[0] >= 3
    watched.bytes_held = [mib * 2**20 for mib in [50] * 40 + [100] * 60 + [last_mib] * 20]
    watched.files = [3] * 40 + [8] * 60 + [last_files] * 20
    if flat:
        watched.check()
        return
    with pytest.raises(AssertionError, match=r"training: MiB held 100\.0, .*; files open 8, "):
        watched.check()
