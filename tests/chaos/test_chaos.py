"""The harness in its short form: one training, alone and on two processes."""

from pathlib import Path

import pytest

from tests.chaos.harness import chaos
from tests.powder_like import write_powder_like


@pytest.mark.chaos
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("processes", "seed"), [(1, 3), (2, 1)])
def test_a_few_kills_change_nothing(tmp_path: Path, mlflow_template: Path, processes: int, seed: int) -> None:
    data = write_powder_like(tmp_path / "powder")
    chaos(tmp_path, data, mlflow_template, kills=3, processes=processes, seed=seed)
