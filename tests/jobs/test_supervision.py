"""The worker's side: what stand-ins of the process say, how they die, and that none waits for a reader."""

import os
import time

import pytest

from heimdall_jax.errors import ConfigError, StorageError
from heimdall_jax.jobs import supervision
from heimdall_jax.jobs.requests import ExportRequest, TrainRequest
from heimdall_jax.jobs.supervision import LOG, ProcessError, StoppedError, work
from heimdall_jax.run_lock import LOCK, BusyRunError, locked


@pytest.fixture
def process(monkeypatch, tmp_path):
    """Runs a program in place of the process; gives its result and the progress told."""

    def run(program, tell=None, **environment):
        monkeypatch.setattr(supervision, "PROGRAM", ("-c", f"import json, sys, os, time\n{program}"))
        told = []
        result = work("export", ExportRequest(str(tmp_path)), environment=environment, tell=tell or told.append)
        return result, told

    return run


def test_the_request_the_environment_and_the_answer_travel(process, tmp_path):
    program = "print(json.dumps({'result': [json.loads(input()), os.environ['HEIMDALL_X']]}))"
    result, told = process(program, HEIMDALL_X="1")
    assert result == [{"task": "export", "arguments": {"run": str(tmp_path)}}, "1"]
    assert told == []


def test_a_slow_store_of_results_holds_no_process_up(process, tmp_path):
    """A megabyte of progress, more than a pipe holds, while the first is still being told; the last is told, too."""
    program = f"""
for step in range(10000):
    print(json.dumps({{"progress": {{"step": step, "filler": "x" * 100}}}}))
sys.stdout.flush()
open({str(tmp_path / "done")!r}, "w").close()
print(json.dumps({{"result": 1}}))
"""
    told = []

    def tell(progress):
        deadline = time.monotonic() + 30
        while not told and not (tmp_path / "done").exists():
            assert time.monotonic() < deadline, "the process waits for its reader"
            time.sleep(0.01)
        if not told:
            time.sleep(0.3)  # all that it says is taken, and it has ended
        told.append(progress["step"])

    assert process(program, tell)[0] == 1
    assert told[-1] == 9999


@pytest.mark.parametrize(
    ("said", "kind", "message"),
    [
        ({"error": ["ConfigError", "a: got b"]}, ConfigError, "a: got b"),
        ({"error": ["MissingObjectError", "a: got b"]}, Exception, "a: got b"),
        ({"busy": "run a: got process 3"}, BusyRunError, "run a: got process 3"),
        ({"stopped": 15}, StoppedError, "signal 15"),
        ({"fault": ["KeyError", "'x'"]}, ProcessError, "KeyError: 'x'"),
    ],
)
def test_what_it_says_is_raised(process, said, kind, message):
    with pytest.raises(kind) as caught:
        process(f"print({__import__('json').dumps(said)!r})")
    assert message in str(caught.value)


def test_a_silent_death_is_told_with_the_end_of_its_log(process, tmp_path):
    program = "print('a trace', file=sys.stderr, flush=True)\nprint('{\"resu', end='', flush=True)\nos.abort()"
    with pytest.raises(ProcessError, match=rf"died with code -6 and said nothing; {tmp_path / LOG} ends: a trace"):
        process(program)


def test_a_process_that_does_not_read_is_told_by_its_death(process):
    with pytest.raises(ProcessError, match="code 3"):
        process("sys.stdin.close(); os._exit(3)")


def test_who_leaves_lets_the_process_stop(process, tmp_path, monkeypatch):
    program = f"""
print(json.dumps({{"progress": {{"step": 1}}}}), flush=True)
input()
sys.stdin.read()
open({str(tmp_path / "stopped")!r}, "w").close()
"""

    def leave(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process(program, leave)
    assert (tmp_path / "stopped").exists()
    monkeypatch.setattr(supervision, "END_SECONDS", 0.2)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        process("print(json.dumps({'progress': {'step': 1}}), flush=True); time.sleep(60)", leave)
    assert time.monotonic() - began < 30


def test_a_folder_that_is_not_there_is_made_for_a_training_only(tmp_path, monkeypatch):
    monkeypatch.setattr(supervision, "PROGRAM", ("-c", "print('{\"result\": 5}')"))
    given = {"environment": {}, "tell": print}
    with pytest.raises(StorageError, match="no such folder"):
        work("export", ExportRequest(str(tmp_path / "none")), **given)
    assert work("train", TrainRequest(str(tmp_path / "new" / "run"), {}), **given) == 5
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"run .*file"):
        work("train", TrainRequest(str(tmp_path / "file"), {}), **given)
    assert sorted(os.listdir(tmp_path / "new" / "run")) == [LOG, LOCK]
    with locked(tmp_path / "new" / "run"), pytest.raises(BusyRunError):
        work("train", TrainRequest(str(tmp_path / "new" / "run"), {}), **given)
