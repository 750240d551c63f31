"""A tracking server that refuses, is not there or is wrong: who waits, who does not, and what is said."""

import base64
import contextlib
import http.server
import threading
import time
from collections.abc import Iterator

import pytest

from heimdall_jax import patience
from heimdall_jax.config import TrackingConfig
from heimdall_jax.errors import ConfigError
from heimdall_jax.tracking.client import ADDRESS
from heimdall_jax.tracking.metric_buffer import TrackerAway
from heimdall_jax.tracking.mlflow_tracker import MlflowTracker, open_tracker, tracking_address
from heimdall_jax.tracking.spool import SPOOL
from tests.servers import free_port

PASSWORD = "correct-horse"


@contextlib.contextmanager
def answering(status: int, body: bytes = b"go away") -> Iterator[tuple[str, list[str]]]:
    """The address of a server with one answer, and the credentials that it was shown."""
    shown: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            kind, _, given = self.headers.get("Authorization", "").partition(" ")
            shown.append(base64.b64decode(given).decode() if kind == "Basic" else "")
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body + shown[-1].encode())))
            self.end_headers()
            self.wfile.write(body + shown[-1].encode())  # as a careless server would, the secret with it

        do_POST = do_GET

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", shown
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def refusal(uri: str) -> tuple[str, float]:
    """What opening a tracker there says, and after how many seconds."""
    begin = time.monotonic()
    with pytest.raises(TrackerAway) as caught:
        MlflowTracker(uri, "heimdall")
    return str(caught.value), time.monotonic() - begin


@pytest.mark.parametrize(("status", "phrase"), [(401, "Unauthorized"), (403, "Forbidden")])
def test_wrong_credentials_fail_at_once_and_are_not_repeated(monkeypatch, status, phrase):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    with answering(status) as (uri, shown):
        said, _ = refusal(uri)
    assert shown == [f"me:{PASSWORD}"]  # once
    assert f"got {status} {phrase}; allowed: credentials that {uri} takes. Set MLFLOW_TRACKING_USERNAME" in said
    assert PASSWORD not in said
    assert "\n" not in said


def test_a_server_in_trouble_is_waited_for(monkeypatch):
    monkeypatch.setenv(patience.SECONDS, "1")
    with answering(503) as (uri, shown):
        said, took_s = refusal(uri)
    assert len(shown) > 1
    assert took_s < 10
    assert "503" in said
    assert f"allowed: a writable MLflow store at {uri}" in said


def test_what_is_no_tracking_server_is_told_at_once(monkeypatch):
    monkeypatch.setenv(patience.SECONDS, "60")
    with answering(404, b"<html>not here</html>") as (uri, shown):
        said, _ = refusal(uri)
    assert len(shown) == 1
    assert "404" in said


def test_nobody_there_is_waited_for_with_patience(monkeypatch, caplog):
    monkeypatch.setenv(patience.SECONDS, "1")
    uri = f"http://127.0.0.1:{free_port()}"
    said, took_s = refusal(uri)
    assert 0.3 < took_s < 10
    assert "Connection refused" in said
    assert [record.message for record in caplog.records] == [
        f"MLflow at {uri} does not answer; trying again for up to 1 s"
    ]


def test_a_wrong_host_name_fails_without_patience(monkeypatch):
    monkeypatch.setenv(patience.SECONDS, "60")
    said, took_s = refusal("http://no-such-host.invalid:5000")
    assert took_s < 30
    assert "tracking database: got" in said


def test_a_server_that_says_nothing_holds_training_up_for_seconds_only(tmp_path, monkeypatch):
    """What accepts connections and never answers; here from the first flush on."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        tracker = MlflowTracker.__new__(MlflowTracker)
        template = open_tracker(TrackingConfig(), tmp_path / "run")
        assert isinstance(template, MlflowTracker)
        tracker.__dict__.update(template.__dict__)
        (tmp_path / "run").mkdir()
        tracker.start("night", {})
        uri = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        tracker._uri, tracker._client = uri, template._mlflow.MlflowClient(tracking_uri=uri)
        tracker.log(0, {"loss": 1.0})
        begin = time.monotonic()
        tracker.flush()
        for step in range(1, 50):
            tracker.log(step, {"loss": 1.0})
            tracker.flush()
        assert time.monotonic() - begin < 9
    assert len((tmp_path / "run" / SPOOL).read_text().splitlines()) == 50


def test_the_address_is_the_configs_then_the_environments(monkeypatch):
    monkeypatch.setenv(ADDRESS, "http://from-environment")
    assert tracking_address(TrackingConfig(uri="http://from-config")) == "http://from-config"
    assert tracking_address(TrackingConfig()) == "http://from-environment"
    monkeypatch.delenv(ADDRESS)
    assert tracking_address(TrackingConfig()) == ""


def test_a_secret_in_the_environments_address_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv(ADDRESS, f"https://me:{PASSWORD}@host")
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        open_tracker(TrackingConfig(), tmp_path / "run")
    assert PASSWORD not in str(caught.value)
