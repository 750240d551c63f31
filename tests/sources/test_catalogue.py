"""The catalogue as the platform keeps it: what is read, what is skipped and counted."""

import pickle

import numpy as np
import pytest
import sqlalchemy as sa
from catalogues import START, STATIONS, add, execute, iq, recordings

from heimdall_jax.errors import ConfigError, DataError, StorageError
from heimdall_jax.sources.catalogue import CatalogueSource, embedded, open_catalogue
from heimdall_jax.sources.catalogue_sql import create_catalogue
from heimdall_jax.sources.recordings import decode_metadata, encode_iq
from heimdall_jax.sources.rows import Recording
from heimdall_jax.sources.session_iq import BROKEN, DEAD, MISSING, OTHER_LENGTH, UNTIMED
from heimdall_jax.sources.splits import split
from heimdall_jax.types import SessionSource, Station


@pytest.fixture
def catalogue(tmp_path):
    url, store = embedded(tmp_path)
    create_catalogue(url)
    return url, store


def test_a_session_comes_back_as_written(catalogue, tmp_path):
    url, store = catalogue
    name = add(url, store, error_margin_m=100.0)
    source = open_catalogue(tmp_path)
    assert isinstance(source, SessionSource)
    session = source[0]
    assert session.session_id == name
    assert session.start_time_s == pytest.approx(START.timestamp(), abs=1e-6)
    assert session.receivers == source.receivers == ("Aquila di Giaveno", "Montanaro", "Torino")
    np.testing.assert_array_equal(session.receiver_deg_RE, [[45.02, 7.29], [45.234, 7.857], [45.044, 7.672]])
    assert session.heard_R.all()
    np.testing.assert_array_equal(session.rss_db_R, np.float32([-61, -62, -60]))
    np.testing.assert_array_equal(session.iq_RT, [iq(1), iq(2), iq(0)])
    assert session.sample_rate_hz == 12_000.0
    assert session.frequency_hz == 145.3e6
    assert session.truth_deg == (45.1, 7.5)
    # A Rayleigh variable is below 2.4477 sigma with 95 % (its closed-form quantile, sqrt(-2 ln 0.05)).
    assert session.truth_error_m == pytest.approx(100 / 2.4477, rel=1e-4)
    np.testing.assert_allclose(source.origin_deg, np.mean([[45.02, 7.29], [45.234, 7.857], [45.044, 7.672]], axis=0))
    np.testing.assert_array_equal(session.altitude_m_R, [600.0, 300.0, 250.0])
    assert source.skipped == {}
    assert source.notes


def test_keys_are_the_platforms(catalogue):
    url, store = catalogue
    add(url, store)
    keys = list(store.list("sessions/"))
    folder = keys[0].rpartition("/")[0]
    assert keys == [f"{folder}/websdr_{n}{end}" for n in (1, 2, 3) for end in (".npy", "_metadata.json")]
    assert decode_metadata(store.get(f"{folder}/websdr_1_metadata.json"), "m").clock_sigma_s == 5e-8
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        location = connection.execute(sa.text("select iq_data_location from measurements")).scalar()
    assert location.startswith("s3://heimdall-raw-iq/sessions/")


def test_order_many_and_splits(catalogue):
    url, store = catalogue
    for index in (3, 0, 2, 1, 4, 5):
        add(url, store, index, recordings=recordings(index, STATIONS if index == 4 else STATIONS[:3]))
    source = CatalogueSource(url, store)
    assert len(source) == 6
    assert [row.truth_deg[0] for row in source.transmissions] == [45.1 + 0.01 * i for i in range(6)]
    many = source.__getitems__([5, np.int64(4)])
    assert [session.truth_deg[0] for session in many] == [45.1 + 0.05, 45.1 + 0.04]
    assert many[0].heard_R.tolist() == [True, False, True, True]  # Genova only in session 4
    assert many[0].present_R.all()
    assert many[1].heard_R.all()
    parts = split(source, "none", validation_fraction=0.3)
    assert (len(parts.train), len(parts.validation)) == (4, 2)
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[4].iq_RT, source[4].iq_RT)


