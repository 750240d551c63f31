"""The servers of the tests come back on their port with their data."""

import boto3
import pytest
import redis
import sqlalchemy as sa
from botocore.exceptions import ClientError

from tests import servers

pytestmark = pytest.mark.servers


def test_postgresql_keeps_its_tables():
    with servers.postgresql() as server:
        engine = sa.create_engine(server.url.replace("postgresql:", "postgresql+psycopg:"), poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.execute(sa.text("create table kept as select 42 as number"))
        with server.stopped(), pytest.raises(sa.exc.OperationalError):
            engine.connect()
        with engine.connect() as connection:
            assert connection.execute(sa.text("select number from kept")).scalar() == 42


def test_s3_checks_signatures(tmp_path, monkeypatch):
    with servers.s3(tmp_path / "s3") as server:
        for name, value in servers.s3_environment(server).items():
            monkeypatch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="kept")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            boto3.session.Session().client("s3").list_buckets()


def test_redis_keeps_its_keys():
    with servers.redis() as server:
        redis.Redis.from_url(server.url).set("kept", 42)
        with server.stopped():
            pass
        assert redis.Redis.from_url(server.url).get("kept") == b"42"
