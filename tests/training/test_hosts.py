"""Any number of processes on one mesh train as one does, and any of them may be stopped, killed or fail."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from heimdall_jax.errors import StorageError
from heimdall_jax.hosts import is_of_a_peer
from heimdall_jax.run import open_run
from heimdall_jax.stopping import LOST
from tests.laws import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LONG = pytest.mark.chaos
"""Hundreds of steps in several processes: in `.ci/full`."""

LAYOUTS = ([4], [2, 2], [1, 1, 1, 1])
"""Devices of each process."""


@dataclass
class Ended:
    """What became of the processes of one training."""

    codes: list[int]
    errors: list[str]
    said: list[dict[str, Any]]

    @property
    def losses(self) -> np.ndarray:
        """Of each step (S,)."""
        return np.array([loss for _, loss in self.said[0]["metrics"]["train/loss"]])

    @property
    def steps(self) -> list[int]:
        return [step for step, _ in self.said[0]["metrics"]["train/loss"]]


class Launched:
    """Processes of one training on loopback."""

    def __init__(self, out: Path, layout: Sequence[int], each: Sequence[dict[str, Any]] = (), **asked: Any) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        out.parent.mkdir(parents=True, exist_ok=True)
        self.out, self.processes = out, []
        for index, devices in enumerate(layout):
            launch = (address, len(layout), index) if len(layout) > 1 else None
            said = json.dumps(
                {"out": str(out), "devices": devices, "launch": launch} | asked | (each[index] if each else {})
            )
            command = [sys.executable, "-m", "tests.training.hosts_program", said]
            self.processes.append(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE))

    def latest(self) -> int:
        """Highest whole step on disk, -1 if none."""
        names = [path.name for path in (self.out / "checkpoints").glob("*")]
        return max((int(name) for name in names if name.isdigit()), default=-1)

    def until_saved(self, step: int) -> None:
        while self.latest() < step:
            assert all(process.poll() is None for process in self.processes), self.end().errors
            time.sleep(0.02)

    def end(self, timeout_s: float = 400) -> Ended:
        errors = [process.communicate(timeout=timeout_s)[1].decode() for process in self.processes]
        files = [self.out / f"said-{index}.json" for index in range(len(self.processes))]
        said = [json.loads(file.read_text()) for file in files if file.exists()]
        return Ended([process.returncode for process in self.processes], errors, said)


def trained(out: Path, layout: Sequence[int], **asked: Any) -> Ended:
    ended = Launched(out, layout, **asked).end()
    assert set(ended.codes) == {0}, ended.errors
    return ended


def counted(ended: Ended, steps: int) -> list[list[int]]:
    """Sample numbers of each epoch of four steps, from all processes; padding is -1."""
    of_step = [list(chain(*(said["placed"][step] for said in ended.said))) for step in range(steps)]
    return [sorted(chain(*of_step[start : start + 4])) for start in range(0, steps, 4)]


@LONG
@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
def test_losses_of_one_two_and_four_processes_are_the_same(tmp_path: Path, double: bool) -> None:
    steps = 200
    alone, *several = (trained(tmp_path / f"{len(n)}", n, steps=steps, double=double) for n in LAYOUTS)
    assert len(alone.losses) == steps
    assert alone.losses[-20:].mean() < alone.losses[:20].mean() - 0.5  # it learns
    whole = [sorted([*range(60), *[-1] * 4])] * (steps // 4)
    for ended in (alone, *several):
        assert counted(ended, steps) == whole
    for ended in several:
        apart = np.abs(ended.losses - alone.losses) / np.maximum(1, np.abs(alone.losses))
        if double:
            assert apart.max() <= 1e-9
        else:
            assert apart[:5].max() <= 1e-6
            assert apart[-1] <= 1e-3
        assert ended.said[0]["metrics"] == ended.said[-1]["metrics"]


@LONG
def test_parameters_that_are_cut_give_the_same_losses_and_a_quarter_of_the_memory(tmp_path: Path) -> None:
    wide = {"network": {"width": 128}, "steps": 20}
    whole = trained(tmp_path / "whole", [4], **wide)
    cut = [trained(tmp_path / f"{len(n)}", n, training={"sharding": "fsdp"}, **wide) for n in ([4], [2, 2])]
    assert whole.said[0]["share"] == 1
    for ended, name in zip(cut, ("1", "2"), strict=True):
        np.testing.assert_allclose(ended.losses, whole.losses, rtol=1e-4)
        assert 0.25 <= ended.said[0]["share"] < 0.28
        run = open_run(tmp_path / name)
        assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(run.state.params))


@LONG
def test_a_stop_of_one_is_one_of_all_and_other_devices_and_hosts_go_on(tmp_path: Path) -> None:
    steps = 200
    whole = trained(tmp_path / "whole", [4], steps=steps, double=True)
    first = Launched(tmp_path / "run", [2, 2], steps=steps, double=True, pause_s=0.1)
    first.until_saved(40)
    first.processes[1].send_signal(signal.SIGTERM)
    stopped = first.end(timeout_s=60)
    assert stopped.codes == [143, 143], stopped.errors
    assert all("stopped; " in error for error in stopped.errors), stopped.errors
    left = first.latest()
    assert left == stopped.steps[-1] + 1 < steps
    rest = trained(tmp_path / "run", [1, 1, 1, 1], steps=steps, double=True)
    assert [*stopped.steps, *rest.steps] == list(range(steps))
    np.testing.assert_allclose([*stopped.losses, *rest.losses], whole.losses, rtol=0, atol=1e-9 * whole.losses.max())


@LONG
def test_the_same_hosts_go_on_to_the_same_bits(tmp_path: Path) -> None:
    steps = 80
    whole = trained(tmp_path / "whole", [2, 2], steps=steps)
    first = Launched(tmp_path / "run", [2, 2], steps=steps, pause_s=0.2)
    first.until_saved(40)
    first.processes[0].send_signal(signal.SIGTERM)
    stopped = first.end(timeout_s=60)
    assert stopped.codes == [143, 143], stopped.errors
    rest = trained(tmp_path / "run", [2, 2], steps=steps)
    assert [*stopped.losses, *rest.losses] == list(whole.losses)


GLOO = "UNKNOWN: Gloo AllGather failed: Read error [127.0.0.1]:29584: Connection reset by peer"


@pytest.mark.parametrize(
    ("text", "cause", "of_a_peer"),
    [
        (f"checkpoints in run: got {GLOO}; allowed: whole steps", None, True),
        ("checkpoints in run: got ; allowed: whole steps", jax.errors.JaxRuntimeError(GLOO), True),
        ("no metrics", jax.errors.JaxRuntimeError("UNAVAILABLE: failed to connect to all addresses"), True),
        ("no step", jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory"), False),
        ("no step", ValueError("Gloo"), False),
        ("checkpoints in run: got No space left on device", None, False),
    ],
)
def test_what_comes_of_a_lost_process_is_told_from_other_errors(
    text: str, cause: Exception | None, of_a_peer: bool
) -> None:
    """A save that another process leaves in its middle failed here with the first, 1 of 16 kills."""
    error = StorageError(text)
    error.__cause__ = cause
    assert is_of_a_peer(error) == of_a_peer


@pytest.mark.parametrize("victim", [0, 1])
def test_a_lost_process_ends_the_others_with_the_cure(tmp_path: Path, victim: int) -> None:
    launched = Launched(tmp_path / "run", [1, 1], steps=2000, pause_s=0.1)
    launched.until_saved(0)
    launched.processes[victim].kill()
    ended = launched.end(timeout_s=60)
    assert ended.codes == [-signal.SIGKILL if index == victim else LOST for index in (0, 1)], ended.errors
    last = ended.errors[1 - victim].splitlines()[-1]
    assert last.startswith(f"error: process {1 - victim} of 2: got another process gone")
    assert "--resume" in last


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_fails_ends_the_others_with_its_reason(tmp_path: Path, victim: int) -> None:
    launched = Launched(tmp_path / "run", [1, 1], each=[{"fails_at": 3 if index == victim else -1} for index in (0, 1)])
    ended = launched.end(timeout_s=120)
    assert ended.codes == [1, 1], ended.errors
    assert ended.errors[victim].splitlines()[-1] == f"error: process {victim} of 2: a recording is not what it was"
    other = ended.errors[1 - victim].splitlines()[-1]
    assert other.startswith(f"error: process {1 - victim} of 2: ended, for process {victim} of 2 failed: ")
    assert "a recording is not what it was" in other
