"""Bad input at the command line: each has its own one-line error or is counted, and what was there before stays whole.

Here: an empty data folder, a CSV without a needed column, a split that leaves no training rows, a full disk while
saving, a file where the runs folder should be, an unknown config key. IQ and stations: `test_bad_recordings.py`.
"""

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from heimdall_jax import config as configs
from heimdall_jax.run import CHECKPOINTS, open_run
from heimdall_jax.training.checkpoints import Checkpoints
from tests.command_line import CommandLine, main_of
from tests.powder_like import write_powder_like
from tests.small_runs import small_config


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds `powder`, `powder.yaml` and `runs/good`, a finished run on it."""
    home = tmp_path_factory.mktemp("home")
    config = small_config(write_powder_like(home / "powder"))
    configs.save(config, home / "powder.yaml")
    main_of("train")(["--config", str(home / "powder.yaml"), "--out", str(home / "runs" / "good")])
    return home


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def change(name: str, *replacements: tuple[str, str]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        text = (folder / name).read_text()
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        (folder / name).write_text(text)

    return spoil


def silence(folder: Path) -> None:
    """No receiver measures anything."""
    header, *rows = (folder / "single_tx.csv").read_text().splitlines()
    silent = [",".join([cells[0], *["-101"] * 6, *cells[7:]]) for cells in (row.split(",") for row in rows)]
    (folder / "single_tx.csv").write_text("\n".join([header, *silent]) + "\n")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (empty, "powder: got a folder without recordings; allowed: single_tx.csv"),
        (change("single_tx.csv", ("tx_x_coord", "tx_x_cord")), "no column 'tx_x_coord'; .*Rename column 'tx_x_cord'"),
        (change("single_tx.csv", ("fixed-3,", "")), "got no column 'fixed-3'; .*location_coordinates"),
        (
            change("single_tx.csv", ("2022-04-25 12:00:30,-", "2022-04-25 12:00:30,x")),
            "row 3, column 'fixed-0': got 'x",
        ),
        (change("location_coordinates.json", ("(40.765, -111.845)", "(-111.845, 40.765)")), "look swapped"),
        (silence, r"no usable row \(160 heard by fewer than 3 receivers\); .*Lower data.min_receivers"),
    ],
    ids=["empty folder", "no truth column", "no receiver column", "no number", "swapped place", "nothing heard"],
)
def test_bad_data_is_refused_and_loses_no_run(home: Path, command_line: CommandLine, spoil: Any, message: str) -> None:
    good, new = home / "runs" / "good", home / "runs" / "new"
    before = contents(good)
    spoil(home / "powder")
    try:
        command_line.refuses("train", "--config", home / "powder.yaml", "--out", new, match=message)
        command_line.refuses("train", "--out", good, "--resume", match=message)
        command_line.refuses("evaluate", good, match=message)
    finally:
        write_powder_like(home / "powder")
    assert contents(good) == before
    assert not (new / "config.yaml").exists()  # the same command can be given again


def test_a_split_that_leaves_no_training_rows_is_refused(home: Path, tmp_path: Path, command_line: CommandLine) -> None:
    rows = (home / "powder" / "single_tx.csv").read_text().splitlines()[1:]
    (tmp_path / "all.json").write_text(json.dumps([row.split(",")[0] for row in rows]))
    (tmp_path / "none.json").write_text('["1999-01-01 00:00:00"]')
    flags = ("--config", home / "powder.yaml", "--out", tmp_path / "runs" / "a", "--split")
    command_line.refuses(
        "train", *flags, tmp_path / "all.json", match="all 160 rows in the test; allowed: training rows"
    )
    command_line.refuses("train", *flags, tmp_path / "none.json", match="of which the data holds none")
    command_line.refuses("train", *flags, "tme", match="Did you mean 'time'?")
    good = home / "runs" / "good"
    before = contents(good)
    command_line.refuses("train", "--out", good, "--resume", "--split", "none", match=r"changed \['data.split'\]")
    assert contents(good) == before


def test_a_file_where_a_folder_should_be_is_refused_and_kept(
    home: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    (tmp_path / "runs").write_text("a file")
    start = ("train", "--config", home / "powder.yaml", "--out")
    inside, there = tmp_path / "runs" / "a", tmp_path / "runs"
    for flags in ((), ("--tracking.enabled", "True")):
        command_line.refuses(*start, inside, *flags, match="run folder .*Not a directory.*choose another --out")
        command_line.refuses(*start, there, *flags, match="run folder .*File exists")
    command_line.refuses(
        "evaluate", home / "runs" / "good", "--out", inside, match="metrics.json: got .*Not a directory"
    )
    assert there.read_text() == "a file"
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / CHECKPOINTS).write_text("a file")
    command_line.refuses(*start, tmp_path / "new", match="a file is in its place")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {epoch: 5}", r"config key: got training\.epoch; .*Did you mean training\.epochs\?"),
        ("trainin: {epochs: 5}", r"config key: got trainin; .*Did you mean training\?"),
        ("training: {epochs: five}", r"training\.epochs: got 'five'; allowed: int"),
        ("training: {epochs: 0}", r"training\.epochs: got 0; allowed: above 0"),
        ("training: [", "plain YAML"),
    ],
)
def test_an_unknown_key_or_value_of_a_config_is_refused(
    home: Path, tmp_path: Path, command_line: CommandLine, text: str, message: str
) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    command_line.refuses("train", "--config", tmp_path / "mine.yaml", "--out", tmp_path / "a", match=message)
    assert not (tmp_path / "a").exists()
    own = home / "runs" / "good" / "config.yaml"
    before = own.read_text()
    own.write_text(text)
    try:
        command_line.refuses("train", "--out", own.parent, "--resume", match=message)
    finally:
        own.write_text(before)


def test_damage_to_a_run_is_named_with_what_to_remove(home: Path, tmp_path: Path, command_line: CommandLine) -> None:
    def copy() -> Path:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        subprocess.run(["cp", "-r", str(home / "runs" / "good"), str(folder)], check=True)
        return folder

    noted = copy()
    (noted / "tracked.json").write_text("{")
    command_line.refuses("train", "--out", noted, "--resume", match=r"tracked\.json: got .*Remove it")
    damaged = copy()
    for file in (damaged / CHECKPOINTS).rglob("*"):
        if file.is_file() and "state" in file.parts:
            file.write_bytes(b"")
    message = rf"checkpoint {damaged}/checkpoints/\d+: got .*Remove that folder"
    command_line.refuses("train", "--out", damaged, "--resume", match=message)
    command_line.refuses("evaluate", tmp_path / "nothing", match="run .*nothing: got no checkpoints")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Eight megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], check=False).returncode
    ):
        pytest.skip("mounting a small disk needs root and a sandbox that allows it")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(folder: Path) -> Path:
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError:
            return folder / "filler"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Error writing persistent compilation cache entry")
def test_a_run_stopped_by_a_full_disk_is_resumed_to_the_same_end(
    home: Path, small_disk: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, save = small_disk / "runs" / "a", Checkpoints.save
    saved: list[int] = []

    def fill_at_the_second(self: Checkpoints, step: int, *rest: Any) -> None:
        saved.append(step)
        if len(saved) == 2:
            self.wait()
            fill(small_disk)
        save(self, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", fill_at_the_second)
        message = r"checkpoints in .*got No space left on device; .*Free space and run again with --resume"
        command_line.refuses("train", "--config", home / "powder.yaml", "--out", out, match=message)
    assert open_run(out).step == saved[0] == 0
    command_line.refuses("train", "--out", out, "--resume", match="No space left on device")  # still full
    (small_disk / "filler").unlink()
    assert command_line.run("train", "--out", out, "--resume") == (0, "")
    ours, theirs = open_run(out), open_run(home / "runs" / "good")
    assert ours.step == theirs.step > 0
    for one, other in zip(jax.tree.leaves(ours.state), jax.tree.leaves(theirs.state), strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
