"""A prepared set follows its catalogue: to the bit, reading only what changed, whole at any moment."""

import dataclasses
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import catalogues
import numpy as np
import pytest

from heimdall_jax.errors import ConfigError, DataError, StorageError
from heimdall_jax.sources import approved, approved_records
from heimdall_jax.sources.approved import Written, prepare_approved
from heimdall_jax.sources.catalogue import CatalogueSource, embedded, open_catalogue
from heimdall_jax.sources.catalogue_sql import create_catalogue
from heimdall_jax.sources.prepared import open_prepared, prepare
from heimdall_jax.sources.recordings import encode_iq, metadata_name
from heimdall_jax.store import FolderStore
from heimdall_jax.types import Session


@pytest.fixture
def catalogue(tmp_path):
    """Eight sessions, the last two longer, on sides that all three have some of."""
    folder = tmp_path / "catalogue"
    create_catalogue(embedded(folder)[0])
    for index in range(8):
        grow(folder, index)
    return folder


def grow(folder, index, **changes):
    url, store = embedded(folder)
    settings = {"recordings": catalogues.recordings(index, samples=700 if index > 5 else 600)}
    return catalogues.add(url, store, index, **{**settings, **changes})


@pytest.fixture(autouse=True)
def known_sides(monkeypatch):
    """By the order of their places, as names are random: 3 of 8 to test, 1 to validate on."""
    sides = ["train", "test", "train", "validation", "test", "train", "test", "train"]

    def drawn(self, rows):
        return [sides[round((row.truth_deg[0] - 45.1) * 100) % 8] for row in rows]

    monkeypatch.setattr(approved.Rule, "sides", drawn)


@pytest.fixture
def reads(monkeypatch):
    """Keys of the recordings whose samples were read."""
    keys = []
    get = FolderStore.get

    def counted(self, key, length=None):
        if key.endswith(".npy"):
            keys.append(key)
        return get(self, key, length)

    monkeypatch.setattr(FolderStore, "get", counted)
    return keys


def assert_same(a, b):
    for field in dataclasses.fields(Session):
        one, two = getattr(a, field.name), getattr(b, field.name)
        if isinstance(one, np.ndarray):
            assert (one.dtype, one.shape, one.tobytes()) == (two.dtype, two.shape, two.tobytes()), field.name
        else:
            assert one == two, field.name


def test_what_was_masked_is_told(catalogue, tmp_path):
    """A recording that is missing when its session is read; when it comes, the session is read again."""
    row = open_catalogue(catalogue).transmissions[3]
    path = catalogue / "objects" / row.measurements[0].key
    recording = path.read_bytes()
    path.unlink()
    out = tmp_path / "set"
    prepare_approved(catalogue, out)
    assert "recording missing in the store" in open_prepared(out)[3].masked
    assert_holds(out, catalogue)
    path.write_bytes(recording)
    assert prepare_approved(catalogue, out).read == 1
    assert "recording missing in the store" not in open_prepared(out)[3].masked


def assert_holds(out, folder):
    """The set in `out` is the catalogue, to the bit."""
    source, held = open_catalogue(folder), open_prepared(out)
    assert (held.receivers, held.origin_deg) == (source.receivers, source.origin_deg)
    assert [row.session_id for row in held.transmissions] == [row.session_id for row in source.transmissions]
    for number, (row, session) in enumerate(zip(held.transmissions, source, strict=True)):
        assert (row.start_time_s, row.truth_deg) == (session.start_time_s, session.truth_deg)
        assert_same(held[number], session)


