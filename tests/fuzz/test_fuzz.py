"""Every reader under a fixed number of spoilt inputs: a short form here, a minute of it in CI's second stage."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.harness import problem, run
from tests.fuzz.targets import TARGETS

FINDINGS = sorted((Path(__file__).parent / "findings").glob("*.bin"))
HEAVY = ("catalogue_rows", "catalogue_file", "prepared", "checkpoint")
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in HEAVY])
def test_spoilt_inputs_are_read_or_refused(name):
    assert run(TARGETS[name], executions=15, seed=1).findings == {}


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: path.stem)
def test_what_was_found_stays_mended(path, tmp_path):
    target = TARGETS[path.stem.rpartition("-")[0]]
    assert problem(target.open(tmp_path), path.read_bytes())[0] == ""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_minute_of_fuzzing_under_limits(tmp_path):
    command = [sys.executable, "-m", "tests.fuzz", "--short", "--save", str(tmp_path)]
    quiet = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    told = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
    assert {one["target"]: one["findings"] for one in told if one["findings"]} == {}, ended.stderr[-2000:]
    assert {one["target"]: one["executions"] for one in told} == {name: it.short for name, it in TARGETS.items()}
    assert ended.returncode == 0
