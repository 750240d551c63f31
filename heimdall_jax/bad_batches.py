"""Batches of steps that went wrong, kept in the run folder: whose they are, what was not finite, and the step again."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from heimdall_jax.errors import StorageError, explain
from heimdall_jax.export.bundle import write_atomically
from heimdall_jax.outside import parse_json, parse_npz, read_file
from heimdall_jax.run import open_run
from heimdall_jax.training.dataset import HeimdallDataset
from heimdall_jax.training.spikes import BadStep
from heimdall_jax.training.step import StepReport, Trainer
from heimdall_jax.types import LABELS, Sample

FOLDER = "bad_batches"
MAX_BYTES = 1 << 30
"""Of a batch, as a file and as arrays."""
MOST = 8
"""Batches kept in a run folder, the newest."""
TOLD = 12
"""Sessions that a message names."""
MAY_BE_INFINITE = "clock_sigma_s"
"""Infinite where a receiver's clock is unknown."""


@dataclass(frozen=True, eq=False)
class BadBatches:
    """Keeps batches in `RUN/bad_batches`, each as `NUMBER.npz`, what the step got, and `NUMBER.json` about it.

    Of several processes each keeps the rows that it has, as `NUMBER-PART`.

    Args:
        run: Folder of the run.
        train: The data set that indices in a batch are of.
        trainer: Knows what a step gets, and its parameters.
        part: Index of this process among several; None where it is alone.
    """

    run: Path
    train: HeimdallDataset
    trainer: Trainer
    part: int | None = None

    def keep(self, bad: BadStep) -> str:
        """Write a batch; says the first of its sessions and where it is, to go on after `from samples …`.

        Raises:
            StorageError: The folder cannot be written.
        """
        part = "" if self.part is None else f"-{self.part}"
        path = self.run / FOLDER / f"{bad.number}{part}.npz"
        got = {key: bad.batch[key] for key in (*self.trainer.inputs, *LABELS)}
        stream = io.BytesIO()
        np.savez(stream, allow_pickle=False, **got)
        write_atomically(path, stream.getvalue())
        sessions = self._sessions(got["index"])
        names = leaf_names(self.trainer)
        about = {
            "step": bad.step,
            "batch": bad.number,
            "why": bad.why,
            "loss": bad.loss if math.isfinite(bad.loss) else str(bad.loss),
            "gradient_norm": bad.gradient_norm if math.isfinite(bad.gradient_norm) else str(bad.gradient_norm),
            "inputs_not_finite": not_finite(got, sessions),
            "gradients_not_finite": [name for name, good in zip(names, bad.finite_leaves, strict=True) if not good],
            "sessions": sessions,
        }
        write_atomically(path.with_suffix(".json"), json.dumps(about, indent=1).encode())
        _keep_newest(path.parent)
        return f" of sessions {_first(sessions)}; kept in {path}"

    def _sessions(self, index_B: np.ndarray) -> list[str]:
        """Name of each sample's session, in order; empty for padding, the number where sessions are endless."""
        names = self.train.session_ids
        return [("" if i < 0 else names[i] if i < len(names) else str(i)) for i in index_B.tolist()]


def not_finite(batch: Sample, sessions: Sequence[str]) -> dict[str, list[str]]:
    """Sessions with NaN or Inf, by the name of what a step got."""
    found = {}
    for key, values in batch.items():
        if np.issubdtype(values.dtype, np.floating):
            wrong = np.isnan(values) if key == MAY_BE_INFINITE else ~np.isfinite(values)
            rows = np.flatnonzero(wrong.reshape(len(values), -1).any(axis=1)).tolist()
            found[key] = [sessions[row] for row in rows]
    return {key: names for key, names in found.items() if names}


def leaf_names(trainer: Trainer) -> list[str]:
    """Of each parameter, in the order of the tree."""
    paths = jax.tree_util.tree_leaves_with_path(jax.eval_shape(trainer.start).params)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]


@dataclass(frozen=True)
class Replayed:
    """A step made again.

    Attributes:
        checkpoint: Step of the state it was made from: the newest kept before.
        loss: Nats per fix.
        gradient_norm: Of all parameters.
        finite: Whether loss and gradient are.
        gradients_not_finite: Names of parameters.
    """

    checkpoint: int
    loss: float
    gradient_norm: float
    finite: bool
    gradients_not_finite: tuple[str, ...]


def load(run: str | Path, number: int) -> tuple[Sample, dict[str, Any]]:
    """A batch as its step got it, and what is known about it.

    Raises:
        StorageError: It is not there, or damaged.
    """
    path = Path(run) / FOLDER / f"{number}.npz"
    try:
        batch = parse_npz(read_file(path, MAX_BYTES), MAX_BYTES)
        return batch, parse_json(read_file(path.with_suffix(".json"), MAX_BYTES))
    except (OSError, ValueError) as error:
        there = sorted(file.stem for file in path.parent.glob("*.npz"))
        cure = "Give a number that is there."
        raise StorageError(explain(f"bad batch {path}", got=error, allowed=there or "none here", cure=cure)) from error


def replay(run: str | Path, number: int, batch: Sample | None = None) -> Replayed:
    """Make a kept batch's step again, or that of a changed `batch`, from the newest checkpoint up to it.

    Nothing of the run changes. Devices must divide the batch.

    Raises:
        StorageError: Batch or checkpoint is not there, or damaged.
    """
    kept, about = load(Path(run), number)
    opened = open_run(Path(run), at_most=about["step"])
    state = opened.state._replace(step=opened.state.step + (about["step"] - opened.step))  # the step's own dropout
    report: StepReport = opened.trainer.step(state, opened.trainer.place(kept if batch is None else batch))[1]
    wrong = zip(leaf_names(opened.trainer), report.finite_leaves.tolist(), strict=True)
    return Replayed(
        checkpoint=opened.step,
        loss=report.metrics.compute()["loss"],
        gradient_norm=float(report.gradient_norm),
        finite=bool(report.finite),
        gradients_not_finite=tuple(name for name, good in wrong if not good),
    )


def _first(sessions: Sequence[str]) -> str:
    """The first few names in words."""
    names = [name for name in sessions if name]
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return ", ".join(names[:TOLD]) + more


def _keep_newest(folder: Path) -> None:
    """Remove all but the newest batches."""
    files = sorted(folder.glob("*.npz"), key=lambda file: file.stat().st_mtime_ns)
    for file in files[:-MOST]:
        file.with_suffix(".json").unlink(missing_ok=True)
        file.unlink(missing_ok=True)
