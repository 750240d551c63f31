"""Several runs: made one after the other with seeds of their own, measured as one result, and compared in pairs."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from heimdall_jax import config as configs
from heimdall_jax.config import Config
from heimdall_jax.datasets import COUNTS
from heimdall_jax.errors import ConfigError, StorageError, explain
from heimdall_jax.evaluation.comparison import compare_all, comparison_table
from heimdall_jax.evaluation.fixes import Fixes
from heimdall_jax.evaluation.spread import spread_table, spreads
from heimdall_jax.evaluation.summary import write_metrics
from heimdall_jax.export.bundle import write_atomically
from heimdall_jax.pages.compare_page import compare_page
from heimdall_jax.pipeline import evaluate, train
from heimdall_jax.run import FREE, begin, changed_settings
from heimdall_jax.run_folder import CONFIG, is_begun, is_finished, read_metrics
from heimdall_jax.stopping import Stop

SEEDS, PAGE = "seeds.json", "compare.html"
FOLDER = re.compile(r"seed-(\d+)")
OF_THE_DATA = ("source", "path", "split", "limit", "min_receivers")
"""Settings under `data` in which runs of one result are alike."""
TOLD = 3
"""Differences named in an error: worlds differ in many."""
OF_A_RUN = (*FREE, "seed", "data.path", "data.split")
"""Settings that differ without a word; a path may be written in several ways, and other data are refused."""


def train_seeds(
    config: Config,
    out: Path,
    seeds: int,
    *,
    resume: bool = False,
    console: Console | None = None,
    stop: Stop | None = None,
) -> dict[str, Any]:
    """Make the runs `out/seed-N`, N from the config's seed on; those that are finished stay as they are.

    Args:
        config: Of all of them; its seed is the first.
        out: Folder of the run folders.
        seeds: How many.
        resume: Continue those that were stopped.
        console: Where progress and tables go; standard output if None.
        stop: As for `train`.

    Returns:
        The contents of `seeds.json`.

    Raises:
        HeimdallError: One of its children, with the cure; what was finished stays.
    """
    if seeds < 1:
        raise ConfigError(explain("--seeds", got=seeds, allowed="1 or more", cure="3 tell a spread."))
    console = console or Console()
    wanted = {out / f"seed-{seed}": seed for seed in range(config.seed, config.seed + seeds)}
    own = {folder: dataclasses.replace(config, seed=seed) for folder, seed in wanted.items()}
    for folder, its in own.items():  # all of them before the first: what is refused need not wait hours to be told
        if is_begun(folder):
            begin(its, folder, resume=resume or is_finished(folder))
    results = {}
    for folder, its in own.items():
        if is_finished(folder):
            console.print(f"{folder.name}: finished before", highlight=False)
            results[folder] = read_metrics(folder)
        else:
            console.print(f"{folder.name}:", highlight=False)
            results[folder] = train(its, folder, resume=is_begun(folder), console=console, stop=stop)
    return _conclude(results, list(own.values()), out, console)


def evaluate_runs(
    runs: Sequence[Path],
    *,
    data_path: str | None = None,
    objects: str | None = None,
    split: str | None = None,
    out: Path | None = None,
    conditions: int | None = None,
    faults: bool = False,
    report: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Measure one run, or several and what they have in common.

    Args:
        runs: Run folders, or one folder that holds `seed-N`.
        data_path: As for `evaluate`.
        objects: Likewise.
        split: Likewise.
        out: Folder for the results; of several runs each has its own in it. By default each run's own, and for
            `seeds.json` the folder that holds them all.
        conditions: As for `evaluate`.
        faults: Likewise.
        report: Likewise, of each run; of several also `compare.html` beside `seeds.json`.
        console: Where progress and tables go; standard output if None.

    Returns:
        The contents of `metrics.json` of a single run, else those of `seeds.json`.

    Raises:
        ConfigError: A run is named twice, or runs were trained on other data or another split.
        DataError: They were not measured on the same rows.
        HeimdallError: As `evaluate`.
    """
    asked: dict[str, Any] = {"data_path": data_path, "objects": objects, "split": split}
    asked |= {"conditions": conditions, "faults": faults, "report": report, "console": console}
    folders = _seed_folders(runs[0]) if len(runs) == 1 else list(runs)
    if not folders:
        return evaluate(runs[0], out=out, **asked)
    parent = _common_parent(folders)
    trained = [configs.load(str(_config_of(folder))) for folder in folders]
    _refuse_other_data(folders, trained)
    results, fixes, console = {}, [], console or Console()
    names = [Path(os.path.abspath(folder)).relative_to(parent) for folder in folders]
    for folder, name in zip(folders, names, strict=True):
        console.print(f"{folder}:", highlight=False, soft_wrap=True)
        results[folder] = evaluate(folder, out=out and out / name, keep=fixes.append, **asked)
    if out is None and (data_path is not None or split is not None):
        first = next(iter(results.values()))
        out = parent / "evaluations" / f"{Path(data_path or trained[0].data.path).name}-{first['split']}"
    each = {name.as_posix(): one for name, one in zip(names, fixes, strict=True)}
    told = _conclude(results, trained, out or parent, console, each)
    if report:
        page = (out or parent) / PAGE
        write_atomically(page, compare_page(told, list(results.values()), each).encode())
        console.print(f"page    {page}", highlight=False, soft_wrap=True)
    return told


