"""The harness tells what a reader does wrong: other errors, unclear ones, greed, sloth, and death."""

import subprocess
import sys
import time
from random import Random

import pytest

from heimdall_jax.errors import DataError, explain
from tests.fuzz import harness
from tests.fuzz.harness import Tally, Target, examine, problem, run, spoilt
from tests.fuzz.mutators import spoil_bytes, spoil_json, spoil_npy, spoil_riff, spoil_text
from tests.fuzz.targets import TARGETS


def refuse(data):
    raise DataError(explain("a", got=data, allowed="b", cure="C."))


def fail(data):
    raise KeyError("a")


def mumble(data):
    raise DataError("a\nb")


@pytest.mark.parametrize(
    ("reader", "wrong"),
    [
        (len, ""),
        (refuse, ""),
        (fail, "KeyError in test_harness.py fail"),
        (mumble, "unclear message of DataError in test_harness.py mumble"),
    ],
)
def test_what_is_wrong_is_told(reader, wrong):
    assert problem(reader, b"\x1b[2J\n" * 3000)[0] == wrong


def test_greed_and_sloth_are_findings(monkeypatch):
    tally = Tally()
    monkeypatch.setattr(harness, "MOST_SECONDS", 0.001)
    examine(lambda data: time.sleep(0.01), b"slow", tally)
    monkeypatch.setattr(harness, "MOST_SECONDS", 60.0)
    monkeypatch.setattr(harness, "BASELINE", [-(1 << 40)])
    examine(len, b"large", tally)
    assert tally.findings == {"hang": b"slow", "memory": b"large"}
    assert tally.executions == 2


def test_memory_beyond_the_limit_is_refused_by_the_system():
    code = "from tests.fuzz.harness import limit_memory; limit_memory(); bytes(400 << 20); bytes(600 << 20)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.stderr.strip().endswith("MemoryError")


@pytest.mark.parametrize("spoil", [spoil_bytes, spoil_text, spoil_json, spoil_riff, spoil_npy])
@pytest.mark.parametrize("data", [b"\0\1\2\3", b'{"a": [1, {"b": null}]}', b"RIFF\x0c\0\0\0WAVEdata\0\0\0\0"])
def test_inputs_are_the_same_again_and_differ(spoil, data):
    ones, others = ([spoil(data, Random(seed)) for seed in range(40)] for _ in range(2))
    assert ones == others
    assert len(set(ones)) > 10


def test_a_runs_inputs_depend_on_its_seed_alone():
    target = TARGETS["wav_name"]
    made = [[spoilt(target, target.seeds(), seed, number) for number in range(20)] for seed in (0, 0, 1)]
    assert made[0] == made[1] != made[2]


def test_a_seed_that_is_refused_ends_the_run():
    with pytest.raises(DataError):
        run(Target("a", lambda: [b"x"], lambda folder: refuse, spoil_bytes, 1, 1), executions=1)
