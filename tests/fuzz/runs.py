"""What lies in run folders, caches and prepared sets as targets; an input is a file's name and its bytes."""

from __future__ import annotations

import atexit
import functools
import io
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from heimdall_jax.history import HISTORY, HistoryWriter, read_history
from heimdall_jax.run_folder import METRICS, TRACKED, read_metrics, read_note
from heimdall_jax.tracking.spool import SPOOL, Row, Spool
from tests.fuzz.harness import Reader, Target
from tests.fuzz.mutators import spoil_bytes, spoil_json, spoil_text
from tests.fuzz.tables import file_in

NOTE = b'{"run_id": "abc", "token": "t", "revision": "r"}'
NUMBERS = b'{"n": 3, "error_m": {"mean": 1.5, "median": 1.0}, "coverage": {"0.5": 0.4}, "nll_nats_per_fix": 12.0}'
SAMPLES = "export_samples.npz"


def spool_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder) / SPOOL)
        spool.append([Row(1, "loss", 0.5, 1_700_000_000_000), Row(2, "loss", float("nan"), 1_700_000_000_001)])
        return [spool.path.read_bytes()]


def history_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / HISTORY
        history = HistoryWriter(path, begun=1, total_steps=9, steps_per_epoch=3, samples_per_step=4)
        history.costs(1e9, 1e11)
        history.log(1, {"validation/loss": 2.5, "validation/error_m": 700.0})
        step = {"train/loss": 2.0, "train/error_m": 600.0, "train/gradient_norm": 0.5, "train/learning_rate": 1e-3}
        for number in (1, 2, 3):
            history.log(number, step)
        history.log(3, {"train/rolled_back_to": 2.0})
        history.flush()
        return [path.read_bytes()]


@functools.cache
def whole(write: Callable[[Path], object]) -> Path:
    """A folder that `write` filled, the same one for all: files in it may name each other by chance."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write(folder)
    return folder


def folder_seeds(write: Callable[[Path], object]) -> Callable[[], list[bytes]]:
    """Each file of a folder that `write` fills."""

    def seeds() -> list[bytes]:
        folder = whole(write)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return [str(path.relative_to(folder)).encode() + b"\n" + path.read_bytes() for path in files]

    return seeds


def open_folder(write: Callable[[Path], object], read: Callable[[Path], object]) -> Callable[[Path], Reader]:
    """Read a folder in which one file is the input's."""

    def opened(folder: Path) -> Reader:
        root = folder / "spoilt"
        shutil.copytree(whole(write), root)

        def reader(data: bytes) -> object:
            name, _, content = data.partition(b"\n")
            path = root / name.decode()
            kept = path.read_bytes()
            path.write_bytes(content)
            try:
                return read(root)
            finally:
                path.write_bytes(kept)

        return reader

    return opened


def spoil_file(data: bytes, rng: Random) -> bytes:
    name, _, content = data.partition(b"\n")
    readable = content[:1] in (b"{", b"[") or name.endswith((b".json", b"_METADATA", b".zarray"))
    return name + b"\n" + (spoil_json if readable and rng.random() < 0.8 else spoil_bytes)(content, rng)


def write_checkpoint(folder: Path) -> None:
    import jax.numpy as jnp

    from heimdall_jax.training.checkpoints import Checkpoints

    with Checkpoints(folder / "checkpoints") as checkpoints:
        state = {"weights": jnp.ones((8, 8), jnp.float32), "step": jnp.asarray(1, jnp.int32)}
        checkpoints.save(1, state, {"config": {"seed": 1}, "domain": {"origin_deg": [45.0, 7.0]}}, 0.5)


def read_checkpoint(folder: Path) -> object:
    import jax.numpy as jnp

    from heimdall_jax.training.checkpoints import Checkpoints

    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        step = checkpoints.best()
        if step is None:
            return None
        like = {"weights": jnp.zeros((8, 8), jnp.float32), "step": jnp.asarray(0, jnp.int32)}
        return checkpoints.record(step), checkpoints.state(step, like)


def write_set(folder: Path) -> None:
    from heimdall_jax.sources.powder import read_powder
    from heimdall_jax.sources.prepared import prepare
    from heimdall_jax.sources.subset import Subset
    from tests.powder_like import write_powder_like

    with tempfile.TemporaryDirectory() as raw:
        source = read_powder(write_powder_like(Path(raw), rows=12))
    about = {"receivers": list(source.receivers), "origin_deg": list(source.origin_deg)}
    sides: Any = {"train": Subset(source, range(8)), "test": Subset(source, range(8, 12))}
    prepare(folder, sides, about=about, name="powder_rss")


def read_set(folder: Path) -> object:
    from heimdall_jax.sources.prepared import open_prepared

    source = open_prepared(folder)
    return source.__getitems__(range(len(source)))


def npz_seeds() -> list[bytes]:
    stream, packed = io.BytesIO(), io.BytesIO()
    np.savez(stream, allow_pickle=False, rss_db=np.ones((2, 3), np.float32), names=np.array(["a", "b"]))
    np.savez_compressed(packed, allow_pickle=False, rss_db=np.ones((2, 3), np.float32))
    return [stream.getvalue(), packed.getvalue()]


def read_npz(path: Path) -> object:
    from heimdall_jax.export.release import read_samples

    return read_samples(path.parent)


def read_cache(path: Path) -> object:
    from heimdall_jax.training.kept import Kept

    kept = Kept(path.parent, ["key"])
    shutil.copyfile(path, kept._table)
    return kept.load()


def spoil_npz(data: bytes, rng: Random) -> bytes:
    return spoil_bytes(data, rng)


open_note = file_in(TRACKED, lambda path: read_note(path.parent))
open_metrics = file_in(METRICS, lambda path: read_metrics(path.parent))
open_set, open_checkpoint = open_folder(write_set, read_set), open_folder(write_checkpoint, read_checkpoint)
TARGETS = (
    Target("note", lambda: [NOTE], open_note, spoil_json, 20_000, 300),
    Target("metrics", lambda: [NUMBERS], open_metrics, spoil_json, 20_000, 300),
    Target("spool", spool_seeds, file_in(SPOOL, lambda path: Spool(path).read()), spoil_text, 20_000, 300),
    Target("history", history_seeds, file_in(HISTORY, read_history), spoil_text, 20_000, 300),
    Target("samples_npz", npz_seeds, file_in(SAMPLES, read_npz), spoil_npz, 20_000, 200),
    Target("cache_npz", npz_seeds, file_in("a.npz", read_cache), spoil_npz, 20_000, 200),
    Target("prepared", folder_seeds(write_set), open_set, spoil_file, 5_000, 20),
    Target("checkpoint", folder_seeds(write_checkpoint), open_checkpoint, spoil_file, 500, 10),
)