def _conclude(
    results: Mapping[Path, dict[str, Any]],
    trained: Sequence[Config],
    out: Path,
    console: Console,
    fixes: Mapping[str, Fixes] | None = None,
) -> dict[str, Any]:
    """Write `seeds.json`, and print its tables; runs are compared where there are fixes of each, by its name."""
    first = next(iter(results.values()))
    told: dict[str, Any] = {key: first[key] for key in ("dataset", "split", "n")}
    told["runs"] = [folder.name for folder in results]
    told["seeds"] = [config.seed for config in trained]
    others = {name for config in trained[1:] for name in changed_settings(asdict(trained[0]), asdict(config))}
    told["differing"] = sorted(name for name in others if not name.startswith(OF_A_RUN))
    told["metrics"] = spreads(list(results.values()))
    if fixes is not None:
        told["compared"] = compare_all(fixes)
    write_metrics(out / SEEDS, told)
    console.print(spread_table(f"{told['dataset']}, split {told['split']}, n = {told['n']}", told["metrics"]))
    if told.get("compared", {}).get("others"):
        console.print(comparison_table(told["compared"]))
    if told["differing"]:
        console.print(f"note: the runs differ by more than their seed: {', '.join(told['differing'])}", soft_wrap=True)
    console.print(f"spread  {out / SEEDS}", highlight=False, soft_wrap=True)
    return told


def _seed_number(folder: Path) -> int:
    """N of `seed-N`; -1 for other names."""
    found = FOLDER.fullmatch(folder.name)
    return int(found[1]) if found else -1


def _seed_folders(folder: Path) -> list[Path]:
    """The runs `seed-N` in a folder that is no run itself, in order of N."""
    if not folder.is_dir() or is_begun(folder):
        return []
    return sorted((each for each in folder.iterdir() if _seed_number(each) >= 0 and each.is_dir()), key=_seed_number)


def _common_parent(folders: Sequence[Path]) -> Path:
    absolute = [os.path.abspath(folder) for folder in folders]
    if len(set(absolute)) < len(absolute):
        twice = next(path for path in absolute if absolute.count(path) > 1)
        raise ConfigError(explain("runs", got=f"{Path(twice).name} twice", allowed="each once", cure="Name it once."))
    return Path(os.path.commonpath([os.path.dirname(path) for path in absolute]))


def _config_of(folder: Path) -> Path:
    if not is_begun(folder):
        cure = "Give folders that train.py left, or the one that holds seed-0, seed-1, ..."
        raise StorageError(explain(f"run {folder}", got=f"no {CONFIG}", allowed="a run folder", cure=cure))
    return folder / CONFIG


def _refuse_other_data(folders: Sequence[Path], trained: Sequence[Config]) -> None:
    """Runs of one result were trained on the same data and split."""
    first = _data_of(trained[0])
    for folder, config in zip(folders, trained, strict=True):
        its = _data_of(config)
        apart = [name for name in first | its if first.get(name) != its.get(name)]
        if apart:
            got = ", ".join(f"{name} {its.get(name)!r} and not {first.get(name)!r}" for name in apart[:TOLD])
            cure = "Evaluate them one by one."
            allowed = f"the data and split of {folders[0].name}"
            raise ConfigError(explain(f"run {folder.name}", got=got, allowed=allowed, cure=cure))


def _data_of(config: Config) -> dict[str, Any]:
    """What a run was trained and is tested on; paths as they are on this machine, however they were written."""
    told = {f"data.{name}": getattr(config.data, name) for name in OF_THE_DATA}
    if config.data.source == "simulation":
        drawn = {name: value for name, value in asdict(config.world).items() if name not in COUNTS or name == "test"}
        return told | {"data.limit": None} | {f"world.{name}": value for name, value in drawn.items()}
    split_file = Path(config.data.split)
    told["data.path"] = os.path.realpath(config.data.path)
    return told | ({"data.split": os.path.realpath(split_file)} if split_file.suffix == ".json" else {})
