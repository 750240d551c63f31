"""The process's own side, by its two pipes: what it answers, how it fails, and that it stops with its worker."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from heimdall_jax.run_lock import locked
from tests.laws import ROOT

STAND_IN = """
import sys, types, dataclasses, time
from heimdall_jax.command import leave
from heimdall_jax.jobs import process

@dataclasses.dataclass
class Published:
    version: str

def publish_run(folder, url, *, name=None, version=None):
    print("a library's chatter", flush=True)
    {body}

module = types.ModuleType("heimdall_jax.publishing")
module.publish_run = publish_run
sys.modules[module.__name__] = module
leave(process.main())
"""


def start(program: list[str]) -> subprocess.Popen[str]:
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen([sys.executable, *program], text=True, cwd=ROOT, **pipes)


def answer(task: str, arguments: dict[str, Any], program: list[str] | None = None) -> tuple[int, list[Any], str]:
    """Exit code, messages and log; its standard input stays open, as a worker leaves it."""
    process = start(program or ["-m", "heimdall_jax.jobs.process"])
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(json.dumps({"task": task, "arguments": arguments}) + "\n")
    process.stdin.flush()
    messages = [json.loads(line) for line in process.stdout]
    log = process.stderr.read()
    code = process.wait()
    process.communicate()
    return code, messages, log


def publish_by(body: str) -> list[str]:
    return ["-c", STAND_IN.format(body=body)]


def test_a_result_and_nothing_else_that_is_printed(tmp_path: Path) -> None:
    arguments = {"run": str(tmp_path), "store": str(tmp_path / "store"), "name": "net", "version": "3"}
    code, messages, log = answer("publish", arguments, publish_by("return Published(version + url[-5:])"))
    assert (code, messages) == (0, [{"result": {"version": "3store"}}])
    assert log == "a library's chatter\n"


def test_an_error_of_the_house_is_a_message_and_a_fault_has_its_trace_in_the_log(tmp_path: Path) -> None:
    code, messages, log = answer("train", {"out": str(tmp_path), "config": "powdr"})
    assert code == 1
    assert messages[0]["error"][0] == "ConfigError"
    assert "Did you mean 'powder'" in messages[0]["error"][1]
    assert log == ""
    arguments = {"run": str(tmp_path), "store": "memory://", "name": "net"}
    code, messages, log = answer("publish", arguments, publish_by(r"raise KeyError('a\nb')"))
    assert (code, messages) == (1, [{"fault": ["KeyError", r"'a\nb'"]}])
    assert "Traceback" in log


def test_a_busy_run_is_told(tmp_path: Path) -> None:
    with locked(tmp_path):
        code, messages, _ = answer("train", {"out": str(tmp_path)})
    assert code == 0
    assert "at work" in messages[0]["busy"]


def test_it_stops_with_its_worker_and_when_told(tmp_path: Path) -> None:
    request = {"task": "publish", "arguments": {"run": str(tmp_path), "store": "memory://", "name": "net"}}
    for told in ("closed", "signal"):
        # In naps, as a signal just before a long sleep begins does not end it.
        process = start(publish_by("[time.sleep(0.01) for _ in range(6_000)]"))
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        if (first := process.stderr.readline()) != "a library's chatter\n":
            process.kill()
            pytest.fail(first + process.communicate()[1])
        if told == "signal":
            process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        said, _ = process.communicate()
        assert (process.returncode, json.loads(said)) == (143, {"stopped": signal.SIGTERM})
        assert time.monotonic() - began < 10


def test_a_second_signal_does_not_silence_it(tmp_path: Path) -> None:
    """One before each message: that of the result is a stop, that of the stop comes when it no longer listens."""
    signalled = """import signal
say = process.Outlet.say
process.Outlet.say = lambda *told: (signal.raise_signal(signal.SIGTERM), say(*told))
leave("""
    _, program = publish_by("return Published('1')")
    arguments = {"run": str(tmp_path), "store": "memory://", "name": "net"}
    code, messages, _ = answer("publish", arguments, ["-c", program.replace("leave(", signalled)])
    assert (code, messages) == (143, [{"stopped": signal.SIGTERM}])


def test_a_worker_that_dies_before_it_asks_leaves_nothing() -> None:
    process = start(["-m", "heimdall_jax.jobs.process"])
    said, _ = process.communicate("")
    assert (process.returncode, json.loads(said)) == (143, {"stopped": signal.SIGTERM})


def test_progress_into_a_closed_pipe_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    program = """
import os
from heimdall_jax.jobs.process import Outlet
reader, writer = os.pipe()
os.close(reader)
outlet = Outlet(os.fdopen(writer, "w"))
for step in range(3):
    outlet.progress({"work": str(step), "step": step, "total": 9})
outlet.say({"result": 1})
print("on")
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (found.returncode, found.stdout) == (0, "on\n"), found.stderr


def test_progress_is_told_now_and_then_and_at_its_end() -> None:
    program = """
import sys
from heimdall_jax.jobs import process
process.TELL_SECONDS = 1000
outlet = process.Outlet(sys.stdout)
for work in ("reading", "training"):
    for step in range(1, 6):
        outlet.progress({"work": work, "step": step, "total": 5})
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    told = [json.loads(line)["progress"] for line in found.stdout.splitlines()]
    assert [(each["work"], each["step"]) for each in told] == [
        ("reading", 1),
        ("reading", 5),
        ("training", 1),
        ("training", 5),
    ]
