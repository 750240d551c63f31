"""A prepared set of a catalogue is whole at any moment, and what cannot be prepared is said."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import catalogues
import pytest
from growing import assert_holds, files, grow, sides

from heimdall_jax.errors import ConfigError, DataError, StorageError
from heimdall_jax.sources import approved, approved_before, approved_records
from heimdall_jax.sources.approved import prepare_approved
from heimdall_jax.sources.catalogue import embedded, open_catalogue
from heimdall_jax.sources.catalogue_sql import create_catalogue
from heimdall_jax.sources.prepared import open_prepared, prepare

pytestmark = pytest.mark.usefixtures("known_sides")


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("place", ["records", "metadata", "split", "older"])
def test_a_set_is_whole_wherever_it_is_interrupted(catalogue, tmp_path, monkeypatch, place):
    out = tmp_path / "set"
    prepare_approved(catalogue, out)
    before = sides(out)
    for index in (8, 9, 10):
        grow(catalogue, index)

    def interrupted(*arguments, **options):
        raise Interrupted

    with monkeypatch.context() as patch:
        if place == "records":
            patch.setattr(approved_records.Work, "_kept", interrupted)
        elif place == "metadata":
            from heimdall_jax.sources import builders

            patch.setattr(builders.ApprovedSessions, "_metadata", interrupted)
        elif place == "split":
            patch.setattr(approved, "write_split", interrupted)
        else:
            patch.setattr(approved.shutil, "rmtree", interrupted)
        with pytest.raises(Interrupted):
            prepare_approved(catalogue, out)
    held = sides(out)
    assert held == before if place != "older" else len(held) == 11
    trained_on = {name for name, side in held.items() if side != "test"}
    file = out / "train_test_splits" / "random_split" / "random_test.json"
    named = set(json.loads(file.read_text()))
    assert {name for name, side in held.items() if side == "test"} <= named
    assert not trained_on & named
    assert prepare_approved(catalogue, out).folder.parent == out / "approved_sessions" / "random"
    assert len(list((out / "approved_sessions" / "random").iterdir())) == 1
    assert not list(out.rglob("incomplete.*"))
    assert_holds(out, catalogue)


def test_a_kill_leaves_the_set_whole(catalogue, tmp_path):
    """SIGKILL while a record is written; the next run goes on from the set before, and cleans up."""
    out = tmp_path / "set"
    prepare_approved(catalogue, out)
    before = files(out)
    grow(catalogue, 8)
    code = """
import pathlib, sys, time
from heimdall_jax.sources import approved_records
from heimdall_jax.sources.approved import prepare_approved
encode = approved_records.Work._kept
def slow(self, origin):
    pathlib.Path(sys.argv[3]).touch()
    time.sleep(60)
approved_records.Work._kept = slow
prepare_approved(sys.argv[1], sys.argv[2])
"""
    sign = tmp_path / "sign"
    process = subprocess.Popen([sys.executable, "-c", code, str(catalogue), str(out), str(sign)])
    deadline = time.monotonic() + 60
    while not sign.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sign.exists()
    with pytest.raises(StorageError, match=r"another process that writes it; allowed: one at a time"):
        prepare_approved(catalogue, out)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(out.rglob("incomplete.*"))
    assert len(open_prepared(out)) == 8
    assert {name: data for name, data in files(out).items() if name in before and "split" not in name} == {
        name: data for name, data in before.items() if "split" not in name
    }
    assert prepare_approved(catalogue, out).kept == 8
    assert not list(out.rglob("incomplete.*"))
    assert_holds(out, catalogue)


def test_of_two_versions_the_newest_is_read(catalogue, tmp_path):
    """What a kill between the two last steps leaves; 10 is newer than 9."""
    out = tmp_path / "set"
    folder = prepare_approved(catalogue, out).folder
    os.rename(folder, folder.with_name("1.2.9"))
    os.rename(prepare_approved(catalogue, tmp_path / "other").folder, folder.with_name("1.2.10"))
    assert approved_before.read_before(out, "random", 0.15).folder.name == "1.2.10"
    assert_holds(out, catalogue)
    prepare_approved(catalogue, out)
    assert [path.name for path in folder.parent.iterdir()] == ["1.2.10"]


def test_sets_that_do_not_fit(catalogue, tmp_path):
    out = tmp_path / "set"
    prepare_approved(catalogue, out)
    with pytest.raises(ConfigError, match=r"got approved_sessions/random/1\.2\.0; allowed: nothing, or .*/time"):
        prepare_approved(catalogue, out, "time")
    with pytest.raises(ConfigError, match=r"validation_fraction: got 0\.3; allowed: 0\.15, with which"):
        prepare_approved(catalogue, out, validation_fraction=0.3)
    other = tmp_path / "other"
    source = open_catalogue(catalogue)
    about = {"receivers": list(source.receivers), "origin_deg": list(source.origin_deg)}
    prepare(other, {"test": source}, about=about, name="simulated_network")
    with pytest.raises(ConfigError, match=r"got simulated_network/1\.2\.0.*Choose another folder"):
        prepare_approved(catalogue, other)
    before = files(out)
    (out / "approved_sessions" / "random" / "1.2.0" / "metadata.json").write_text("{}")
    with pytest.raises(DataError, match=r"prepared set .*remove what is there"):
        prepare_approved(catalogue, out)
    assert set(files(out)) == set(before)


def test_catalogues_that_cannot_be_read(catalogue, tmp_path):
    with pytest.raises(StorageError, match=r"catalogue sqlite:.*absent"):
        prepare_approved(tmp_path / "absent", tmp_path / "set")
    empty = tmp_path / "empty"
    create_catalogue(embedded(empty)[0])
    with pytest.raises(DataError, match="catalogue: got no"):
        prepare_approved(empty, tmp_path / "set")
    prepare_approved(catalogue, tmp_path / "set")
    catalogues.execute(embedded(catalogue)[0], "update recording_sessions set approval_status = 'rejected'")
    with pytest.raises(DataError, match="no usable session"):
        prepare_approved(catalogue, tmp_path / "set")
    assert len(open_prepared(tmp_path / "set")) == 8


def test_a_side_without_sessions(catalogue, tmp_path, monkeypatch):
    for side, other in (("test", "train"), ("train", "test")):
        monkeypatch.setattr(approved.Rule, "sides", lambda self, rows, other=other: [other] * len(rows))
        with pytest.raises(DataError, match=rf"split random: got none of 8 sessions in {side}"):
            prepare_approved(catalogue, tmp_path / "set")
    monkeypatch.setattr(approved.Rule, "sides", lambda self, rows: ["train"] * len(rows))
    prepare_approved(catalogue, tmp_path / "set", "none")
    assert len(open_prepared(tmp_path / "set", "train")) == 8
    assert not (tmp_path / "set" / "train_test_splits").exists()


def test_a_full_disk(catalogue, tmp_path, monkeypatch):
    out = tmp_path / "set"
    prepare_approved(catalogue, out)
    grow(catalogue, 8)
    for error in (OSError(errno.ENOSPC, "No space left on device"), RuntimeError("write() failed: No space left")):

        def full(*arguments, error=error):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(approved_records.Work, "_kept", full)
            with pytest.raises(StorageError, match=r"No space left.*space on its disk"):
                prepare_approved(catalogue, out)
    assert len(open_prepared(out)) == 8
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Check the folder"):
        prepare_approved(catalogue, tmp_path / "file")
