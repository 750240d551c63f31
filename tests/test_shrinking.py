"""A small run's smaller files: made beside its model, measured on its test side, proven again, refused when worse."""

import hashlib
import io
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from heimdall_jax import shrinking
from heimdall_jax.assessment import batches_of
from heimdall_jax.config import Config, ExportConfig
from heimdall_jax.datasets import Data, load_data
from heimdall_jax.delivery import deliver, validate_export
from heimdall_jax.errors import ExportError
from heimdall_jax.export import shrink as conversions
from heimdall_jax.export.bundle import read_bundle
from heimdall_jax.export.release import read_samples
from heimdall_jax.export.table import smaller_table
from heimdall_jax.pipeline import train
from heimdall_jax.registry.runtime import Runtime
from heimdall_jax.run import Run, open_run
from heimdall_jax.tracking.trackers import MemoryTracker
from tests.powder_like import write_powder_like
from tests.small_runs import small_config

BOTH = ExportConfig(("float16", "int8"))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return small_config(write_powder_like(tmp_path_factory.mktemp("data") / "powder"), export=BOTH)


@pytest.fixture(scope="module")
def trained(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    console = Console(file=io.StringIO(), width=120)
    out = tmp_path_factory.mktemp("runs") / "run"
    train(config, out, console=console)
    printed = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    for part in ("Smaller files, metres: powder, split random (test), n = ", "accepted", "model_int8.onnx"):
        assert part in printed
    return out


@pytest.fixture(scope="module")
def data(config: Config, trained: Path) -> Data:
    return load_data(config, cache=trained.parent / "cache")


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def told(folder: Path) -> dict[str, dict[str, Any]]:
    return {entry["precision"]: entry for entry in json.loads((folder / "manifest.json").read_text())["smaller"]}


def of_silence(run: Run, data: Data) -> Iterator[dict[str, np.ndarray]]:
    """Calibration by recordings in which nobody heard: ranges that no real one stays within."""
    inputs = read_bundle(run.folder).manifest.inputs
    for feed in shrinking._feeds(run, shrinking._calibration_rows(data), inputs):
        yield feed | {"heard": np.zeros_like(feed["heard"]), "present": np.zeros_like(feed["present"])}


def test_both_are_smaller_measured_on_the_test_side_and_served(trained: Path):
    metrics = json.loads((trained / "metrics.json").read_text())
    sizes = [(trained / name).stat().st_size for name in ("model.onnx", "model_float16.onnx", "model_int8.onnx")]
    assert sizes == sorted(sizes, reverse=True)
    samples, single = read_samples(trained), Runtime.load(trained, threads=1)
    expected = single.locate(samples)
    for precision, size in zip(("float16", "int8"), sizes[1:], strict=True):
        entry = told(trained)[precision]
        assert (entry["accepted"], entry["reason"], entry["size_bytes"]) == (True, "", size)
        worth = entry["accuracy"]
        assert (worth["dataset"], worth["split"], worth["side"]) == ("powder", metrics["split"], "test")
        assert (worth["n"], worth["float32"]["n"]) == (metrics["n"], metrics["n"])
        for name in ("mean", "median"):
            np.testing.assert_allclose(worth["float32"]["error_m"][name], metrics["error_m"][name], rtol=1e-4)
        np.testing.assert_allclose(worth["float32"]["coverage_68"], metrics["coverage"]["0.68"], atol=0.04)
        ratio = worth["error_m"]["mean"] / worth["float32"]["error_m"]["mean"]
        np.testing.assert_allclose(1 + worth["growth"], ratio)
        assert 0.9 < ratio <= 1.02
        runtime = Runtime.load(trained / entry["file"], threads=1)
        assert runtime.manifest.sha256 == entry["sha256"] != single.manifest.sha256
        off_m = np.linalg.norm(runtime.locate(samples).position_m - expected.position_m, axis=1)
        assert 0 < off_m.max() <= entry["differences"]["position_m"] * 1.001 + 1e-3


@pytest.mark.slow
def test_they_are_proven_again_and_every_forgery_is_named(trained: Path, copy: Path, data: Data):
    for path in (trained, trained / "model.onnx", trained / "model_int8.onnx"):
        again = validate_export(path)
        assert again.parity.rows
        assert {entry.precision: entry.differences for entry in again.smaller} == {
            precision: entry["differences"] for precision, entry in told(trained).items()
        }
    int8 = copy / "model_int8.onnx"
    good = int8.read_bytes()
    int8.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(ExportError, match="model file's sha256"):
        validate_export(copy)
    forged = conversions.to_int8((copy / "model.onnx").read_bytes(), of_silence(open_run(copy), data))
    int8.write_bytes(forged)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["smaller"][1] |= {"sha256": hashlib.sha256(forged).hexdigest(), "size_bytes": len(forged)}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ExportError, match=r"of model_int8\.onnx against model\.onnx: got"):
        validate_export(copy)
    int8.unlink()
    with pytest.raises(ExportError, match=r"model_int8.onnx: got No such file"):
        validate_export(copy)


