"""The scripts' command lines in this process, and what a refusal must look like."""

import re
import runpy
import sys
from collections.abc import Callable
from typing import Any

import pytest

from heimdall_jax.command import run_script
from tests.laws import ROOT

QUIETENED = ("absl", "mlflow.store.db.utils", "urllib3.connectionpool")
"""Loggers whose level `run_script` changes."""


def main_of(script: str) -> Callable[[list[str]], Any]:
    return runpy.run_path(str(ROOT / "scripts" / f"{script}.py"))["main"]


class CommandLine:
    """Runs a script's `main` as the script does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def run(self, script: str, *flags: object) -> tuple[int, str]:
        """Exit code and standard error."""
        self._monkeypatch.setattr(sys, "argv", [f"{script}.py", *map(str, flags)])
        self._monkeypatch.setenv("CI", "true")
        self._monkeypatch.setattr("heimdall_jax.display.CI_PERIOD_S", float("inf"))  # progress says nothing
        self._capsys.readouterr()
        code = run_script(main_of(script))
        return code, self._capsys.readouterr().err

    def said(self) -> str:
        """Standard error since it was last asked for."""
        return self._capsys.readouterr().err

    def refuses(self, script: str, *flags: object, match: str) -> None:
        """Exit code 1, and one line that matches."""
        code, err = self.run(script, *flags)
        assert code == 1, err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert re.search(match, err), err
