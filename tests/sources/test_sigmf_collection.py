"""Collections of SigMF recordings: sessions written are read back to the bit, by us and by the package `sigmf`."""

import hashlib
import json
import logging

import numpy as np
import pytest
import sigmf
from jsonschema.validators import validator_for
from sigmf.schema import SCHEMA_COLLECTION, get_schema
from sigmf.validate import main as sigmf_validate

from heimdall_jax.errors import ConfigError, DataError, StorageError
from heimdall_jax.sources import sigmf as reader
from heimdall_jax.sources.catalogue import open_catalogue
from heimdall_jax.sources.own_recordings import import_recordings
from heimdall_jax.sources.sigmf import read_collection, read_sigmf
from heimdall_jax.sources.sigmf_write import write_sessions
from heimdall_jax.types import Session
from tests.fuzz.sigmf_files import IQ_T2, collection, metadata

NAMES = ("hill", 'the "roof", 2', "yard", "moved")
PLACES = np.array([[45.1, 7.123456789012345], [44.9, 7.2], [45.2, -0.1], [0.0, 0.0]])


def session(number, **changes):
    rng = np.random.default_rng(number)
    values = {
        "session_id": f"test-{number}",
        # Binary fractions of a second: what float64 holds of them is exact.
        "start_time_s": 1772366400.125 + 10 * number,
        "receivers": NAMES,
        "receiver_deg_RE": PLACES,
        "present_R": np.array([True, True, True, False]),
        "heard_R": np.array([True, True, False, False]),
        "rss_db_R": np.array([-70.25, -80.1, -99.0, 0.0], np.float32),
        "truth_deg": (45.01234567890123, 7.3),
        "iq_RT": rng.normal(size=(4, 600, 2)).astype(np.float32).view(np.complex64)[..., 0],
        "sample_rate_hz": 12000.5,
        "frequency_hz": 145_300_000.0,
        "altitude_m_R": np.array([600.5, -3.25, 0.0, 0.0]),
        "clock_sigma_s_R": np.array([5e-8, np.inf, 0.0, np.inf]),
        "snr_db_R": np.array([12.5, np.nan, 3.0, np.nan], np.float32),
    }
    return Session(**{**values, **changes})


def test_a_session_comes_back_to_the_bit(tmp_path):
    sent = session(0)
    assert write_sessions([sent], tmp_path / "out") == (1, 3)
    read = read_collection(tmp_path / "out" / "test-0" / "test-0.sigmf-collection")
    assert [one.station for one in read] == list(NAMES[:3])
    for number, one in enumerate(read):
        assert one.iq_T.tobytes() == sent.iq_RT[number].tobytes()
        assert one.place == (*PLACES[number], sent.altitude_m_R[number])
        assert (one.sample_rate_hz, one.frequency_hz) == (12000.5, 145_300_000.0)
        assert one.start_ns == 1_772_366_400_125_000_000  # date -u -d 2026-03-01T12:00:00Z +%s
    assert [one.clock_sigma_s for one in read] == [5e-8, None, 0.0]
    about = json.loads((tmp_path / "out" / "test-0" / "test-0.sigmf-collection").read_text())["collection"]
    assert about["heimdall:transmitter"] == {"type": "Point", "coordinates": [7.3, 45.01234567890123]}


def test_the_packages_own_validator_accepts_every_file(tmp_path, caplog):
    write_sessions([session(0), session(1, truth_deg=None, clock_sigma_s_R=None)], tmp_path)
    with caplog.at_level(logging.INFO):
        sigmf_validate((str(tmp_path / "*" / "*.sigmf-meta"), "-v"))
    assert "Validated all 6 files OK" in caplog.text
    for path in sorted(tmp_path.glob("*/*.sigmf-collection")):
        opened = sigmf.fromfile(path)  # compares the hashes of all streams
        assert len(opened) == 3
        samples = [opened.get_SigMFFile(stream_index=number).read_samples() for number in range(3)]
        np.testing.assert_array_equal(samples, session(int(path.stem[-1])).iq_RT[:3])
        # To the package's schema streams are pairs, to the specification and to its own code objects.
        tree = json.loads(path.read_text())
        tree["collection"]["core:streams"] = [[s["name"], s["hash"]] for s in tree["collection"]["core:streams"]]
        schema = get_schema(schema_file=SCHEMA_COLLECTION)
        validator_for(schema)(schema).validate(tree)


