"""Checkpoints: the latest and the best are kept; the only door to Orbax."""

from __future__ import annotations

import errno
import logging
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from heimdall_jax.errors import StorageError, explain

RETIRED = ".retired"
"""Where steps that are no longer kept go, whole: a kill while one is deleted must not leave half of it as a step."""
SHARED_BYTES = 2**20
"""Devices that all hold an array share its writing from this much each; else Orbax cuts every bias into pieces."""


class Checkpoints:
    """Steps of a run, each a state (a pytree of arrays) and a record (JSON).

    Of several processes each writes the parts of arrays that it holds, and all of them call all methods alike.

    Args:
        folder: Where they are; made if absent, unless read-only.
        read_only: Open beside a running training without touching its files; of several processes, by this one alone.
        anchor_every: Also keep the newest two whose step is a multiple of this, and the best up to each: `go_back`
            then finds all as it was.

    Raises:
        StorageError: The folder cannot be used, or (from `save`, `wait`) the disk refuses; earlier steps stay whole.
    """

    def __init__(self, folder: Path, *, read_only: bool = False, anchor_every: int | None = None) -> None:
        kept: list[Any] = [policies.LatestN(1), policies.BestN(get_metric_fn=_loss, reverse=True, n=1)]
        if anchor_every is not None:
            kept.append(_Anchors(anchor_every))
        options = (
            ocp.CheckpointManagerOptions(
                read_only=True, best_fn=_loss, best_mode="min", multiprocessing_options=_this_one_alone()
            )
            if read_only
            else ocp.CheckpointManagerOptions(
                best_fn=_loss,
                best_mode="min",
                preservation_policy=policies.AnyPreservationPolicy(kept),
                cleanup_tmp_directories=True,
                todelete_subdir=RETIRED,
            )
        )
        self.folder, self._read_only = folder.resolve(), read_only
        with _storage(self.folder):
            if read_only and not self.folder.exists():
                raise FileNotFoundError(errno.ENOENT, "no such folder", str(self.folder))
            if self.folder.exists() and not self.folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "a file is in its place", str(self.folder))
            self._manager = _Manager(self.folder, options=options)
        self._delete_retired()

    def save(self, step: int, state: Any, record: dict[str, Any], validation_loss: float | None) -> None:
        """Start writing a step; `validation_loss` None marks one that cannot be the best."""
        loss = math.inf if validation_loss is None else validation_loss
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(record))
        with _storage(self.folder):
            self._manager.wait_until_finished()
            self._delete_retired()
            self._manager.save(step, args=items, metrics={"validation_loss": loss})

    def wait(self) -> None:
        """Block until what was saved is on disk."""
        with _storage(self.folder):
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def latest(self) -> int | None:
        """Newest whole step, or None."""
        with _storage(self.folder):
            return self._manager.latest_step()

    def newest(self, at_most: int) -> int | None:
        """Newest whole step up to this one, or None."""
        return max((step for step in self._manager.all_steps() if step <= at_most), default=None)

    def go_back(self, step: int) -> None:
        """Remove all steps after this one, the newest first: a kill meanwhile leaves a run that comes to it again."""
        self.wait()
        with _storage(self.folder):
            for later in sorted((one for one in self._manager.all_steps() if one > step), reverse=True):
                self._manager.delete(later)
        self._delete_retired()

    def best(self) -> int | None:
        """Whole step with the lowest validation loss, or None."""
        with _storage(self.folder):
            return self._manager.best_step()

    def record(self, step: int) -> dict[str, Any]:
        """The JSON record of a step.

        Raises:
            StorageError: It is absent or damaged.
        """
        with _storage(self.folder, step):
            return dict(self._manager.restore(step, args=ocp.args.Composite(record=ocp.args.JsonRestore()))["record"])

    def state(self, step: int, like: Any) -> Any:
        """The state of a step, placed as `like`, a state of the same structure (arrays or their shapes).

        Raises:
            StorageError: It is absent, damaged, or of another structure.
        """
        template = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        with _storage(self.folder, step):
            items = ocp.args.Composite(state=ocp.args.StandardRestore(template))
            return self._manager.restore(step, args=items)["state"]

    def close(self) -> None:
        """Finish writing and release the folder."""
        with _storage(self.folder):
            self._manager.close()
        self._delete_retired()

    def _delete_retired(self) -> None:
        """Only while nothing is being written: Orbax moves a step there once the one that replaces it is whole."""
        if not self._read_only and jax.process_index() == 0:
            shutil.rmtree(self.folder / RETIRED, ignore_errors=True)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except StorageError:
            if error is None:
                raise


class _Manager(ocp.CheckpointManager):
    """Saves when it is told to: the loop knows of stops, and JAX's preemption service would take SIGTERM from it."""

    def reached_preemption(self, step: int) -> bool:
        return False


class _Anchors:
    """Preserves the newest two steps that are multiples of `every`, and the best step up to each of them."""

    def __init__(self, every: int) -> None:
        self._every = every

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        anchors = [info.step for info in checkpoints if info.step % self._every == 0][-2:]
        before = [[info for info in checkpoints if info.step <= anchor] for anchor in anchors]
        best = [min(infos, key=lambda info: _loss(info.metrics)).step for infos in before]
        return [info.step in {*anchors, *best} for info in checkpoints]


class _storage:
    """Turns what Orbax raises for a bad disk or file into a `StorageError` with its cure; `step` is one being read."""

    def __init__(self, folder: Path, step: int | None = None) -> None:
        self._folder, self._step = folder, step

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, StorageError):
            return
        text = " ".join(str(error).split()) or type(error).__name__
        what, allowed = f"checkpoints in {self._folder}", "a writable folder of whole steps"
        cure = "Check the folder; --resume uses the last whole step."
        if "No space left" in text:
            text, cure = os.strerror(errno.ENOSPC), "Free space and run again with --resume."
        elif self._step is not None:
            what, allowed = f"checkpoint {self._folder / str(self._step)}", "a whole step of this model"
            cure = "Remove that folder; --resume then goes on from the other step kept, or from the start."
        raise StorageError(explain(what, got=text[:300], allowed=allowed, cure=cure)) from error


def _share_large_arrays() -> None:
    """Make Orbax heed `SHARED_BYTES`. It warns of every handler that takes another's place, at each user's import."""
    log = logging.getLogger("absl")
    before, log.disabled = log.disabled, True
    handler = ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=SHARED_BYTES)
    ocp.type_handlers.register_type_handler(jax.Array, handler, override=True)
    log.disabled = before


_share_large_arrays()


def _this_one_alone() -> ocp.options.MultiprocessingOptions:
    """For what one of several processes does: nobody is waited for."""
    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    own = jax.process_index()
    return ocp.options.MultiprocessingOptions(own, active_processes={own}, barrier_sync_key_prefix=f"process-{own}")


def _loss(metrics: dict[str, float]) -> float:
    return metrics["validation_loss"]
