"""A prepared set of a catalogue in PostgreSQL and S3, on servers of our own."""

import logging

import catalogues
import pytest
from growing import assert_same

from heimdall_jax.errors import StorageError
from heimdall_jax.sources.approved import prepare_approved
from heimdall_jax.sources.catalogue import CatalogueSource
from heimdall_jax.sources.catalogue_sql import create_catalogue
from heimdall_jax.sources.prepared import open_prepared
from heimdall_jax.store import S3Store, open_store
from tests import servers

OBJECTS = "s3://heimdall-raw-iq"


@pytest.fixture
def platform(tmp_path, monkeypatch):
    """Database, store's server, and twelve sessions; every fourth is of a place that `block` tests."""
    (tmp_path / "s3" / "heimdall-raw-iq").mkdir(parents=True)
    with servers.postgresql() as database, servers.s3(tmp_path / "s3") as store:
        for name, value in servers.s3_environment(store).items():
            monkeypatch.setenv(name, value)
        create_catalogue(database.url)
        for index in range(12):
            catalogues.add(database.url, open_store(OBJECTS), index, truth_deg=(45.1 + index % 4, 7.5))
        yield database.url, store


def assert_holds(out, url):
    source, held = CatalogueSource(url, open_store(OBJECTS)), open_prepared(out)
    assert [row.session_id for row in held.transmissions] == [row.session_id for row in source.transmissions]
    for number in range(len(source)):
        assert_same(held[number], source[number])


@pytest.mark.servers
@pytest.mark.parametrize("runner", [None, "direct"])
def test_from_postgresql_and_s3(platform, tmp_path, monkeypatch, caplog, runner):
    if runner:
        pytest.importorskip("apache_beam", reason="Apache Beam is not installed (pip install 'heimdall-jax[beam]')")
    (url, _), out, keys = platform, tmp_path / "set", []
    get = S3Store.get

    def counted(self, key, length=None):
        keys.append(key)
        return get(self, key, length)

    monkeypatch.setattr(S3Store, "get", counted)
    settings = {"objects": OBJECTS, "runner": runner}
    assert prepare_approved(url, out, "block", **settings).read == 12
    tests = open_prepared(out, "test").transmissions
    assert len(tests) == 3
    assert_holds(out, url)
    keys.clear()
    assert prepare_approved(url, out, "block", **settings).kept == 12
    assert keys == []
    keys.clear()
    session = catalogues.add(url, open_store(OBJECTS), 12, truth_deg=tests[0].truth_deg)
    assert prepare_approved(url, out, "block", **settings).read == 1
    assert len(keys) == len(set(keys)) == 6, "recordings and metadata of three receivers"
    assert next(row.side for row in open_prepared(out).transmissions if row.session_id == session) == "test"
    assert_holds(out, url)
    assert servers.SECRET_KEY not in caplog.text
    for path in out.rglob("*"):
        assert not path.is_file() or servers.SECRET_KEY.encode() not in path.read_bytes()


@pytest.mark.servers
def test_a_store_that_is_away(platform, tmp_path, monkeypatch, caplog):
    """For a while: waited for. For good: the set stays what it was."""
    (url, store), out = platform, tmp_path / "set"
    prepare_approved(url, out, "none", objects=OBJECTS)
    catalogues.add(url, open_store(OBJECTS), 12)
    monkeypatch.setenv("HEIMDALL_PATIENCE_SECONDS", "1")
    with store.stopped(), pytest.raises(StorageError, match="AWS_ENDPOINT_URL"), caplog.at_level(logging.CRITICAL):
        prepare_approved(url, out, "none", objects=OBJECTS)
    assert len(open_prepared(out)) == 12
    assert prepare_approved(url, out, "none", objects=OBJECTS).kept == 12
    assert_holds(out, url)
