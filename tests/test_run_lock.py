"""One training in a folder at a time: by the kernel's lock, and by a note where another machine's are not seen."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from heimdall_jax import run_lock
from heimdall_jax.run_lock import LOCK, BusyRunError, locked
from tests.laws import ROOT

HOLD = """
import sys
from pathlib import Path
from heimdall_jax.run_lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


def hold(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def test_another_process_has_it_until_it_ends(tmp_path):
    process = hold(tmp_path)
    with (
        pytest.raises(BusyRunError, match=rf"run {tmp_path}: got process {process.pid} on .* at work"),
        locked(tmp_path),
    ):
        pass
    process.communicate(b"\n")
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert (tmp_path / LOCK).read_text() == ""


def test_a_killed_process_loses_it_at_once(tmp_path):
    process = hold(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with locked(tmp_path):
        pass


def test_a_note_of_another_machine_counts_while_it_is_touched(tmp_path, monkeypatch):
    note = tmp_path / LOCK
    note.write_text(json.dumps({"host": "elsewhere", "pid": 7}))
    with pytest.raises(BusyRunError, match="process 7 on elsewhere"), locked(tmp_path):
        pass
    assert json.loads(note.read_text())["host"] == "elsewhere"
    past = time.time() - run_lock.STALE_SECONDS - 1
    os.utime(note, (past, past))
    with locked(tmp_path):
        pass


def test_the_note_is_touched(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "BEAT_SECONDS", 0.05)
    with locked(tmp_path):
        os.utime(tmp_path / LOCK, (0, 0))
        time.sleep(0.5)
        assert (tmp_path / LOCK).stat().st_mtime > 0


def test_a_damaged_note_is_no_holder(tmp_path):
    (tmp_path / LOCK).write_text("{")
    with locked(tmp_path):
        pass
