"""Models by URI: the same fix from everywhere, no JAX, and a reason where there is none."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import stand_ins

from heimdall_jax.config import TrackingConfig
from heimdall_jax.errors import ConfigError, ExportError, HeimdallError, StorageError
from heimdall_jax.export.bundle import MANIFEST, read_bundle
from heimdall_jax.registry.fetch import fetch_bundle
from heimdall_jax.registry.publish import publish
from heimdall_jax.registry.runtime import Fixes, Runtime
from heimdall_jax.store import open_store
from heimdall_jax.tracking.mlflow_tracker import open_tracker
from heimdall_jax.tracking.models import registered_version
from tests import servers

NAME = "heimdall-net"


@pytest.fixture(scope="module")
def registry(set_folder, mlflow_template, tmp_path_factory) -> tuple[str, str]:
    """An MLflow database in which the set model is version 1 and a candidate, and the run that registered it."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    tracker = open_tracker(TrackingConfig(), folder / "run")
    run_id = tracker.start("run", {})
    manifest = read_bundle(set_folder).manifest.to_tree()
    assert tracker.register_model(set_folder / "model.onnx", manifest, NAME, "candidate") == "1"
    tracker.finish()
    return f"sqlite:///{folder / 'mlflow.db'}", run_id


def located(uri: str | Path, **where: str) -> Fixes:
    return Runtime.load(uri, threads=1, **where).locate(stand_ins.set_samples())


def assert_same(one: Fixes, other: Fixes) -> None:
    for name in ("position_m", "position_deg", "covariance_m2"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("prefix", ["", "/some/prefix"])
def test_the_fix_is_the_same_from_everywhere(s3_url, prefix, set_folder, registry, tmp_path, monkeypatch):
    expected = located(set_folder)
    for store in (f"{s3_url}{prefix}", str(tmp_path / "a b")):
        publish(set_folder, open_store(store), name=NAME, version="3")
        for where in (NAME, f"{NAME}/latest", f"{NAME}/3", f"{NAME}/3/model.onnx", f"{NAME}/"):
            assert_same(located(f"{store}/{where}"), expected)
    assert_same(located((tmp_path / "a b" / NAME).as_uri()), expected)
    assert_same(located(set_folder / "model.onnx"), expected)
    for uri in (f"models:/{NAME}@candidate", f"models:/{NAME}/1"):
        assert_same(located(uri, tracking_uri=registry[0]), expected)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry[0])
    assert_same(located(f"models:/{NAME}@candidate"), expected)


