"""Which code this is, for the records of a run. Imports no JAX."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = "heimdall-jax"
FOLDER = Path(__file__).resolve().parent
TIMEOUT_S = 10.0


def code_revision(folder: Path = FOLDER) -> str:
    """The git commit of the code in a folder, with `-dirty` where tracked files were changed; else the version.

    Never fails: a package installed inside somebody else's checkout, and a machine without git, have a version.
    """
    try:
        _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)
        commit = _git(folder, "rev-parse", "HEAD")
        return f"{commit}-dirty" if _git(folder, "status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.SubprocessError):
        pass
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return "unknown"


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT_S)
    return done.stdout.strip()
