"""The harness in its short form: one training, alone and on two processes; and what a soak calls growth."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.harness import chaos
from tests.chaos.soak import Watched
from tests.powder_like import write_powder_like


@pytest.mark.chaos
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("processes", "seed"), [(1, 3), (2, 1)])
def test_a_few_kills_change_nothing(tmp_path: Path, mlflow_template: Path, processes: int, seed: int) -> None:
    data = write_powder_like(tmp_path / "powder")
    chaos(tmp_path, data, mlflow_template, kills=3, processes=processes, seed=seed)


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
