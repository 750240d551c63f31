"""The whole way on a platform of real servers: catalogue, training, evaluation, registry, publishing, serving."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from heimdall_jax.registry.inputs import receiver_inputs
from heimdall_jax.registry.runtime import Runtime
from heimdall_jax.run import open_run
from heimdall_jax.sources.catalogue import open_catalogue
from heimdall_jax.store import open_store
from tests import platform_like, servers
from tests.laws import ROOT

SETTINGS = {
    "--config": "simulation",
    "--split": "random",
    "--features.n-frames": platform_like.FRAMES,
    "--model.width": 16,
    "--model.depth": 1,
    "--model.heads": 2,
    "--training.epochs": 2,
}
SECRETS = {"PGPASSWORD": "planted-for-postgres", "MLFLOW_TRACKING_PASSWORD": "planted-for-mlflow"}
"""Beside S3's own, which is needed."""
pytestmark = [pytest.mark.servers, pytest.mark.timeout(1200)]


def script(name: str, *flags: object, environment: dict[str, str]) -> str:
    """What a script says, which must end well."""
    inherited = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *map(str, flags)]
    done = subprocess.run(command, capture_output=True, text=True, env=inherited | environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def skipped(said: str) -> dict[str, int]:
    return {reason: int(count) for count, reason in re.findall(r"^skipped or masked: (\d+) x (.*)$", said, re.M)}


def test_a_catalogue_is_trained_on_evaluated_published_and_served(
    tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue, runs = tmp_path / "catalogue", tmp_path / "runs"
    count = platform_like.write_platform(catalogue)
    assert (count, sum(platform_like.DEFECTS.values())) == (300, 40)
    settings = [word for pair in SETTINGS.items() for word in pair]
    with (
        servers.postgresql() as database,
        servers.s3(tmp_path / "s3") as s3,
    ):
        environment = servers.s3_environment(s3) | SECRETS
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        for bucket in ("heimdall-raw-iq", "heimdall-models", "mlflow"):
            (tmp_path / "s3" / bucket).mkdir()
        platform_like.copy_platform(catalogue, database.url, open_store("s3://heimdall-raw-iq"))
        with servers.mlflow(tmp_path / "mlflow", mlflow_template, "s3://mlflow/artifacts") as tracking:
            where = ["--catalogue", database.url, "--objects", "s3://heimdall-raw-iq"]
            kept = ["--tracking.uri", tracking.url, "--export.publish", "s3://heimdall-models"]
            served = runs / "served"
            said = script("train", *settings, *where, *kept, "--out", served, environment=environment)
            assert skipped(said) == platform_like.DEFECTS
            script("evaluate", served, environment=environment)
            monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.url)
            fixes = [
                _fixes(model, catalogue)
                for model in (served, "s3://heimdall-models/heimdall-net", "models:/heimdall-net@champion")
            ]
        local = [*settings, "--catalogue", catalogue, "--out", runs / "local"]
        nowhere = {"MLFLOW_TRACKING_URI": ""}
        assert skipped(script("train", *local, environment=environment | nowhere)) == platform_like.DEFECTS
    for other in fixes[1:]:
        np.testing.assert_array_equal(other, fixes[0])
    _assert_same_run(served, runs / "local")
    written = {tmp_path / "s3", tmp_path / "mlflow", runs}
    assert not _holding(written, said, [*SECRETS.values(), servers.SECRET_KEY])


def _fixes(model: Path | str, catalogue: Path) -> np.ndarray:
    runtime = Runtime.load(model, threads=1)
    sessions = open_catalogue(catalogue).__getitems__(range(8))
    return runtime.locate(receiver_inputs(sessions, runtime.manifest)).position_deg


def _assert_same_run(one: Path, other: Path) -> None:
    """Parameters to the bit, and what they are worth."""
    runs = [open_run(folder) for folder in (one, other)]
    leaves = [jax.tree.leaves_with_path(run.state) for run in runs]
    assert runs[0].step == runs[1].step > 0
    for (path, a), (_, b) in zip(*leaves, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=str(path))
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (one, other)]
    assert metrics[0] == metrics[1]


def _holding(folders: set[Path], said: str, secrets: list[str]) -> list[str]:
    """Files, or what was said, in which a secret is."""
    found = ["output"] if any(secret in said for secret in secrets) else []
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        found += [str(path)] if any(secret.encode() in data for secret in secrets) else []
    return found
