"""Test-wide switches, set before JAX is imported: CPU, 2 virtual devices, strict promotion, runtime type checks."""

import atexit
import os
import shutil
import signal
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # threads of two workers wait for each other
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # workers of one run, and programs that they start, share it
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="heimdall-xla-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ.pop("MLFLOW_TRACKING_URI", None)  # else runs of tests would go there
os.environ.pop("CI", None)  # progress is quieter there

from jaxtyping import install_import_hook

install_import_hook("heimdall_jax", "beartype.beartype")

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from heimdall_jax.memory import collect_rarely
from tests.command_line import QUIETENED, CommandLine

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins with it ignored

collect_rarely()
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def lighter_runs() -> None:
    """Runs of one process leave compiled programs to the next, and baselines have fewer trees: two fifths less work."""
    from heimdall_jax import pipeline
    from heimdall_jax.evaluation import baselines

    pipeline.give_back = lambda: None
    baselines.TREES = 20


@pytest.fixture(scope="session")
def powder_folder() -> Path:
    """The POWDER recordings, where present."""
    folder = SHARED_DATA / "powder"
    if not folder.is_dir():
        pytest.skip("the POWDER recordings are not on this machine (../shared/data/powder)")
    return folder


@pytest.fixture(scope="session")
def kiwi_folder() -> Path:
    """The KiwiSDR recordings and their receivers' places, where present."""
    folder = SHARED_DATA / "kiwi"
    if not folder.is_dir():
        pytest.skip("the KiwiSDR recordings are not on this machine (../shared/data/kiwi)")
    return folder


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Debian's browser without a window, where it is; Playwright allows one for a process."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra `browser`)")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no chromium")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database to copy as `mlflow.db`: creating one takes seconds."""
    from heimdall_jax.config import TrackingConfig
    from heimdall_jax.tracking.mlflow_tracker import DATABASE, open_tracker

    folder = tmp_path_factory.mktemp("tracking")
    open_tracker(TrackingConfig(experiment="template"), folder / "run")
    return folder / DATABASE


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of moto's S3 server on loopback, which honours conditional writes and takes any credentials."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def s3_url(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket of that server, which the environment names."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    import boto3

    client = boto3.client("s3", region_name="us-east-1")
    bucket = f"bucket-{os.urandom(4).hex()}"
    client.create_bucket(Bucket=bucket)
    client.close()
    return f"s3://{bucket}"


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[CommandLine]:
    """The scripts; loggers that they quieten are as before afterwards."""
    levels = {name: logging.getLogger(name).level for name in QUIETENED}
    yield CommandLine(monkeypatch, capsys)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
