"""Exit codes are those of the guide's table; most are tested where they arise, a reader that left is here."""

import re
import signal
import subprocess
import sys

from heimdall_jax.command import FAILED
from heimdall_jax.flags import HELP_SETTINGS, WRONG_USAGE
from heimdall_jax.locate.command import NOT_LOCATED
from heimdall_jax.stopping import LOST, STOPPED
from tests.laws import ROOT

GONE = STOPPED + signal.SIGPIPE


def test_the_table_holds_every_code():
    guide = (ROOT / "docs" / "TRAINING.md").read_text(encoding="utf-8")
    table = guide.split("\n## Exit codes\n")[1].split("\n## ")[0]
    told = [int(code) for code in re.findall(r"^\| (\d+) \| \S", table, re.MULTILINE)]
    stopped = (STOPPED + signal.SIGINT, GONE, STOPPED + signal.SIGTERM)
    assert told == [0, FAILED, WRONG_USAGE, NOT_LOCATED, LOST, *stopped]


def test_a_reader_that_has_enough_ends_a_script_without_a_word():
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "train.py"), HELP_SETTINGS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), said) == (GONE, b"")
