"""Checkpoints keep the newest and the best, and what was saved is what comes back, whatever training does meanwhile."""

import os
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from heimdall_jax.errors import StorageError
from heimdall_jax.training.checkpoints import RETIRED, Checkpoints


def state_of(value: float) -> dict[str, jax.Array]:
    return {"weights": jnp.full((64, 64), value, jnp.float32), "step": jnp.asarray(int(value), jnp.int32)}


def test_keeps_the_newest_even_when_it_is_the_worst(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "c") as checkpoints:
        for step, loss in enumerate([0.5, 0.2, 0.8, None, 0.9]):
            checkpoints.save(step, state_of(step), {"note": step}, loss)
        checkpoints.wait()
        assert checkpoints.latest() == 4
        assert checkpoints.best() == 1
        assert sorted(int(p.name) for p in (tmp_path / "c").iterdir() if p.name.isdigit()) == [1, 4]
        assert checkpoints.record(1) == {"note": 1}
        np.testing.assert_array_equal(checkpoints.state(1, state_of(0))["weights"], np.full((64, 64), 1.0))


def test_a_kill_while_an_old_step_is_deleted_leaves_no_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, **options: bool) -> None:
        for file in [file for file in path.rglob("*") if file.is_file()][::2]:
            file.unlink()

    with monkeypatch.context() as patch, Checkpoints(tmp_path / "c") as checkpoints:
        patch.setattr("shutil.rmtree", killed)
        for step, loss in enumerate([0.5, 0.2, 0.8, 0.9]):
            checkpoints.save(step, state_of(step), {}, loss)
        checkpoints.wait()
        checkpoints._delete_retired()
    names = [path.name for path in (tmp_path / "c").iterdir() if path.is_dir()]
    assert sorted(names) == [RETIRED, "1", "3"]
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert not (tmp_path / "c" / RETIRED).exists()
        assert (checkpoints.best(), checkpoints.latest()) == (1, 3)


def test_donating_the_saved_state_does_not_change_what_is_written(tmp_path: Path) -> None:
    step = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + 1, state), donate_argnums=0)
    with Checkpoints(tmp_path / "c") as checkpoints:
        state = {"weights": jnp.zeros((1024, 1024), jnp.float32)}
        checkpoints.save(0, state, {}, 1.0)
        for _ in range(20):
            state = step(state)
        checkpoints.wait()
        assert float(checkpoints.state(0, state)["weights"].max()) == 0.0


def test_read_only_sees_whole_steps_and_refuses_an_absent_folder(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such folder"):
        Checkpoints(tmp_path / "absent", read_only=True)
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(3, state_of(3), {}, 0.1)
        checkpoints.wait()
        with Checkpoints(tmp_path / "c", read_only=True) as reader:
            assert reader.best() == 3
            assert int(reader.state(3, state_of(0))["step"]) == 3


def test_a_file_where_the_folder_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("not a folder")
    with pytest.raises(StorageError, match="checkpoints in"):
        Checkpoints(tmp_path / "c")


def test_a_damaged_step_is_refused_by_name(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(3, state_of(3), {}, 0.1)
        checkpoints.wait()
        for file in (tmp_path / "c" / "3" / "state").rglob("*"):
            if file.is_file():
                file.write_bytes(b"")
        with pytest.raises(StorageError, match=r"c/3: got .*Remove that folder; --resume then"):
            checkpoints.state(3, state_of(0))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_named_and_leaves_the_last_step_whole(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("this sandbox does not allow mounts")
    try:
        noise = np.random.default_rng(0).normal(size=(512, 700)).astype(np.float32)
        with Checkpoints(disk / "c") as checkpoints:
            small = {"weights": jnp.asarray(noise[:64])}
            checkpoints.save(0, small, {}, 1.0)
            checkpoints.wait()
            checkpoints.save(1, {"weights": jnp.asarray(np.tile(noise, (2, 1)))}, {}, 0.5)
            with pytest.raises(StorageError, match=r"Free space and run again with --resume"):
                checkpoints.wait()
        with Checkpoints(disk / "c", read_only=True) as reader:
            assert reader.latest() == 0
            np.testing.assert_array_equal(reader.state(0, small)["weights"], noise[:64])
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_what_every_device_holds_is_written_whole(tmp_path: Path) -> None:
    """Cut into pieces for the devices, each shape of a small array would be a program to compile at every start."""
    everywhere = NamedSharding(Mesh(jax.devices(), "d"), PartitionSpec())
    state = {f"bias_{size}": jax.device_put(np.arange(size, dtype=np.float32), everywhere) for size in (64, 128)}
    programs: list[str] = []

    def listen(event: str, seconds: float, **facts: object) -> None:
        if "jaxpr_to_mlir" in event:
            programs.append(event)

    with Checkpoints(tmp_path / "c") as checkpoints:
        jax.monitoring.register_event_duration_secs_listener(listen)
        checkpoints.save(0, state, {}, 1.0)
        checkpoints.wait()
        jax.monitoring.unregister_event_duration_listener(listen)
        kept = checkpoints.state(0, state)
    assert not programs
    jax.tree.map(np.testing.assert_array_equal, kept, state)
