"""Trying again waits for what passes by itself, and for nothing else; URLs never carry secrets."""

import pytest

from heimdall_jax import patience
from heimdall_jax.config import Config, DataConfig, TrackingConfig
from heimdall_jax.credentials import refuse_secret
from heimdall_jax.errors import ConfigError


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(patience, "FIRST_WAIT_S", 0.001)
    monkeypatch.setenv(patience.SECONDS, "0.5")


class Flaky:
    def __init__(self, failures, error):
        self.failures, self.error, self.calls = failures, error, 0

    def __call__(self):
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return self.calls


def test_what_comes_back_is_waited_for_and_told_once(hasty, caplog):
    action = Flaky(5, ConnectionError("away"))
    assert patience.patiently("the store", action, lambda error: isinstance(error, ConnectionError)) == 6
    assert [record.message for record in caplog.records] == ["the store does not answer; trying again for up to 0.5 s"]


def test_what_stays_away_fails_with_its_last_error(hasty):
    action = Flaky(10**9, ConnectionError("away"))
    with pytest.raises(ConnectionError, match="away"):
        patience.patiently("the store", action, lambda error: True)
    assert action.calls > 1


def test_other_errors_are_not_waited_for(hasty):
    action = Flaky(1, ValueError("wrong"))
    with pytest.raises(ValueError, match="wrong"):
        patience.patiently("the store", action, lambda error: isinstance(error, ConnectionError))
    assert action.calls == 1


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "nan"])
def test_patience_must_be_seconds(monkeypatch, text):
    monkeypatch.setenv(patience.SECONDS, text)
    with pytest.raises(ConfigError, match="HEIMDALL_PATIENCE_SECONDS: got"):
        patience.patience_s()


@pytest.mark.parametrize(
    ("url", "cure"),
    [
        ("postgresql://me:hunter2@host/db", "PGPASSWORD"),
        ("postgresql+psycopg://host/db?password=hunter2", "PGPASSWORD"),
        ("https://me:hunter2@mlflow.example", "MLFLOW_TRACKING_PASSWORD"),
        ("s3://key:hunter2@bucket", "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_repeated(url, cure):
    with pytest.raises(ConfigError) as caught:
        refuse_secret("database", url)
    assert cure in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "data/a:b@c", "postgresql://me@host/db", "s3://bucket/a", "sqlite:///a.db"])
def test_urls_without_secrets_pass(url):
    refuse_secret("database", url)


def test_a_config_holds_no_secret():
    with pytest.raises(ConfigError, match=r"config data\.path"):
        Config(data=DataConfig(path="postgresql://me:hunter2@host/db"))
    with pytest.raises(ConfigError, match=r"config tracking\.uri"):
        Config(tracking=TrackingConfig(uri="https://me:hunter2@host"))
