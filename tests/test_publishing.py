"""A small run published by the scripts: when it is trained, when it is proven, and not where it cannot be."""

import dataclasses
import io
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from heimdall_jax.config import Config, ExportConfig, TrackingConfig
from heimdall_jax.errors import ConfigError, StorageError
from heimdall_jax.pipeline import train
from heimdall_jax.publishing import publish_run
from heimdall_jax.registry.runtime import Runtime
from tests.command_line import CommandLine, main_of
from tests.powder_like import write_powder_like
from tests.small_runs import small_config

NAME = TrackingConfig.registered_name


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Config:
    folder = tmp_path_factory.mktemp("shared")
    shutil.copy(mlflow_template, folder / "registry.db")
    return small_config(
        write_powder_like(folder / "powder"),
        export=ExportConfig(("float16",), publish=str(folder / "store")),
        tracking=TrackingConfig(uri=f"sqlite:///{folder / 'registry.db'}"),
    )


@pytest.fixture(scope="module")
def run(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    console = Console(file=io.StringIO(), width=120)
    out = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(out.parent)  # MLflow puts an sqlite registry's artifacts into the working directory
        train(config, out, console=console)
    printed = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert re.search(rf"published\s+\S+/store/{NAME}/1\n", printed)
    return out


def stamps(store: Path) -> dict[str, int]:
    return {path.relative_to(store).as_posix(): path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}


def test_training_publishes_under_the_registered_number(run: Path, config: Config) -> None:
    store = Path(config.export.publish)
    files = {"model.onnx", "model_float16.onnx", "metrics.json", "config.yaml", "SHA256SUMS", "manifest.json"} | {
        "model_card.md"
    }
    if not (run / "model_float16.onnx").exists():
        files.remove("model_float16.onnx")
    assert set(stamps(store)) == {f"{NAME}/latest", *(f"{NAME}/1/{name}" for name in files)}
    for uri in (run, store / NAME, f"models:/{NAME}@candidate"):
        manifest = Runtime.load(uri, threads=1, tracking_uri=config.tracking.uri).manifest
        assert manifest.sha256 == Runtime.load(run).manifest.sha256


def test_the_script_proves_and_publishes(run: Path, config: Config, tmp_path: Path, capsys) -> None:
    store, before = config.export.publish, stamps(Path(config.export.publish))
    main_of("validate_export")([str(run), "--publish", store])
    assert f"published already, every byte the same: {store}/{NAME}/1\n" in capsys.readouterr().out
    assert stamps(Path(store)) == before
    arguments = ["--publish", str(tmp_path), "--name", "other", "--version", "rc-1"]
    main_of("validate_export")([str(run / "model.onnx"), *arguments])
    assert f"\npublished {tmp_path}/other/rc-1\n" in capsys.readouterr().out
    assert Runtime.load(tmp_path / "other" / "latest").manifest.sha256 == Runtime.load(run).manifest.sha256


def test_the_script_refuses_in_one_line(run: Path, config: Config, tmp_path: Path, command_line: CommandLine) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    (copy / "metrics.json").write_text("{}")
    told = rf"published {NAME}/1: got other bytes in metrics\.json; allowed: a new version"
    command_line.refuses("validate_export", copy, "--publish", config.export.publish, match=told)
    flags = ("--publish", config.export.publish, "--name", "a/b")
    command_line.refuses("validate_export", copy, *flags, match=r"model name: got 'a/b'")
    model = (copy / "model.onnx").read_bytes()
    (copy / "model.onnx").write_bytes(model[:-1])
    command_line.refuses("validate_export", copy, "--publish", str(tmp_path / "store"), match="truncated")
    assert not (tmp_path / "store").exists()


def test_without_a_shared_registry_the_version_is_made_of_the_content(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    text = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(re.sub(r"uri: sqlite\S+", "uri: ''", text))
    versions = {
        publish_run(folder, str(tmp_path / "store"), version=given).version
        for folder, given in ((copy, None), (copy, ""))
    }
    assert all(re.fullmatch("[0-9a-f]{12}", version) for version in versions)
    assert len(versions) == 1


@pytest.mark.parametrize(
    ("store", "name", "kind", "reason"),
    [
        ("s3://no-such-bucket", NAME, StorageError, "NoSuchBucket.*Check the bucket's name"),
        ("ftp://host/x", NAME, ConfigError, "store: got 'ftp://host/x'"),
        ("models", "my net", ConfigError, "config tracking.registered_name: got 'my net'"),
    ],
)
def test_where_it_cannot_be_published_nothing_is_trained(s3_url, config, tmp_path, store, name, kind, reason) -> None:
    tracking = TrackingConfig(registered_name=name)
    asked = dataclasses.replace(config, export=ExportConfig(publish=store), tracking=tracking)
    with pytest.raises(kind, match=reason):
        train(asked, tmp_path / "run", console=Console(file=io.StringIO()))
    assert list(tmp_path.iterdir()) == []