def test_a_folder_of_collections_trains(tmp_path):
    # At a rate of whole hertz, which the catalogue keeps; others it resamples.
    sessions = [session(number, sample_rate_hz=12000.0) for number in range(2)]
    write_sessions(sessions, tmp_path / "out")
    assert import_recordings(tmp_path / "out", tmp_path / "catalogue") == 2
    source = open_catalogue(tmp_path / "catalogue", min_receivers=2)
    assert len(source) == 2
    for sent, read in zip(sessions, (source[0], source[1]), strict=True):
        order = [read.receivers.index(name) for name in NAMES[:2]]
        assert read.truth_deg == sent.truth_deg
        np.testing.assert_array_equal(read.iq_RT[order], sent.iq_RT[:2])
        np.testing.assert_array_equal(read.clock_sigma_s_R[order], [5e-8, np.inf])
        np.testing.assert_array_equal(read.rss_db_R[order], sent.rss_db_R[:2])
        np.testing.assert_array_equal(read.snr_db_R[order], sent.snr_db_R[:2])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (5, "yard", r"heimdall:station: got hill; allowed: yard"),
        (7, "12020", r"core:sample_rate: got 12000.5; allowed: 12020"),
        (1, "2026-03-01T12:00:03Z", r"core:datetime: got 2.875 s from the row's start; allowed: 1.05"),
    ],
)
def test_a_recording_that_contradicts_its_row_is_refused(tmp_path, column, value, message):
    write_sessions([session(0, receivers=("hill", "roof", "yard", "moved"))], tmp_path / "out")
    header, row, *_ = (tmp_path / "out" / "recordings.csv").read_text().splitlines()
    cells = row.split(",")
    cells[column] = value
    (tmp_path / "out" / "recordings.csv").write_text(f"{header}\n{','.join(cells)}\n")
    with pytest.raises(DataError, match=message):
        import_recordings(tmp_path / "out", tmp_path / "catalogue")


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(DataError, match="session test-0: got no samples, rate or frequency"):
        write_sessions([session(0, iq_RT=None)], tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "held").touch()
    with pytest.raises(ConfigError, match="files are there already"):
        write_sessions([session(0)], tmp_path / "b")
    with pytest.raises(StorageError, match="Not a directory"):
        write_sessions([session(0)], tmp_path / "b" / "held")
    write_sessions([session(0, session_id="../../x y")], tmp_path / "c")
    assert {path.name for path in (tmp_path / "c").iterdir()} == {"______x_y", "stations.csv", "recordings.csv"}


def written(folder, tree):
    """Two recordings and what a collection may say of them."""
    for name in "ab":
        (folder / f"{name}.sigmf-meta").write_bytes(metadata())
        (folder / f"{name}.sigmf-data").write_bytes(IQ_T2.tobytes())
    (folder / "all.sigmf-collection").write_bytes(tree if isinstance(tree, bytes) else json.dumps(tree).encode())
    return folder / "all.sigmf-collection"


DIGEST = hashlib.sha512(metadata()).hexdigest()


def test_streams_may_be_the_pairs_of_before(tmp_path):
    assert (
        len(read_collection(written(tmp_path, collection([["a", DIGEST], {"name": "b", "hash": DIGEST.upper()}])))) == 2
    )


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (collection([]), "got 0 streams; allowed: 1 to 64"),
        (collection([["a", DIGEST]] * 2), "listed twice"),
        (collection([["a"]]), "one without a hash"),
        (collection([{"name": "a"}]), "schema"),
        (collection([[]]), "core:streams: got None; allowed: a file's name alone"),
        (collection([[f"a{i}", DIGEST] for i in range(65)]), "got 65 streams"),
        (collection([["a", "0" * 128]]), "a.sigmf-meta with another hash"),
        (collection([["../a", DIGEST]]), r"got \.\./a; allowed: a file's name alone"),
        (collection([["/etc/passwd", DIGEST]]), "a file's name alone"),
        (collection([[7, DIGEST]]), "schema"),
        ({"collection": []}, "schema"),
        ({"collection": {"core:streams": [["a", DIGEST]]}}, "'core:version' is a required property"),
        ([], "schema"),
        (b"{", "no JSON"),
    ],
)
def test_collections_that_lie_are_refused(tmp_path, tree, message):
    with pytest.raises(DataError, match=message):
        read_collection(written(tmp_path, tree))


def test_a_collection_is_bounded_and_its_files_are_there(tmp_path, monkeypatch):
    path = written(tmp_path, collection([["a", DIGEST], ["b", DIGEST]]))
    monkeypatch.setattr(reader, "MAX_COLLECTION_SAMPLES", 39)
    with pytest.raises(DataError, match="got more; allowed: 39 samples in all"):
        read_collection(path)
    (tmp_path / "b.sigmf-meta").unlink()
    with pytest.raises(StorageError, match=r"b\.sigmf-meta"):
        read_collection(path)
    with pytest.raises(DataError, match=r"allowed: \.sigmf-collection"):
        read_collection(tmp_path / "a.sigmf-meta")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("station", " ", "heimdall:station: got ' '"),
        ("station", "a\nb", "printable"),
        ("station", 7, "heimdall:station"),
        ("clock_sigma_s", -1e-9, "0 to 1e.06 seconds"),
        ("clock_sigma_s", True, "heimdall:clock_sigma_s: got True"),
        ("clock_sigma_s", "1 us", "heimdall:clock_sigma_s"),
        ("clock_sigma_s", float("nan"), "heimdall:clock_sigma_s: got nan"),
    ],
)
def test_the_extensions_fields_are_checked(tmp_path, field, value, message):
    (tmp_path / "a.sigmf-meta").write_bytes(metadata({f"heimdall:{field}": value}))
    (tmp_path / "a.sigmf-data").write_bytes(IQ_T2.tobytes())
    with pytest.raises(DataError, match=message):
        read_sigmf(tmp_path / "a.sigmf-meta")