def test_a_fresh_interpreter_fetches_and_locates_without_jax(s3_url, set_folder, registry, tmp_path):
    publish(set_folder, open_store(s3_url), name=NAME)
    np.savez(tmp_path / "inputs.npz", **stand_ins.set_samples())
    uris = [str(set_folder), f"{s3_url}/{NAME}", f"models:/{NAME}@candidate"]
    code = f"""
import sys
import numpy as np
from heimdall_jax.registry.runtime import Runtime
inputs = dict(np.load({str(tmp_path / "inputs.npz")!r}))
fixes = [Runtime.load(uri, tracking_uri={registry[0]!r}, threads=1).locate(inputs) for uri in {uris!r}]
assert all((fix.position_deg == fixes[0].position_deg).all() for fix in fixes)
print(sorted({{"jax", "flax", "jaxlib", "jax2onnx", "orbax", "tensorflow"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")


@pytest.mark.parametrize(
    ("key", "change", "reason"),
    [
        ("model.onnx", lambda data: data[:-9], r"bytes of .*model\.onnx that SHA256SUMS does not know \(altered or tr"),
        ("model.onnx", lambda data: data[:-1] + b"\0", r"model\.onnx that SHA256SUMS does not know"),
        ("model.onnx", None, r"no .*3/model\.onnx.*Publish it again"),
        (
            "manifest.json",
            lambda data: data.replace(b"position_m", b"position_M", 1),
            r"manifest\.json that is not the",
        ),
        ("manifest.json", None, r"a latest that names version 3, which has no manifest\.json"),
        ("SHA256SUMS", lambda data: data[:-1], r"SHA256SUMS: got \d+ bytes that are none"),
        ("SHA256SUMS", lambda data: b"\xff\n", r"SHA256SUMS: got 2 bytes that are none"),
        ("SHA256SUMS", lambda data: b"0" * 64 + data[64:], r"model\.onnx that SHA256SUMS does not know"),
        ("SHA256SUMS", None, r"no .*SHA256SUMS"),
    ],
)
def test_what_was_altered_truncated_or_lost_is_refused(key, change, reason, set_folder, tmp_path):
    publish(set_folder, open_store(tmp_path), name=NAME, version="3")
    path = tmp_path / NAME / "3" / key
    data = path.read_bytes()
    path.unlink()
    if change is not None:
        path.write_bytes(change(data))
    with pytest.raises(ExportError, match=reason) as caught:
        fetch_bundle(tmp_path / NAME)
    assert "\n" not in str(caught.value)


def test_a_version_in_s3_is_checked_without_latest(s3_url, set_folder):
    store = open_store(s3_url)
    publish(set_folder, store, name=NAME, version="3")
    manifest = store.get(f"{NAME}/3/{MANIFEST}")
    store.put(f"{NAME}/3/{MANIFEST}", manifest.replace(b"position_m", b"position_M", 1))
    with pytest.raises(ExportError, match=r"manifest\.json that SHA256SUMS does not know"):
        fetch_bundle(f"{s3_url}/{NAME}/3")
    with pytest.raises(ExportError, match=r"model s3://.*: got no other/manifest\.json and no other/latest"):
        fetch_bundle(f"{s3_url}/other")
    with pytest.raises(ExportError, match=r"no heimdall-net/3/model_int8\.onnx"):
        fetch_bundle(f"{s3_url}/{NAME}/3/model_int8.onnx")


@pytest.mark.parametrize(
    ("uri", "kind", "reason"),
    [
        ("s3://bucket", ConfigError, r"model: got 's3://bucket'; allowed: a folder, a model file, s3://bucket/name"),
        ("ftp://host/model", ConfigError, "model: got 'ftp://host/model'"),
        ("models:/a/b/c", ConfigError, "registered model: got 'models:/a/b/c'; allowed: models:/name@alias or"),
        ("models:/a", ConfigError, "registered model"),
        ("models:/a@champion", ConfigError, r"registry of models:/a@champion: got no address.*MLFLOW_TRACKING_URI"),
        ("/no/such/folder", ExportError, r"model\.onnx|folder: got No such file"),
    ],
)
def test_other_uris(uri, kind, reason, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(kind, match=reason):
        fetch_bundle(uri)


@pytest.mark.parametrize("uri", [f"models:/{NAME}@champion", f"models:/{NAME}/9", "models:/stranger@candidate"])
def test_what_the_registry_does_not_hold(uri, registry):
    with pytest.raises(StorageError, match=rf"{uri}: got .*not found.*Check the name") as caught:
        fetch_bundle(uri, tracking_uri=registry[0])
    assert "\n" not in str(caught.value)


def test_a_registered_file_that_was_altered_or_lost(set_folder, mlflow_template, tmp_path):
    (tmp_path / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    tracker = open_tracker(TrackingConfig(), tmp_path / "run")
    tracker.start("run", {})
    tracker.register_model(set_folder / "model.onnx", read_bundle(set_folder).manifest.to_tree(), NAME, "candidate")
    tracker.finish()
    (stored,) = (tmp_path / "mlartifacts").rglob("model.onnx")
    stored.write_bytes(stored.read_bytes()[:-1])
    with pytest.raises(ExportError, match="truncated"):
        fetch_bundle(f"models:/{NAME}/1", tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (manifest,) = (tmp_path / "mlartifacts").rglob("manifest.json")
    manifest.unlink()
    with pytest.raises(ExportError, match=rf"model models:/{NAME}/1: got no manifest\.json"):
        fetch_bundle(f"models:/{NAME}/1", tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")


def test_a_secret_in_the_registrys_address_is_refused(registry):
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI") as caught:
        fetch_bundle(f"models:/{NAME}/1", tracking_uri="https://me:swordfish@host")
    assert "swordfish" not in str(caught.value)


def test_the_registered_number_of_a_file(registry, set_folder):
    address, run_id = registry
    digest = read_bundle(set_folder).manifest.sha256
    assert registered_version(run_id, digest, NAME, address) == "1"
    assert registered_version(run_id, "0" * 64, NAME, address) is None
    assert registered_version(run_id, digest, "stranger", address) is None


@pytest.fixture
def real_s3(tmp_path, monkeypatch):
    with servers.s3(tmp_path / "s3") as server:
        for name, value in servers.s3_environment(server).items():
            monkeypatch.setenv(name, value)
        (tmp_path / "s3" / "heimdall-models").mkdir()
        yield server


@pytest.mark.servers
def test_real_servers(real_s3, set_folder, mlflow_template, tmp_path):
    """A server that checks signatures and ignores conditions, and a registry whose artifacts it keeps."""
    store = open_store("s3://heimdall-models")
    with servers.mlflow(tmp_path / "mlflow", mlflow_template, "s3://heimdall-models/artifacts") as server:
        tracker = open_tracker(TrackingConfig(uri=server.url), tmp_path / "run")
        tracker.start("run", {})
        manifest = read_bundle(set_folder).manifest.to_tree()
        version = tracker.register_model(set_folder / "model.onnx", manifest, NAME, "champion")
        tracker.finish()
        first = publish(set_folder, store, name=NAME, version=version)
        again = publish(set_folder, store, name=NAME, version=version)
        assert (first.new, again.new) == (True, False)
        for uri in (f"models:/{NAME}@champion", f"s3://heimdall-models/{NAME}"):
            assert_same(located(uri, tracking_uri=server.url), located(set_folder))
    folder = tmp_path / "s3" / "heimdall-models" / NAME / version
    assert sorted(path.name for path in folder.iterdir()) == ["SHA256SUMS", "manifest.json", "model.onnx"]


@pytest.mark.servers
@pytest.mark.parametrize(
    ("variable", "value", "bucket", "reason"),
    [
        (
            "AWS_SECRET_ACCESS_KEY",
            "wrong-secret-sentinel",
            "heimdall-models",
            "SignatureDoesNotMatch.*AWS_ACCESS",
        ),
        ("AWS_ACCESS_KEY_ID", "stranger", "heimdall-models", "InvalidAccessKeyId.*Check AWS_ACCESS"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", "heimdall-models", "Could not connect.*Check AWS_ENDPOINT_URL"),
        ("AWS_DEFAULT_REGION", "us-east-1", "no-such-bucket", "NoSuchBucket.*Check the bucket's name"),
    ],
)
def test_a_store_that_refuses(real_s3, variable, value, bucket, reason, set_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HEIMDALL_PATIENCE_SECONDS", "1")
    monkeypatch.setenv(variable, value)
    uri = f"s3://{bucket}/{NAME}"
    for use in (lambda: publish(set_folder, open_store(f"s3://{bucket}"), name=NAME), lambda: fetch_bundle(uri)):
        with pytest.raises(HeimdallError, match=reason) as caught:
            use()
        assert "\n" not in str(caught.value)
        assert "sentinel" not in str(caught.value)
    assert list((tmp_path / "s3" / "heimdall-models").iterdir()) == []
