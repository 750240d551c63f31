"""A prepared set follows its catalogue: to the bit, reading only what changed."""

import json

import catalogues
import pytest
from growing import assert_holds, files, grow, sides

from heimdall_jax.sources import approved_records
from heimdall_jax.sources.approved import prepare_approved
from heimdall_jax.sources.catalogue import CatalogueSource, embedded, open_catalogue
from heimdall_jax.sources.prepared import open_prepared
from heimdall_jax.sources.recordings import encode_iq, metadata_name
from heimdall_jax.store import FolderStore

pytestmark = pytest.mark.usefixtures("known_sides")


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