def test_a_card_of_another_model_is_refused(copy: Path):
    sha256, card = read_bundle(copy).manifest.sha256, copy / "model_card.md"
    assert card.read_text().count(sha256) == 2
    card.write_text(card.read_text().replace(sha256, "f" * 64, 1))
    with pytest.raises(ExportError, match=f"model_card.md, model_sha256: got {'f' * 64}"):
        validate_export(copy)


def test_ranges_come_from_training_rows_and_from_no_others(copy: Path, data: Data, monkeypatch):
    run = open_run(copy)
    fed: list[dict[str, np.ndarray]] = []

    def watched(model: bytes, batches: Iterator[dict[str, np.ndarray]]) -> bytes:
        fed.extend(batches)
        return conversions.to_int8(model, iter(fed))

    def rows(batches: Iterable[dict[str, np.ndarray]]) -> set[bytes]:
        """What receivers read, of each row."""
        pairs = [pair for batch in batches for pair in zip(batch["rss_db"], batch["heard"], strict=True)]
        return {np.sort(rss_db[heard > 0]).tobytes() for rss_db, heard in pairs}

    monkeypatch.setattr(shrinking, "to_int8", watched)
    shrinking.shrink(run, data, ("int8",))
    sides = [data.train, data.validation, data.test]
    train_rows, validation, test = (rows(batches_of(run.config, side)) for side in sides if side is not None)
    assert rows(fed) == train_rows
    assert not rows(fed) & (validation | test)


@pytest.mark.slow
def test_where_the_error_grows_the_file_is_refused_and_the_run_kept(
    copy: Path, config: Config, data: Data, monkeypatch
):
    """Calibrated by silence, int8 clips what receivers say."""
    run = open_run(copy)
    monkeypatch.setattr(shrinking, "to_int8", lambda model, _: conversions.to_int8(model, of_silence(run, data)))
    console = Console(file=io.StringIO(), width=120)
    metrics = train(config, copy, resume=True, console=console)
    assert metrics["error_m"] == json.loads((copy / "metrics.json").read_text())["error_m"]
    assert "- int8: refused (int8 export: got a mean error of " in (copy / "model_card.md").read_text()
    entry = told(copy)["int8"]
    assert entry["accuracy"]["growth"] > 0.02
    said = "int8 export: got a mean error of "
    assert (entry["accepted"], entry["reason"][: len(said)]) == (False, said)
    assert "on the test side of powder, split random" in entry["reason"]
    assert "allowed: at most +2%. Serve model.onnx, or another precision." in entry["reason"]
    assert not (copy / "model_int8.onnx").exists()
    assert told(copy)["float16"]["accepted"]
    assert (copy / "model_float16.onnx").exists()
    printed = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert f"refused: {said}" in printed
    assert [item.accepted for item in validate_export(copy).smaller] == [True, False]


def test_what_cannot_be_made_is_refused_without_numbers(copy: Path, data: Data, monkeypatch):
    def fails(model: bytes, batches: Iterator[Any]) -> bytes:
        raise ExportError("int8 export: got none; allowed: layers. Leave it out.")

    monkeypatch.setattr(shrinking, "to_int8", fails)
    manifest = shrinking.shrink(open_run(copy), data, ("int8",))
    (entry,) = manifest.smaller
    assert (entry.accepted, entry.sha256, entry.accuracy, entry.differences) == (False, None, None, None)
    console = Console(width=100, record=True)
    console.print(smaller_table(manifest.smaller))
    assert "refused: int8 export: got none" in console.export_text()
    assert read_bundle(copy).manifest.smaller == (entry,)


def test_an_export_without_them_leaves_none_behind(copy: Path, data: Data):
    assert shrinking.shrink(open_run(copy), data, ()).smaller == ()
    assert sorted(path.name for path in copy.glob("*.onnx")) == ["model.onnx"]
    assert read_bundle(copy).manifest.smaller == ()


def test_the_tracked_run_holds_the_accepted_ones(copy: Path, data: Data):
    tracker = MemoryTracker()
    run_id = tracker.start("run", {})
    metrics = json.loads((copy / "metrics.json").read_text())
    delivered = deliver(open_run(copy), data, metrics, tracker, precisions=("float16",))
    assert [entry.file for entry in delivered.smaller] == ["model_float16.onnx"]
    assert tracker.runs[run_id].artifacts["model_float16.onnx"] == copy / "model_float16.onnx"
    assert "model_int8.onnx" not in tracker.runs[run_id].artifacts


@pytest.mark.parametrize(
    "smaller", [5, [{"file": "x"}], ["int8"], [{"precision": "int8", "file": "x", "accepted": True, "size_bytes": "1"}]]
)
def test_a_manifest_with_other_entries_is_refused(copy: Path, smaller: Any):
    manifest = json.loads((copy / "manifest.json").read_text()) | {"smaller": smaller}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ExportError, match=r"(?s)manifest: got .*allowed: the fields of schema 1"):
        read_bundle(copy)
