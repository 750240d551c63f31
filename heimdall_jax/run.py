"""A run folder: started, resumed, and opened to use the model in it."""

from __future__ import annotations

import dataclasses
import json
import math
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from heimdall_jax import config as configs
from heimdall_jax.config import Config
from heimdall_jax.errors import ConfigError, StorageError, explain
from heimdall_jax.export.bundle import write_atomically
from heimdall_jax.models.build import build, input_names
from heimdall_jax.models.recalibration import NEUTRAL
from heimdall_jax.outside import parse_json, read_file
from heimdall_jax.revision import code_revision
from heimdall_jax.run_folder import CONFIG, MAX_NOTE_BYTES, TRACKED, TrackedNote, read_note, write_note
from heimdall_jax.tracking.trackers import Tracker
from heimdall_jax.training.checkpoints import Checkpoints
from heimdall_jax.training.step import Trainer, TrainState
from heimdall_jax.trees import build as build_tree
from heimdall_jax.types import Domain

CHECKPOINTS = "checkpoints"
RECALIBRATION = "recalibration.json"
FREE = ("tracking.", "export.", "data.cache", "training.checkpoint_seconds", "training.prefetch")
"""Settings that a resumed run may change, for they change no result: what is logged, kept and exported, and where."""


@dataclass(frozen=True, eq=False)
class Run:
    """A trained model: the best checkpoint of a run folder.

    Attributes:
        folder: Of the run.
        config: It was trained with.
        domain: What it knows of its data.
        trainer: Predicts with `state`.
        state: Of the best step.
        step: The best step.
        doubt_m: A fix of a larger 68 % radius is in doubt; infinite where no rows have said so.
    """

    folder: Path
    config: Config
    domain: Domain
    trainer: Trainer
    state: TrainState
    step: int
    doubt_m: float = math.inf

    @property
    def model(self) -> nnx.Module:
        """The network, in evaluation mode."""
        return self.trainer.model(self.state)


def begin(config: Config, folder: Path, *, resume: bool) -> None:
    """Make a run folder, or check that the run in it can be resumed with this config.

    Raises:
        ConfigError: The folder holds a run already, or the run to resume has other settings.
        StorageError: The folder cannot be made, or there is no run to resume.
    """
    saved = folder / CONFIG
    if resume:
        if not saved.exists():
            cure = "Give --out with the run's folder, or leave --resume out."
            raise StorageError(explain(f"resume {folder}", got=f"no {CONFIG}", allowed="a run folder", cure=cure))
        changed = changed_settings(asdict(configs.load(str(saved))), asdict(config))
        differing = [name for name in changed if not name.startswith(FREE)]
        if differing:
            cure = "Leave those settings out, or start a new run."
            raise ConfigError(explain("resume", got=f"changed {differing}", allowed="the run's own config", cure=cure))
        return
    if saved.exists():
        cure = "Give --resume to continue it, or another --out."
        raise ConfigError(explain(f"run folder {folder}", got="a run already", allowed="a new folder", cure=cure))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        cure = "Remove what is there, or choose another --out."
        raise StorageError(explain(f"run folder {folder}", got=error, allowed="a folder", cure=cure)) from error


def start_tracking(tracker: Tracker, config: Config, folder: Path) -> None:
    """Begin the tracked run, or continue the one this folder began; from here on the folder holds a run.

    A process that is killed meanwhile leaves a run to resume, one that fails the folder as it was.

    Raises:
        StorageError: The folder cannot be written, or the tracker cannot start.
    """
    is_new = not (folder / CONFIG).exists()
    try:
        if is_new:
            _save_config(config, folder)
        known = read_note(folder)
        note = TrackedNote(known.run_id, known.token or uuid.uuid4().hex, code_revision())
        write_note(folder, note)
        run_id = tracker.start(folder.name, asdict(config), note.run_id or None, note.token)
        write_note(folder, dataclasses.replace(note, run_id=run_id))
    except BaseException:
        if is_new:
            (folder / TRACKED).unlink(missing_ok=True)
            (folder / CONFIG).unlink(missing_ok=True)
        raise


def _save_config(config: Config, folder: Path) -> None:
    """Whole or not at all: half a config.yaml would be read as one with other settings."""
    part = folder / f"{CONFIG}.part"
    try:
        configs.save(config, part)
        part.replace(folder / CONFIG)
    finally:
        part.unlink(missing_ok=True)


def tracked_id(folder: Path) -> str | None:
    """Id of the tracked run that this folder began; None if there is none yet, or it was not tracked.

    Raises:
        StorageError: The folder's note of it cannot be read.
    """
    return read_note(folder).run_id or None


