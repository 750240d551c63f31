"""Help fits a screen and shows defaults, units and one example; shells complete the scripts' flags."""

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from heimdall_jax.config import Config
from heimdall_jax.flags import COMPLETION, HELP_SETTINGS
from tests.laws import ROOT

SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
COLUMNS, LINES = 100, 40
UNITS = re.compile(r"second|metre|kilomet|hertz|Hz|dB|degree|MHz", re.IGNORECASE)


def said(script: Path, *flags: str) -> str:
    """Standard output, as wide as a terminal of `COLUMNS`."""
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "PYTHONIOENCODING": "utf-8"}
    found = subprocess.run(
        [sys.executable, str(script), *flags], capture_output=True, text=True, check=True, env=environment
    )
    assert found.stderr == ""
    return found.stdout


def options(text: str) -> list[str]:
    """What help says of each flag, in one line."""
    found: list[str] = []
    for line in text.splitlines():
        if line.startswith("│ -"):
            found.append("")
        if line.startswith("│") and found:
            found[-1] += f" {line.strip('│ ')}"
    return [flag.strip() for flag in found]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_help_fits_a_screen_and_shows_defaults_units_and_an_example(script):
    text = said(script, "--help")
    assert sum(max(1, math.ceil(len(line) / COLUMNS)) for line in text.splitlines()) <= LINES
    assert len(re.findall(rf"Examples?: {script.name} ", text)) == 1
    flags = options(text)
    assert len(flags) >= 4
    rest = [flag for flag in flags if not flag.startswith("-h, ")]
    assert [flag for flag in rest if "(default:" not in flag and "(required)" not in flag] == []
    assert [flag for flag in rest if re.match(r"\S+ FLOAT", flag) and not UNITS.search(flag)] == []


def test_every_setting_is_listed_with_the_config_s_defaults():
    text = said(ROOT / "scripts" / "train.py", HELP_SETTINGS, "--config", "powder")
    told = [re.match(r"--(\S+) .*\(default: (.*)\)", flag) for flag in options(text)]
    found = {flag[1]: flag[2] for flag in told if flag is not None}
    fields = [f"{one}.{two}" for one, tree in vars(Config()).items() if one != "seed" for two in vars(tree)]
    assert found.keys() == {name.replace("_", "-") for name in ["seed", *fields]}
    assert (found["training.epochs"], found["data.source"]) == ("250", "powder")


@pytest.mark.parametrize(
    ("script", "begun", "wanted"),
    [
        ("train", "--training.ep", {"--training.epochs"}),
        ("train", "--res", {"--resume"}),
        ("validate_export", "--pub", {"--publish"}),
        ("prepare_data", "--runner", {"--runner", "--runner-options"}),
    ],
)
def test_bash_completes_flags_of_a_script_that_is_called_by_its_path(script, begun, wanted, tmp_path):
    path = ROOT / "scripts" / f"{script}.py"
    (tmp_path / "completion").write_text(said(path, COMPLETION, "bash"))
    program = f"""
        source {tmp_path}/completion
        COMP_WORDS=({path} {begun}); COMP_CWORD=1
        $(complete -p {script}.py | sed -E 's/.*-F ([^ ]+).*/\\1/')
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    found = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert {line.strip() for line in found.stdout.splitlines()} == wanted


def test_zsh_is_given_its_own_file():
    assert said(ROOT / "scripts" / "train.py", COMPLETION, "zsh").startswith("#compdef train.py\n")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_can_be_called_by_its_path(script):
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/usr/bin/env python3\n")
