"""Command lines: parse, report errors in one line with their cure, and give the exit code."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import tyro

from heimdall_jax import config as configs
from heimdall_jax.errors import ConfigError, HeimdallError, explain
from heimdall_jax.flags import HELP, HELP_SETTINGS, flag, parse
from heimdall_jax.launch import Launch
from heimdall_jax.memory import collect_rarely, reuse
from heimdall_jax.progress import watched
from heimdall_jax.stopping import STOPPED, Stop

FAILED = 1


@dataclass(frozen=True)
class TrainFlags:
    """Train a model, evaluate it, export it to ONNX and record it; everything goes into one run folder.

    Settings are flags, too: --seed 1, --training.epochs 5; --help-settings lists them all.

    Example: train.py --config powder --data FOLDER --split time --out RUN
    """

    config: str = "simulation"
    """Named config (simulation, simulation_long, spectrogram, power, powder, powder_map) or a YAML file."""
    data: Annotated[str | None, flag("PATH", "config's")] = None
    """Data set's folder or file."""
    catalogue: Annotated[str | None, flag("URL")] = None
    """Approved sessions to train on: a database's URL or a folder."""
    objects: Annotated[str | None, flag("URL", "config's")] = None
    """Store of the catalogue's recordings, as s3://bucket."""
    split: Annotated[str | None, flag("NAME", "config's")] = None
    """random, time, block, block1 to block4, none or a JSON file."""
    out: Annotated[Path | None, flag("RUN", "a new one under runs/")] = None
    """Run folder."""
    seeds: Annotated[int | None, flag("COUNT")] = None
    """Make so many runs, OUT/seed-N; finished ones stay as they are."""
    resume: bool = False
    """Continue the run in --out from its last checkpoint."""
    auto_resume: bool = False
    """Begin the run in --out, or continue it: for schedulers."""
    distributed: bool = False
    """One of several processes; JAX finds the others (SLURM, TPU, MPI)."""
    coordinator_address: Annotated[str | None, flag("HOST:PORT", "found by JAX")] = None
    """Of process 0; with --num-processes and --process-id."""
    num_processes: Annotated[int | None, flag("COUNT", "found by JAX")] = None
    """Of the training, each started with the same command."""
    process_id: Annotated[int | None, flag("INDEX", "found by JAX")] = None
    """Of this one, from 0, which alone evaluates and exports."""
    sync: bool = False
    """Only deliver to MLflow what it did not take of the run in --out."""
    json: bool = False
    """Print one JSON object: run, model, version and metrics."""
    debug: bool = False
    """Run without jit so that breakpoints work, and show tracebacks."""
    help_settings: bool = False
    """List every setting with its default, and exit."""

    @property
    def launch(self) -> Launch | None:
        """How this process joins others; None where it is alone."""
        given = self.coordinator_address, self.num_processes, self.process_id
        return Launch(*given) if self.distributed or any(value is not None for value in given) else None


@dataclass(frozen=True, kw_only=True)
class TrainArguments(TrainFlags):
    """The same with every setting."""

    settings: Annotated[configs.Config, tyro.conf.arg(name=""), tyro.conf.FlagConversionOff]


@dataclass(frozen=True)
class Settings:
    """Every setting of train.py, with the defaults of --config; as YAML, a config file. Units end the names.

    Example: train.py --config powder --training.epochs 5 --data.limit 200
    """

    settings: Annotated[configs.Config, tyro.conf.arg(name=""), tyro.conf.FlagConversionOff]


@dataclass(frozen=True)
class EvaluateArguments:
    """Measure finished runs on any data set and split; several are compared on the same transmissions. Never trains.

    Example: evaluate.py RUN --report · evaluate.py RUN RUN --out FOLDER --report
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder that train.py left, or one that holds seed-0, seed-1, ..."""
    others: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="[RUN ...]")] = ()
    """Compared with the first: paired differences with intervals, spread."""
    data: Annotated[str | None, flag("PATH|URL", "the run's own")] = None
    """Data set's folder or file, or a catalogue's database."""
    objects: Annotated[str | None, flag("URL", "the run's own")] = None
    """Store of the catalogue's recordings, as s3://bucket."""
    split: Annotated[str | None, flag("NAME", "the run's own")] = None
    """random, time, block, block1 to block4, none (every row) or a JSON file."""
    out: Annotated[Path | None, flag("FOLDER", "RUN, or RUN/evaluations/NAME")] = None
    """Folder for metrics.json; of several runs for seeds.json."""
    conditions: Annotated[int | None, flag("COUNT")] = None
    """Also measure a simulated run at each clock, on so many transmissions."""
    faults: bool = False
    """Also measure a radio map run with each receiver failing in turn."""
    report: bool = False
    """Also write report.html, the run as a page; of several compare.html."""
    json: bool = False
    """Print one JSON object: metrics.json, or seeds.json of several runs."""
    debug: bool = False
    """Show tracebacks."""