def make_model(config: Config, domain: Domain) -> nnx.Module:
    """A config's model, with its initial values."""
    rngs = nnx.Rngs(config.seed)
    return build(config.model, domain, rngs, n_mels=config.features.n_mels, radio_map=config.radio_map)


def make_trainer(
    config: Config, model: nnx.Module, total_steps: int, *, devices: Sequence[Any] | None = None
) -> Trainer:
    """The jitted functions of a config's model, on all devices of all processes where none are given."""
    return Trainer(
        model,
        config.training,
        total_steps=total_steps,
        seed=config.seed,
        inputs=input_names(config.model),
        devices=devices,
    )


def record(config: Config, domain: Domain) -> dict[str, Any]:
    """What goes beside every checkpoint: all that `open_run` needs to rebuild the model."""
    return {"config": asdict(config), "domain": asdict(domain)}


def open_run(folder: Path, *, at_most: int | None = None) -> Run:
    """The best model of a run, whether its training ended or goes on; or its newest state up to the step `at_most`.

    It is whole on each of this process's devices.

    Raises:
        StorageError: It is no run folder, or no whole checkpoint is there.
    """
    if not (folder / CHECKPOINTS).is_dir():
        cure = "Give the folder that train.py left; if it was stopped early, --resume it."
        raise StorageError(explain(f"run {folder}", got="no checkpoints", allowed="a run folder", cure=cure))
    with Checkpoints(folder / CHECKPOINTS, read_only=True) as checkpoints:
        step = checkpoints.best() if at_most is None else checkpoints.newest(at_most)
        if step is None:
            cure = "Let the training reach its first evaluation, or resume it."
            raise StorageError(
                explain(f"run {folder}", got="no evaluated checkpoint", allowed="at least one", cure=cure)
            )
        saved = checkpoints.record(step)
        config, domain = _recorded(saved, folder)
        whole = dataclasses.replace(config.training, sharding="replicated")
        model = make_model(config, domain)
        trainer = make_trainer(
            dataclasses.replace(config, training=whole), model, total_steps=1, devices=jax.local_devices()
        )
        coefficients, doubt_m = _recalibration(folder, step)
        state = trainer.recalibrated(checkpoints.state(step, trainer.start()), coefficients)
        return Run(folder, config, domain, trainer, state, step, doubt_m)


def _recorded(saved: dict[str, Any], folder: Path) -> tuple[Config, Domain]:
    """What `record` kept beside a checkpoint."""
    try:
        return configs.from_tree(saved["config"]), _domain(saved["domain"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        got, cure = f"a record that says {error!r}", "Train the run again."
        allowed = "the config and the domain of a model"
        raise StorageError(explain(f"checkpoint of {folder}", got=got, allowed=allowed, cure=cure)) from error


def save_recalibration(run: Run, coefficients: Sequence[float], doubt_m: float) -> None:
    """Keep what `open_run` then corrects the best checkpoint's regions with, and the radius that it doubts fixes above.

    Raises:
        StorageError: The folder cannot be written.
    """
    text = json.dumps({"step": run.step, "coefficients": list(coefficients), "doubt_m": doubt_m})
    write_atomically(run.folder / RECALIBRATION, text.encode())


def _recalibration(folder: Path, step: int) -> tuple[Sequence[float], float]:
    """Coefficients and radius of a step's model; neutral where they were made of another step, or not yet."""
    path = folder / RECALIBRATION
    if not path.exists():
        return NEUTRAL, math.inf
    try:
        kept = parse_json(read_file(path, MAX_NOTE_BYTES))
        values, doubt_m = [float(value) for value in kept["coefficients"]], float(kept["doubt_m"])
        if len(values) != len(NEUTRAL) or not all(map(math.isfinite, (*values, doubt_m))):
            raise ValueError(values)
        return (values, doubt_m) if kept["step"] == step else (NEUTRAL, math.inf)
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        cure = "Resume the run with --resume, which makes it again."
        allowed = f"a step, {len(NEUTRAL)} numbers and a radius"
        raise StorageError(explain(str(path), got=repr(error), allowed=allowed, cure=cure)) from error


def _domain(tree: dict[str, Any]) -> Domain:
    held = build_tree(Domain, tree, "domain.")
    sizes = {"origin_deg": 2, "position_mean_m": 2, "position_box_m": 4}
    for name, size in sizes.items():
        if len(getattr(held, name)) != size:
            raise ValueError(f"{name} {getattr(held, name)}")
    return held


def changed_settings(old: dict[str, Any], new: dict[str, Any], where: str = "") -> list[str]:
    """Dotted names of the leaves in which two config trees differ."""
    names = []
    for key, value in old.items():
        if isinstance(value, dict):
            names += changed_settings(value, new[key], f"{where}{key}.")
        elif value != new[key]:
            names.append(f"{where}{key}")
    return names
