"""Flags of the scripts: help that fits a screen, and a wrong command line said in one line with its cure."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from heimdall_jax.errors import explain

Kind = TypeVar("Kind")

HELP = ("-h", "--help")
HELP_SETTINGS = "--help-settings"
COMPLETION = "--tyro-print-completion"
"""Followed by bash or zsh, as the only flags: print what completes all others."""
WRONG_USAGE = 2
"""Exit code."""
FRAME, CORNERS, RULES = "│ ", "╭╰", "─-"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""With which the parser decorates what it says, on some terminals."""


def flag(metavar: str, default: str = "none") -> Any:
    """How help shows a flag that may be left out: what it takes, and what holds without it."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=f"(default: {default})")


def parse(kind: type[Kind], arguments: Sequence[str], **options: Any) -> Kind:
    """What the arguments say, as the dataclass that names the flags.

    Args:
        kind: The dataclass.
        arguments: Of the command line.
        options: `default` and others of `tyro.cli`.

    Raises:
        SystemExit: 0 after help or completions were printed; 2 after one line on standard error, where they are wrong.
    """
    said, program = io.StringIO(), Path(sys.argv[0]).name
    try:
        with contextlib.redirect_stderr(said):
            found = tyro.cli(
                kind, prog=program, args=list(arguments), config=(tyro.conf.FlagCreatePairsOff,), **options
            )
    except SystemExit as end:
        if end.code == WRONG_USAGE:
            print(f"error: {_in_one_line(said.getvalue(), program, kind)}", file=sys.stderr)
        raise
    sys.stderr.write(said.getvalue())
    return found


def _in_one_line(framed: str, program: str, kind: type) -> str:
    """The parser's framed words in the house's order."""
    parts: list[list[str]] = [[]]
    framed = COLOURS.sub("", framed)
    for line in framed.splitlines():
        inner = line.strip(FRAME)
        if inner and not inner.strip(RULES):
            parts.append([])
        elif inner and line[:1] not in CORNERS:
            parts[-1].append(inner)
    if framed[:1] not in CORNERS:  # the title has a rule of its own where nothing is framed
        del parts[0]
    got = " ".join(parts[0]).rstrip(".")
    near, about = (_first_flag(parts, title) for title in ("Perhaps you meant", "Argument helptext"))
    settings = hasattr(kind, "help_settings") and re.search(r"--[a-z-]+[.]", got)
    more = f"{program} {HELP_SETTINGS if settings else HELP[1]}"
    cure = f"Did you mean {near}?" if near else f"See {more}."
    return explain("command line", got=got[:1].lower() + got[1:], allowed=about or f"what {more} lists", cure=cure)


def _first_flag(parts: list[list[str]], title: str) -> str:
    """The flag that follows a title; empty where there is none."""
    for part in parts:
        if part and part[0].startswith(title):
            return next((line for line in part[1:] if line.startswith("-")), "")
    return ""