def files(folder):
    """What is in a folder: names, and contents of all but the file that tells its folder's name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "dataset_info.json"
    }


def sides(out):
    return {row.session_id: row.side for row in open_prepared(out).transmissions}


def test_a_set_is_the_catalogue(catalogue, tmp_path, reads):
    written = prepare_approved(catalogue, tmp_path / "set")
    assert (written.read, written.kept, written.dropped) == (8, 0, 0)
    assert len(reads) == len(set(reads)) == 24
    assert written.folder == tmp_path / "set" / "approved_sessions" / "random" / "1.2.0"
    assert_holds(tmp_path / "set", catalogue)
    held = open_prepared(tmp_path / "set")
    assert held.name == "approved_sessions"
    assert held.notes == (*open_catalogue(catalogue).notes, "sides by a hash of the session's id")
    assert len(open_prepared(tmp_path / "set", "test")) == 3
    names = {row.session_id for row in open_prepared(tmp_path / "set", "test").transmissions}
    file = tmp_path / "set" / "train_test_splits" / "random_split" / "random_test.json"
    assert set(json.loads(file.read_text())) == names


def test_only_what_changed_is_read(catalogue, tmp_path, reads):
    out, (url, store) = tmp_path / "set", embedded(catalogue)
    pending = grow(catalogue, 8, approval="pending")
    prepare_approved(catalogue, out)
    before, rows = sides(out), open_catalogue(catalogue).transmissions
    assert len(before) == 8
    catalogues.execute(url, "update recording_sessions set approval_status = 'approved'")
    added = grow(catalogue, 9)
    one, two, three = (row.measurements[-1].key for row in (rows[1], rows[4], rows[5]))
    catalogues.execute(url, f"update measurements set signal_strength_db = -1.5 where iq_data_location like '%{one}'")
    store.put(two, encode_iq(catalogues.iq(99)))  # another recording of the same length
    store.put(metadata_name(three), b'{"clock_sigma_s": 1e-6}')
    gone = rows[2].session_id
    catalogues.execute(
        url, f"update recording_sessions set approval_status = 'rejected' where id = '{gone.replace('-', '')}'"
    )
    reads.clear()
    written = prepare_approved(catalogue, out)
    assert (written.read, written.kept, written.dropped) == (5, 4, 1)
    new = [row for row in open_catalogue(catalogue).transmissions if row.session_id in (pending, added)]
    read = [*new, rows[1], rows[4], rows[5]]
    assert sorted(reads) == sorted(m.key for row in read for m in row.measurements)
    assert written.folder.name == "1.2.1"
    assert [path.name for path in written.folder.parent.iterdir()] == ["1.2.1"]
    assert_holds(out, catalogue)
    after = sides(out)
    assert after.keys() == before.keys() - {gone} | {pending, added}
    assert all(after[name] == before[name] for name in before if name != gone)
    scratch = prepare_approved(catalogue, tmp_path / "scratch")
    assert files(scratch.folder) == files(written.folder), "as one that was prepared at once"


def test_where_nothing_changed_nothing_is_written(catalogue, tmp_path, reads):
    prepare_approved(catalogue, tmp_path / "set")
    (tmp_path / "set" / "approved_sessions" / "random" / "incomplete.X_1.2.1").mkdir()
    reads.clear()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*") if path.is_file()}
    written = prepare_approved(catalogue, tmp_path / "set")
    assert (written.read, written.kept, written.dropped) == (0, 8, 0)
    assert reads == []
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*") if path.is_file()} == before
    assert not list((tmp_path / "set").rglob("incomplete.*"))


def test_another_station_changes_all(catalogue, tmp_path, reads):
    """All records have a row for it."""
    prepare_approved(catalogue, tmp_path / "set")
    grow(catalogue, 8, recordings=catalogues.recordings(8, catalogues.STATIONS))
    written = prepare_approved(catalogue, tmp_path / "set")
    assert (written.read, written.kept) == (9, 0)
    assert_holds(tmp_path / "set", catalogue)


def test_a_session_stays_on_its_side(catalogue, tmp_path):
    """Even where a rule would now say otherwise, as of a source whose place was corrected."""
    prepare_approved(catalogue, tmp_path / "set")
    before = sides(tmp_path / "set")
    catalogues.execute(embedded(catalogue)[0], "update known_sources set latitude = latitude + 0.01")
    written = prepare_approved(catalogue, tmp_path / "set")
    assert (written.read, written.kept) == (8, 0)
    assert sides(tmp_path / "set") == before
    assert_holds(tmp_path / "set", catalogue)


def test_many_files(catalogue, tmp_path, monkeypatch):
    """Of one session each, read and taken over two at a time."""
    monkeypatch.setattr(approved_records, "SHARD_SESSIONS", 1)
    monkeypatch.setattr(approved_records, "READ_SESSIONS", 2)
    written = prepare_approved(catalogue, tmp_path / "set")
    assert len(list(written.folder.glob("*train.array_record*"))) == 4
    assert_holds(tmp_path / "set", catalogue)
    grow(catalogue, 8)
    monkeypatch.setattr(approved_records, "SHARD_SESSIONS", 3)
    assert prepare_approved(catalogue, tmp_path / "set").kept == 8
    assert_holds(tmp_path / "set", catalogue)


def test_files_hold_so_many_bytes(catalogue, monkeypatch):
    rows = open_catalogue(catalogue).transmissions
    assert approved_records.shard_ends(rows) == [8]
    monkeypatch.setattr(approved_records, "SHARD_BYTES", 2 * 3 * 600 * 8)
    assert approved_records.shard_ends(rows) == [2, 4, 6, 7, 8]
    monkeypatch.setattr(approved_records, "SHARD_BYTES", 1)
    assert approved_records.shard_ends(rows) == list(range(1, 9))


def test_few_sessions_are_in_memory_at_once(catalogue, tmp_path, monkeypatch):
    asked, many = [], CatalogueSource.__getitems__

    def counted(self, numbers):
        asked.append(len(numbers))
        return many(self, numbers)

    monkeypatch.setattr(approved_records, "READ_SESSIONS", 2)
    monkeypatch.setattr(CatalogueSource, "__getitems__", counted)
    prepare_approved(catalogue, tmp_path / "set")
    assert max(asked) == 2
    assert sum(asked) == 8


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
    assert approved.read_before(out, "random", 0.15).folder.name == "1.2.10"
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


def test_the_folder_is_free_again(catalogue, tmp_path):
    assert isinstance(prepare_approved(catalogue, tmp_path / "set"), Written)
    handle = os.open(tmp_path / "set", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(handle)
    assert Path(tmp_path / "set").is_dir()