def parse_train(arguments: list[str]) -> TrainArguments:
    """Two passes: `--config` (or the run to resume or to sync) gives the defaults that the other flags change.

    Raises:
        ConfigError: The config is unknown or wrong; `--objects` without a catalogue, `--data` with one, or `--sync`
            without its run.
        SystemExit: Code 2, the flags are wrong, or 0 after help was printed.
    """
    base = configs.load(_value_of(arguments, "--config") or "simulation")
    out = _value_of(arguments, "--out")
    if (
        {"--resume", "--auto-resume", "--sync"} & set(arguments)
        and out is not None
        and (saved := _saved_configs(Path(out)))
    ):
        base = configs.load(str(saved[0]))
    if HELP_SETTINGS in arguments:
        parse(Settings, HELP[:1], default=Settings(base))
    if set(HELP) & set(arguments):
        parse(TrainFlags, HELP[:1])
    parsed = parse(TrainArguments, arguments, default=TrainArguments(settings=base))
    if parsed.sync and (parsed.out is None or parsed.resume or parsed.seeds is not None):
        cure = "Give --out RUN --sync alone; --resume delivers, too."
        got = "no --out" if parsed.out is None else "--resume or --seeds"
        raise ConfigError(explain("--sync", got=got, allowed="a run folder and no training", cure=cure))
    if (parsed.auto_resume or parsed.launch) and (parsed.out is None or parsed.seeds is not None):
        what = "several processes" if parsed.launch else "--auto-resume"
        got = "no --out" if parsed.out is None else "--seeds"
        cure = "Name the run's folder, which several processes share, and make one run after the other."
        raise ConfigError(explain(what, got=got, allowed="the folder of one run", cure=cure))
    data = _short_flags(parsed)
    return dataclasses.replace(parsed, settings=dataclasses.replace(parsed.settings, data=data))


def _short_flags(parsed: TrainArguments) -> configs.DataConfig:
    """The data that short flags ask for."""
    if parsed.catalogue is not None and parsed.data is not None:
        cure = "Leave --data out: the catalogue is the data."
        raise ConfigError(explain("--data", got=repr(parsed.data), allowed="nothing with --catalogue", cure=cure))
    changes: dict[str, Any] = {"path": parsed.data, "split": parsed.split, "objects": parsed.objects}
    if parsed.catalogue is not None:
        changes |= {"source": "catalogue", "path": parsed.catalogue}
    given = {key: value for key, value in changes.items() if value is not None}
    data = dataclasses.replace(parsed.settings.data, **given)
    if parsed.objects is not None and data.source != "catalogue":
        cure = "Give the catalogue's database, --catalogue postgresql://USER@HOST/DATABASE, too."
        raise ConfigError(explain("--objects", got=repr(parsed.objects), allowed="with --catalogue", cure=cure))
    return data


def run_script(
    action: Callable[[list[str]], Any],
    *,
    after_stop: str = "run it again",
    stop: Stop | None = None,
    keep_memory: bool = True,
) -> int:
    """Run a script's action on the command line; the exit code: 0, 1 with one line, 2 usage, 130 or 143 stopped.

    Progress goes to standard error.

    Args:
        action: Takes the arguments.
        after_stop: What a user who stopped it can do then.
        stop: What the action asks whether to stop; without, signals stop it at once.
        keep_memory: Freed memory is kept from the start (`memory.reuse`).
    """
    arguments = sys.argv[1:]
    if "--debug" not in arguments:
        quieten()
    collect_rarely()
    reuse(freed=keep_memory)
    try:
        with (stop or Stop()).listening(), watched(_LateDisplay()):
            try:
                action(arguments)
            finally:
                sys.stdout.flush()
    except HeimdallError as error:
        if "--debug" in arguments:
            raise
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return STOPPED + signal.SIGPIPE
    except KeyboardInterrupt as stopped:
        print(f"stopped; {after_stop}", file=sys.stderr)
        return STOPPED + (stopped.args[0] if stopped.args else signal.SIGINT)
    return 0


class _LateDisplay:
    """A display that is made when there is something to show: rich takes longer to import than --help may."""

    def __init__(self) -> None:
        self._display: Any = None

    def tell(self, work: str, done: int = 0, total: int | None = None, unit: str = "") -> None:
        """See `progress.Watcher`."""
        if self._display is None:
            from rich.console import Console

            from heimdall_jax.display import Display

            self._display = Display(Console(stderr=True))
        self._display.tell(work, done, total, unit)

    def pause(self) -> None:
        """See `progress.Watcher`."""
        if self._display is not None:
            self._display.pause()


def quieten() -> None:
    """Keep libraries from telling in many lines what an error of the house tells in one."""
    # Orbax and MLflow log the whole trace, or every attempt.
    for name in ("absl", "mlflow.store.db.utils", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # A compiled program cut off by a kill or a full disk is compiled again.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache entry")


def leave(code: int) -> NoReturn:
    """End the process with an exit code; one that failed or was stopped without Python's teardown.

    A stop abandons what XLA is compiling, but its threads go on, and crash when the teardown takes their memory; and
    JAX's runtime would wait for other processes.
    """
    if code != 0:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _saved_configs(out: Path) -> list[Path]:
    """Of the run in a folder, or of the runs of several seeds in it, the first seed's first."""
    several = sorted(out.glob("seed-*/config.yaml"), key=lambda path: (len(path.parent.name), path.parent.name))
    return [path for path in (out / "config.yaml", *several) if path.exists()]


def _value_of(arguments: list[str], flag: str) -> str | None:
    """The value of a flag given as `--flag value` or `--flag=value`."""
    for position, argument in enumerate(arguments):
        if argument == flag and position + 1 < len(arguments):
            return arguments[position + 1]
        if argument.startswith(f"{flag}="):
            return argument.removeprefix(f"{flag}=")
    return None
