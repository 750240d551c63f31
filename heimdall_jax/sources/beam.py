"""Apache Beam's runners by name. The only door to Beam; TFDS writes through it."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import shlex
from collections.abc import Iterator
from typing import Any

from heimdall_jax import errors
from heimdall_jax.errors import ConfigError, HeimdallError, StorageError, explain

DIRECT = "DirectRunner"
_END = r"(?: \[while running|\n|$)"
_OURS = re.compile(rf"heimdall_jax\.[\w.]+\.(\w+Error): (.*?){_END}")
"""Name and message of an error, in the last line of its trace; the store's own kinds are `StorageError`s."""
_DISK = re.compile(rf"OSError: (.*?){_END}|(write\(\) failed.*?){_END}")


def beam_settings(runner: str, options: str = "") -> dict[str, Any]:
    """What TFDS's `DownloadConfig` takes of a runner (`direct`, `FlinkRunner`, …) and its command-line options.

    Raises:
        ConfigError: Beam is not installed, or it has no such runner or takes no such options.
    """
    told = logging.root.manager.disable
    # It warns of Google's libraries that are not there and are not needed.
    logging.disable(logging.WARNING)
    try:
        from apache_beam.options.pipeline_options import PipelineOptions  # pyright: ignore[reportMissingImports]
        from apache_beam.runners.runner import create_runner  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        got, cure = f"{runner}, but {error}", "Install Beam: pip install 'heimdall-jax[beam]'."
        raise ConfigError(explain("--runner", got=got, allowed="one of Apache Beam's", cure=cure)) from error
    finally:
        logging.disable(told)
    said = io.StringIO()
    try:
        settings = PipelineOptions(shlex.split(options))
        # Beam reads options when it needs them, and ends the process where it cannot.
        with contextlib.redirect_stderr(said):
            settings.get_all_options()
        made = create_runner(DIRECT if runner == "direct" else runner)
    except (ValueError, ImportError, AttributeError, SystemExit) as error:
        got, allowed = f"{runner} {options}".strip(), "direct, FlinkRunner, SparkRunner, DataflowRunner or another"
        cure = f"Beam says: {_last_line(said.getvalue() or str(error))}"
        raise ConfigError(explain("--runner", got=got, allowed=allowed, cure=cure)) from error
    return {"beam_runner": made, "beam_options": settings}


@contextlib.contextmanager
def workers_errors(runner: str | None) -> Iterator[None]:
    """Turn what a worker said into the error it was: runners give back its text. Does nothing without a runner.

    Raises:
        HeimdallError: As the worker raised it.
        StorageError: The runner failed by itself, or a worker could not write.
    """
    if runner is None:
        yield
        return
    log = logging.getLogger("apache_beam")
    level = log.level
    # It logs the trace of what is raised here.
    log.setLevel(logging.CRITICAL)
    try:
        yield
    except Exception as error:
        raise _meant(error, runner) from error
    finally:
        log.setLevel(level)


def _meant(error: Exception, runner: str) -> HeimdallError:
    """The error of ours that a runner's error stands for."""
    whole = f"{type(error).__module__}.{type(error).__name__}: {error}"
    if told := _OURS.findall(whole):
        name, message = told[-1]
        return getattr(errors, name, StorageError)(message)
    full = _DISK.search(whole)
    got = next(filter(None, full.groups())) if full else _last_line(str(error) or type(error).__name__)
    cure = "Check the folder and the space on its disk." if full else "Check the runner and its options."
    return StorageError(explain(f"Beam's {runner}", got=got, allowed="a run to the end", cure=cure))


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "nothing")
