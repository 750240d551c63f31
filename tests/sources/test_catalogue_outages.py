"""Catalogues on real servers that stop and come back, refuse, or are not there: what passes is waited for."""

import dataclasses
import threading
import time
from pathlib import Path

import boto3
import numpy as np
import pytest
import sqlalchemy as sa
from catalogues import add, execute

from heimdall_jax.config import Config, DataConfig, FeatureConfig, ModelConfig
from heimdall_jax.datasets import load_data
from heimdall_jax.errors import StorageError
from heimdall_jax.patience import SECONDS
from heimdall_jax.sources.catalogue import embedded, open_catalogue
from heimdall_jax.sources.catalogue_connection import reading
from heimdall_jax.sources.catalogue_sql import create_catalogue, read_catalogue
from heimdall_jax.sources.session_iq import BROKEN, MISSING
from heimdall_jax.store import open_store
from tests import servers

pytestmark = [
    pytest.mark.servers,
    # SQLAlchemy leaves psycopg's cursors open when their connection is lost.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SESSIONS = 40
BUCKET = "heimdall-raw-iq"
AWAY_S = [3.0, pytest.param(20.0, marks=pytest.mark.long)]
FEATURES = FeatureConfig(n_fft=128, hop_length=64, n_mels=16, n_frames=8)
PASSWORD = "tr0ub4dor&3"


@pytest.fixture(scope="module")
def postgres():
    with servers.postgresql() as server:
        yield server


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    with servers.s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def keys(s3, monkeypatch):
    for name, value in servers.s3_environment(s3).items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def catalogue(postgres, s3):
    """Forty sessions in both servers; its URL."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in servers.s3_environment(s3).items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        create_catalogue(postgres.url)
        store = open_store(f"s3://{BUCKET}")
        for index in range(SESSIONS):
            add(postgres.url, store, index)
    return postgres.url


@pytest.fixture
def config(catalogue, keys):
    return Config(
        data=DataConfig(source="catalogue", path=catalogue),
        features=FEATURES,
        model=ModelConfig(name="receiver_set", spectrogram=True),
    )


def as_root(url, *statements):
    for statement in statements:
        execute(url.replace("postgresql:", "postgresql+psycopg:"), statement)


def away(server, seconds):
    """Stop a server that somebody starts again after a while."""
    server.stop()
    back = threading.Timer(seconds, server.start)
    back.start()
    return back


@pytest.mark.parametrize("seconds", AWAY_S)
def test_s3_away_while_recordings_are_read(config, s3, tmp_path, caplog, seconds):
    whole = load_data(config, cache=tmp_path / "undisturbed")
    backs = []

    def progress(done, total):
        if not backs:
            backs.append(away(s3, seconds))

    data = load_data(config, cache=tmp_path / "disturbed", progress=progress)
    backs[0].join()
    assert data.skipped == whole.skipped
    assert f"s3://{BUCKET} does not answer; trying again for up to 120 s" in caplog.messages
    for one, other in ((data.train, whole.train), (data.test, whole.test)):
        assert one.session_ids == other.session_ids
        batch, again = (side.gather(np.arange(len(side))) for side in (one, other))
        for key, values in again.items():
            np.testing.assert_array_equal(batch[key], values)


def test_s3_away_for_good(config, s3, tmp_path, monkeypatch):
    monkeypatch.setenv(SECONDS, "1")
    with s3.stopped(), pytest.raises(StorageError, match=r"Could not connect.*Check AWS_ENDPOINT_URL") as caught:
        load_data(config, cache=tmp_path)
    assert "\n" not in str(caught.value)
    assert len(load_data(config, cache=tmp_path).train) > 0


@pytest.mark.parametrize("seconds", AWAY_S)
def test_postgresql_away_before_and_while_it_is_read(catalogue, postgres, caplog, seconds):
    expected = read_catalogue(catalogue)
    back = away(postgres, seconds)
    assert read_catalogue(catalogue) == expected
    back.join()
    backs = []

    def counted(connection):
        if not backs:
            backs.append(away(postgres, seconds))
        return connection.execute(sa.text("select count(*) from heimdall.measurements")).scalar()

    assert reading(catalogue, counted) == SESSIONS * 3
    backs[0].join()
    told = [message for message in caplog.messages if "does not answer" in message]
    assert len(told) == 2
    assert told[0].startswith("catalogue postgresql+psycopg://heimdall@127.0.0.1:")


def test_postgresql_away_for_good(catalogue, postgres, monkeypatch):
    monkeypatch.setenv(SECONDS, "1")
    with postgres.stopped(), pytest.raises(StorageError, match=r"refused.*Check the address and that the server") as e:
        read_catalogue(catalogue)
    assert "\n" not in str(e.value)
    monkeypatch.setenv(SECONDS, "0")
    nowhere = catalogue.replace("127.0.0.1", "nowhere.invalid")
    with pytest.raises(StorageError, match=r"nowhere\.invalid.*Check the address and that the server runs"):
        read_catalogue(nowhere)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wrong-key-of-mine", r"SignatureDoesNotMatch.*Check AWS_ACCESS_KEY_ID"),
        ("AWS_ACCESS_KEY_ID", "nobody", r"InvalidAccessKeyId.*Check AWS_ACCESS_KEY_ID"),
    ],
)
def test_wrong_keys_are_told_at_once(config, tmp_path, monkeypatch, variable, value, message):
    monkeypatch.setenv(variable, value)
    begun = time.monotonic()
    with pytest.raises(StorageError, match=message) as caught:
        load_data(config, cache=tmp_path)
    assert time.monotonic() - begun < 30
    assert "wrong-key-of-mine" not in str(caught.value)


def test_no_keys_a_missing_bucket_and_no_host_are_told(config, catalogue, tmp_path, monkeypatch):
    elsewhere = dataclasses.replace(config, data=dataclasses.replace(config.data, objects="s3://not-there"))
    with pytest.raises(StorageError, match=r"NoSuchBucket.*Check the bucket's name, or create it"):
        load_data(elsewhere, cache=tmp_path)
    with pytest.raises(StorageError, match=r"NoSuchBucket"):
        open_catalogue(catalogue, store="s3://not-there")[0]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://nowhere.invalid:9")
    monkeypatch.setenv(SECONDS, "0")
    with pytest.raises(StorageError, match=r"Could not connect.*nowhere\.invalid.*Check AWS_ENDPOINT_URL"):
        load_data(config, cache=tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(StorageError, match=r"Unable to locate credentials.*Check AWS_ACCESS_KEY_ID"):
        load_data(config, cache=tmp_path)


def test_an_object_cut_short_or_removed_is_masked(catalogue, keys):
    source = open_catalogue(catalogue, samples=500)
    cut, gone = (next(m.key for m in source.transmissions[i].measurements if m is not None) for i in (0, 1))
    client, whole = boto3.client("s3"), {}
    for key in (cut, gone):
        whole[key] = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    client.put_object(Bucket=BUCKET, Key=cut, Body=whole[cut][:3000])
    client.delete_object(Bucket=BUCKET, Key=gone)
    try:
        first, second = source.__getitems__([0, 1])
    finally:
        for key, data in whole.items():
            client.put_object(Bucket=BUCKET, Key=key, Body=data)
    assert BROKEN in first.masked
    assert MISSING in second.masked
    assert (first.heard_R.sum(), second.heard_R.sum()) == (2, 2)


@pytest.fixture
def reader(catalogue, postgres, monkeypatch):
    """URL of a role that may only read, and must say its password."""
    engine = sa.create_engine(catalogue.replace("postgresql:", "postgresql+psycopg:"), poolclass=sa.NullPool)
    with engine.connect() as connection:
        file = Path(str(connection.execute(sa.text("show hba_file")).scalar()))
    before = file.read_text()
    grants = ("grant usage on schema heimdall to reader", "grant select on all tables in schema heimdall to reader")
    as_root(catalogue, f"create role reader login password '{PASSWORD}'", *grants)
    file.write_text("host all reader 127.0.0.1/32 scram-sha-256\n" + before)
    as_root(catalogue, "select pg_reload_conf()")
    time.sleep(0.3)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    yield catalogue.replace("heimdall@", "reader@")
    file.write_text(before)
    as_root(catalogue, "select pg_reload_conf()", "drop owned by reader", "drop role reader")


def test_a_role_that_may_only_select_suffices(reader, keys):
    source = open_catalogue(reader)
    assert len(source) == SESSIONS
    assert source[0].heard_R.all()


def test_a_password_may_be_in_a_file(reader, tmp_path, monkeypatch):
    monkeypatch.delenv("PGPASSWORD")
    file = tmp_path / "pgpass"
    file.write_text(f"127.0.0.1:*:*:reader:{PASSWORD}\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    assert len(read_catalogue(reader).sessions) == SESSIONS


def test_who_is_not_let_in_is_told_at_once_and_no_password(reader, catalogue, monkeypatch):
    begun = time.monotonic()
    as_root(catalogue, "revoke select on heimdall.measurements from reader")
    with pytest.raises(
        StorageError, match=r"permission denied.*Grant the user USAGE on the schema heimdall and SELECT"
    ):
        read_catalogue(reader)
    with pytest.raises(StorageError, match=r'database "none" does not exist.*Check the address'):
        read_catalogue(reader.replace("/postgres", "/none"))
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    with pytest.raises(StorageError, match=r"password authentication failed.*PGPASSWORD or ~/.pgpass") as caught:
        read_catalogue(reader)
    assert "hunter2" not in str(caught.value)
    monkeypatch.delenv("PGPASSWORD")
    monkeypatch.setenv("PGPASSFILE", "/nowhere")
    with pytest.raises(StorageError, match=r"no password supplied.*PGPASSWORD or ~/.pgpass"):
        read_catalogue(reader)
    with pytest.raises(StorageError, match=r'role "stranger" does not exist.*Check the user'):
        read_catalogue(reader.replace("reader@", "stranger@"))
    assert time.monotonic() - begun < 20


def test_reading_cannot_write(catalogue, tmp_path):
    with pytest.raises(StorageError, match="read-only transaction"):
        reading(catalogue, lambda connection: connection.execute(sa.text("delete from heimdall.measurements")))
    url, _ = embedded(tmp_path)
    create_catalogue(url)
    with pytest.raises(StorageError, match="readonly database"):
        reading(url, lambda connection: connection.execute(sa.text("delete from measurements")))
