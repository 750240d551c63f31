"""A second run of a catalogue reads no recording; anything that changes in it makes the features anew."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
from catalogues import STATIONS, add, execute, iq, recordings

from heimdall_jax.config import Config, DataConfig, FeatureConfig, ModelConfig
from heimdall_jax.datasets import load_data, load_test_data
from heimdall_jax.errors import DataError
from heimdall_jax.sources.catalogue import CatalogueSource, embedded
from heimdall_jax.sources.catalogue_sql import create_catalogue
from heimdall_jax.sources.recordings import encode_iq
from heimdall_jax.store import FolderStore, MemoryStore

FEATURES = FeatureConfig(n_fft=128, hop_length=64, n_mels=16, n_frames=8)  # 576 samples
SESSIONS = 10


@pytest.fixture
def config(tmp_path):
    url, store = embedded(tmp_path / "catalogue")
    create_catalogue(url)
    for index in range(SESSIONS):
        add(url, store, index, recordings=recordings(index, STATIONS))
    return Config(
        data=DataConfig(source="catalogue", path=str(tmp_path / "catalogue")),
        features=FEATURES,
        model=ModelConfig(name="receiver_set", spectrogram=True),
    )


@pytest.fixture
def reads(monkeypatch):
    """How often each key was read, and how many sessions' recordings were held at most."""
    counts: Counter[str] = Counter()
    get = FolderStore.get

    def counted(self, key, length=None):
        counts[key] += 1
        return get(self, key, length)

    monkeypatch.setattr(FolderStore, "get", counted)
    return counts


def test_each_recording_is_read_once_and_by_a_second_run_not_at_all(config, reads, tmp_path):
    first = load_data(config, cache=tmp_path / "cache")
    assert set(reads.values()) == {1}
    assert sum(key.endswith(".npy") for key in reads) == SESSIONS * 4
    reads.clear()
    again = load_data(config, cache=tmp_path / "cache")
    assert not reads
    assert (
        again.skipped
        == first.skipped
        == {
            "recording without timing metadata, timing masked": 4 * SESSIONS,
            "fewer than min_receivers heard": 0,
        }
    )
    for side in ("train", "validation", "test"):
        one, other = getattr(first, side), getattr(again, side)
        assert one.session_ids == other.session_ids
        for key, values in one.gather(np.arange(len(one))).items():
            np.testing.assert_array_equal(other.gather(np.arange(len(one)))[key], values)
    load_test_data(config, first.domain, cache=tmp_path / "cache")
    load_data(config, cache=tmp_path / "another")
    assert sum(key.endswith(".npy") for key in reads) == SESSIONS * 4


def test_other_features_are_made_anew(config, reads, tmp_path):
    load_data(config, cache=tmp_path / "cache")
    reads.clear()
    load_data(dataclasses.replace(config, features=dataclasses.replace(FEATURES, n_mels=8)), cache=tmp_path / "cache")
    assert sum(key.endswith(".npy") for key in reads) == SESSIONS * 4


def _a_recording(url, store):
    store.put(_key(store, "_1.npy"), encode_iq(iq(99)))


def _its_metadata(url, store):
    store.put(_key(store, "_1_metadata.json"), b"{}")


def _gone(url, store):
    (store.root / _key(store, "_1_metadata.json")).unlink()


def _key(store, end):
    return next(key for key in store.list("sessions/") if key.endswith(end))


CHANGES = [
    _a_recording,
    _its_metadata,
    _gone,
    lambda url, store: execute(url, "update known_sources set latitude = 45.5 where name = 'session 3'"),
    lambda url, store: execute(url, "update known_sources set error_margin_meters = 80 where name = 'session 3'"),
    lambda url, store: execute(url, "update websdr_stations set longitude = 8.9 where name = 'Genova'"),
    lambda url, store: execute(url, "update websdr_stations set altitude_asl = 9 where name = 'Genova'"),
    lambda url, store: execute(url, "update measurements set snr_db = 3 where iq_data_location like '%_1.npy'"),
    lambda url, store: execute(
        url, "update recording_sessions set approval_status = 'rejected' where session_name = 'session 3'"
    ),
]


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_changes_the_fingerprint(config, change):
    url, store = embedded(config.data.path)
    before = CatalogueSource(url, store).fingerprint()
    assert CatalogueSource(url, store).fingerprint() == before
    change(url, store)
    assert CatalogueSource(url, store).fingerprint() != before


def test_what_does_not_count_does_not_change_it(config):
    url, store = embedded(config.data.path)
    before = CatalogueSource(url, store).fingerprint()
    store.put("sessions/of-nobody/websdr_1.npy", b"")
    execute(url, "update known_sources set description = 'roof'")
    add(url, store, 50, approval="pending")
    assert CatalogueSource(url, store).fingerprint() == before


def test_many_folders_are_listed_together(config, monkeypatch):
    url, folder = embedded(config.data.path)
    store = MemoryStore()
    for key in folder.list():
        store.put(key, folder.get(key))
    each = CatalogueSource(url, store).fingerprint()
    monkeypatch.setattr("heimdall_jax.sources.catalogue.FOLDERS", 2)
    lists = []
    stamps = MemoryStore.stamps
    monkeypatch.setattr(MemoryStore, "stamps", lambda self, prefix="": lists.append(prefix) or stamps(self, prefix))
    assert CatalogueSource(url, store).fingerprint() == each
    assert len(lists) <= 16
    assert all(len(prefix) == len("sessions/") + 1 for prefix in lists)


def test_powers_are_told_without_reading(config, reads):
    source = CatalogueSource(*embedded(config.data.path))
    session = source.without_iq()[3]
    assert session.iq_RT is None
    assert session.heard_R.all()
    assert not reads
    assert source[3].iq_RT is not None


def test_a_session_of_which_too_little_could_be_read_is_dropped_and_counted(config, tmp_path):
    _, store = embedded(config.data.path)
    for task in sorted({key.split("/")[1] for key in store.list("sessions/")})[:2]:
        for number in (1, 2):
            (store.root / f"sessions/{task}/websdr_{number}.npy").unlink()
    # Tasks have random names: with four rows or more to train and to validate on, no side can lose all of its own.
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, validation_fraction=0.5))
    data = load_data(config, cache=tmp_path / "cache")
    assert data.skipped["recording missing in the store"] == 4
    assert data.skipped["fewer than min_receivers heard"] == 2
    assert sum(len(side) for side in (data.train, data.validation, data.test) if side is not None) == SESSIONS - 2
    assert load_data(config, cache=tmp_path / "cache").skipped == data.skipped


def test_when_nothing_can_be_read_the_reasons_are_told(config, tmp_path):
    _, store = embedded(config.data.path)
    for key in list(store.list("sessions/")):
        (store.root / key).unlink()
    with pytest.raises(DataError, match=r"no usable session of 10 .*40 recording missing in the store"):
        load_data(config, cache=tmp_path / "cache")