def test_power_alone_needs_no_recordings(catalogue):
    url, store = catalogue
    add(url, store, recordings=[Recording(station, -50.0) for station in STATIONS])
    with pytest.raises(DataError, match=r"4 measurement without a recording.*Approve"):
        CatalogueSource(url, store)
    session = CatalogueSource(url, store, iq=False)[0]
    assert session.iq_RT is None
    assert session.heard_R.sum() == 4


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": "failed"}, "session not completed"),
        ({"approval": "rejected"}, "session not approved"),
        ({"truth_deg": None}, "session whose source has no place"),
        ({"truth_deg": (0.0, 0.0)}, "session whose source is at an impossible place"),
        ({"truth_deg": (145.0, 7.0)}, "session whose source is at an impossible place"),
        ({"recordings": recordings(stations=STATIONS[:2])}, "session with fewer than 3 readable measurements"),
    ],
)
def test_skipped_sessions_are_counted(catalogue, changes, reason):
    url, store = catalogue
    add(url, store, 0)
    add(url, store, 1, **changes)
    source = CatalogueSource(url, store)
    assert len(source) == 1
    assert source.skipped == {reason: 1}


def spoil(store, data):
    key = next(key for key in store.list("sessions/") if key.endswith("_2.npy"))
    if data is None:
        (store.root / key).unlink()
    else:
        store.put(key, data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, MISSING),
        (encode_iq(iq(0))[:-8], BROKEN),
        (b"", BROKEN),
        (encode_iq(iq(0, 500)), OTHER_LENGTH),
        (encode_iq(np.full(600, 0.5, np.complex64)), DEAD),
    ],
)
def test_bad_recordings_are_masked_when_they_are_read(catalogue, data, reason):
    url, store = catalogue
    add(url, store, recordings=recordings(stations=STATIONS))
    spoil(store, data)
    source = CatalogueSource(url, store)
    assert source.skipped == {}
    session = source[0]
    assert session.masked == (reason, UNTIMED, UNTIMED, UNTIMED)
    assert session.heard_R.tolist() == [False, True, True, True]
    np.testing.assert_array_equal(session.iq_RT[3], iq(0))
    assert session.clock_sigma_s_R is None
    if data is not None:
        first = CatalogueSource(url, store, samples=100)[0]
        assert first.masked == session.masked


def test_the_dtype_and_shape_in_the_header_count(catalogue):
    url, store = catalogue
    add(url, store, recordings=recordings(stations=STATIONS))
    keys = [key for key in store.list("sessions/") if key.endswith(".npy")]
    for key, wrong in zip(keys, (iq(0).astype(np.complex128), iq(0).reshape(2, 300), iq(0).real), strict=False):
        np.save(store.root / key, wrong)
    session = CatalogueSource(url, store)[0]
    assert session.masked.count(BROKEN) == 3
    assert session.heard_R.sum() == 1


def test_a_session_of_which_nothing_can_be_read(catalogue):
    url, store = catalogue
    add(url, store)
    for key in list(store.list("sessions/")):
        (store.root / key).unlink()
    session = CatalogueSource(url, store)[0]
    assert (session.iq_RT, session.sample_rate_hz, session.heard_R.any()) == (None, None, False)
    assert session.masked == (MISSING,) * 3


@pytest.mark.parametrize("location", ["s3://bucket/../../etc/passwd.npy", "s3://bucket//x.npy", "s3://bucket/a\\b.npy"])
def test_a_location_that_no_store_has_is_a_missing_recording(catalogue, location):
    url, store = catalogue
    add(url, store, recordings=recordings(stations=STATIONS))
    execute(url, "update recording_sessions set celery_task_id = null")
    execute(url, f"update measurements set iq_data_location = '{location}' where iq_data_location like '%_1.npy'")
    source = CatalogueSource(url, store)
    assert source[0].masked.count(MISSING) == 1
    assert source.fingerprint()


@pytest.mark.parametrize("location", ["s3://bucket", "s3://bucket/", ""])
def test_a_location_without_a_key_is_no_recording(catalogue, location):
    url, store = catalogue
    add(url, store, recordings=recordings(stations=STATIONS))
    execute(url, f"update measurements set iq_data_location = '{location}' where iq_data_location like '%_1.npy'")
    assert CatalogueSource(url, store).skipped == {"measurement without a recording": 1}


