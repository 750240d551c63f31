"""The tutorial as a reader pastes it, in its order, and then the samples that serve its model."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from heimdall_jax.geodesy import error_radius_m
from heimdall_jax.locate.command import NOT_LOCATED
from heimdall_jax.registry.runtime import Runtime
from tests.documentation import DOCS, TUTORIAL, snippets
from tests.laws import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SERVE = DOCS / "how-to" / "serve-onnx.md"
SHORTER = "--world.train 256 --world.validation 64 --world.test 64 --training.epochs 2 --model.width 16"
"""What the training is given beside: a reader's takes minutes."""
INSTALL = "python3 -m venv .venv && . .venv/bin/activate && pip install -c constraints.txt -e ."
"""The only line that is not run: what it installs is here."""


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    paths = {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=inherited | paths, cwd=folder, check=False
    )


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader's clone has that the commands name."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("scripts", "docs"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture(scope="module")
def said(clone: Path) -> dict[str, subprocess.CompletedProcess[str]]:
    """What each command of the tutorial did."""
    done: dict[str, subprocess.CompletedProcess[str]] = {}
    first, *lines = [line for body in snippets(TUTORIAL, "sh") for line in body.splitlines()]
    assert first == INSTALL
    for line in lines:
        done[line] = shell(f"{line} {SHORTER}" if "train.py" in line else line, clone)
    return done


def the(said: dict[str, subprocess.CompletedProcess[str]], word: str) -> subprocess.CompletedProcess[str]:
    (found,) = [done for line, done in said.items() if word in line]
    return found


def test_every_command_ends_as_the_tutorial_says(said):
    """A model that was trained for less may know less."""
    (unknown,) = [done for line, done in said.items() if line.endswith("/test-000005.sigmf-collection")]
    assert unknown.returncode == NOT_LOCATED, unknown.stdout + unknown.stderr
    assert unknown.stdout.startswith("I don't know where it is")
    may_be = {line: {0, NOT_LOCATED} if "--model" in line else {0} for line in said}
    failed = {line: done.stderr for line, done in said.items() if done.returncode not in may_be[line]}
    assert {line: error for line, error in failed.items() if said[line] is not unknown} == {}


def test_the_files_that_the_reader_opens_are_there(said, clone):
    for name in ("times.html", "model.html", "runs/first/report.html"):
        assert (clone / name).read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html>")
    assert (clone / "runs" / "first" / "model.onnx").exists()


def test_the_fix_by_times_is_where_the_tutorial_says(said):
    """The transmissions are the same everywhere; rounding is not."""
    shown = next(body for body in snippets(TUTORIAL, "text") if "68 %" in body)
    numbers = re.compile(r"-?\d+\.\d{3,}")
    told, got = (np.array(numbers.findall(text)[:2], float) for text in (shown, the(said, "times.html").stdout))
    assert np.abs(told - got).max() < 1e-3
    truth = the(said, "grep").stdout.splitlines()[0].split(",")[2:4]
    assert np.abs(np.array(truth, float) - got).max() < 0.01


@pytest.fixture(scope="module")
def served(said, clone: Path) -> tuple[float, float, float]:
    """What the Python sample prints of the snippet's transmission: latitude, longitude, 68 % radius."""
    (body,) = snippets(SERVE, "python")
    (clone / "snippet.py").write_text(body)
    made = shell("python snippet.py", clone)
    assert made.returncode == 0, made.stderr
    return printed(sample("docs/samples/locate.py"), clone)


def sample(word: str) -> str:
    (line,) = [line for body in snippets(SERVE, "sh") for line in body.splitlines() if line.split()[1] == word]
    return line


def printed(command: str, folder: Path) -> tuple[float, float, float]:
    done = shell(command, folder)
    assert done.returncode == 0, done.stderr
    latitude, longitude, radius_m = map(float, done.stdout.split())
    return latitude, longitude, radius_m


def test_the_python_sample_says_what_the_runtime_says(served, clone):
    runtime = Runtime.load(clone / "runs" / "first", threads=1)
    receivers = json.loads((clone / "transmission" / "receivers.json").read_text())
    samples = runtime.manifest.samples
    iq_BRT = np.stack([np.load(clone / "transmission" / one["recording"])[:samples] for one in receivers])[None]
    fixes = runtime.locate(
        {
            "i": iq_BRT.real.copy(),
            "q": iq_BRT.imag.copy(),
            "receiver_deg": np.array([[(one["latitude"], one["longitude"]) for one in receivers]]),
            "altitude_m": np.array([[one["altitude_m"] for one in receivers]], np.float32),
            "clock_sigma_s": np.array([[one["clock_sigma_s"] for one in receivers]], np.float32),
            "heard": np.ones((1, len(receivers)), bool),
        }
    )
    np.testing.assert_allclose(served[:2], fixes.position_deg[0], atol=1e-6)
    np.testing.assert_allclose(served[2], error_radius_m(fixes.covariance_m2[0], 0.68), rtol=1e-4)


def test_the_javascript_sample_says_what_the_python_one_says(served, clone):
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not on this machine")
    folder = clone / "javascript"
    folder.mkdir()
    for name in ("docs", "runs", "transmission"):
        (folder / name).symlink_to(clone / name)
    cpu_only = "export ONNXRUNTIME_NODE_INSTALL_CUDA=skip"  # else npm fetches hundreds of megabytes
    install = shell(f"{cpu_only}; {sample('docs/samples/locate.mjs')}", folder)
    if install.returncode:
        pytest.skip(f"onnxruntime-node cannot be had here: {install.stderr.strip().splitlines()[-1]}")
    got = printed(sample("locate.mjs"), folder)
    np.testing.assert_allclose(got[:2], served[:2], atol=1e-6)
    np.testing.assert_allclose(got[2], served[2], rtol=1e-4)