def test_a_format_that_is_no_iq_is_counted_unread(catalogue):
    url, store = catalogue
    add(url, store, recordings=recordings(stations=STATIONS))
    execute(url, "update measurements set iq_data_format = 'int16' where iq_data_location like '%websdr_1.npy'")
    assert CatalogueSource(url, store).skipped == {"recording in another format than complex64": 1}
    assert CatalogueSource(url, store, iq=False).skipped == {}


def test_lengths_and_the_first_samples(catalogue):
    url, store = catalogue
    mixed = recordings(stations=STATIONS)
    mixed[0] = Recording(STATIONS[0], -60.0, None, iq(77, 900))
    add(url, store, recordings=mixed)
    source = CatalogueSource(url, store)
    assert source.skipped == {"recording at another sample rate or length than its session's others": 1}
    assert source[0].iq_RT.shape == (4, 600)
    first = CatalogueSource(url, store, samples=100)
    assert first.skipped == {}
    np.testing.assert_array_equal(first[0].iq_RT[3], iq(77, 900)[:100])
    with pytest.raises(DataError, match="3 recording shorter than 700 samples"):
        CatalogueSource(url, store, samples=700)


def test_stations_at_zero_and_inactive(catalogue):
    url, store = catalogue
    add(url, store, recordings=recordings(stations=[*STATIONS, Station("Lost", 0.0, 0.0)]))
    execute(url, "update websdr_stations set is_active = false where name = 'Genova'")
    source = CatalogueSource(url, store)
    assert source.skipped == {
        "station at (0, 0), masked": 1,
        "measurement of a station at (0, 0), masked": 1,
        "measurement of an inactive station": 1,
    }
    session = source[0]
    assert session.receivers == ("Aquila di Giaveno", "Lost", "Montanaro", "Torino")
    assert session.present_R.tolist() == [True, False, True, True]
    execute(url, "update websdr_stations set latitude = 145")
    with pytest.raises(DataError, match=r"station Aquila.*degrees on Earth"):
        CatalogueSource(url, store)
    execute(url, "update websdr_stations set is_active = false")
    with pytest.raises(DataError, match="no active station"):
        CatalogueSource(url, store)


def test_power_that_is_none(catalogue):
    url, store = catalogue
    add(url, store, recordings=recordings(stations=STATIONS))
    statement = "update measurements set signal_strength_db = 9e999 where iq_data_location like '%websdr_1.npy'"
    execute(url, statement)
    assert CatalogueSource(url, store).skipped == {"measurement without a signal strength": 1}


def test_no_catalogue(tmp_path):
    with pytest.raises(StorageError, match=r"No such file.*prepare_data"):
        open_catalogue(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "catalogue.sqlite").write_bytes(b"")
    with pytest.raises(StorageError, match="no such table"):
        open_catalogue(tmp_path)
    (tmp_path / "catalogue.sqlite").write_bytes(b"text" * 1000)
    with pytest.raises(StorageError, match="not a database"):
        open_catalogue(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="catalogue sqlite"):
        create_catalogue(embedded(tmp_path / "file")[0])
    with pytest.raises(StorageError, match=r"secret|refused|catalogue postgresql") as caught:
        open_catalogue("sqlite+pysqlite:////absent/x?password=secret", store="memory://")
    assert "absent" in str(caught.value)


def test_other_databases():
    with pytest.raises(ConfigError, match="database"):
        open_catalogue("oracle+none://host/x", store="memory://")
    with pytest.raises(ConfigError, match="Correct the URL"):
        create_catalogue("no url")


def test_rules_of_the_tables(catalogue):
    url, store = catalogue
    with pytest.raises(DataError, match="with a zone"):
        add(url, store, start=START.replace(tzinfo=None))
    with pytest.raises(StorageError, match="CHECK constraint"):
        add(url, store, status="done")
    with pytest.raises(StorageError, match="CHECK constraint"):
        add(url, store, error_margin_m=0.0)
    add(url, store, recordings=[Recording(Station("Deaf", 45.0, 7.0), -90.0)])
    with pytest.raises(DataError, match="no usable session"):
        CatalogueSource(url, store)
