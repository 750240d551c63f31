"""The real models from weights to a validated bundle, and every way in which the file may not be those weights."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from flax import nnx
from rich.console import Console

from heimdall_jax.config import NAMED, POWDER, Config, ModelConfig
from heimdall_jax.errors import DataError, ExportError
from heimdall_jax.export.parity import LIMITS
from heimdall_jax.export.release import SAMPLES, export_model, read_samples, validate
from heimdall_jax.export.table import parity_table
from heimdall_jax.models.build import build
from heimdall_jax.models.radio_map import RadioMapNet
from heimdall_jax.registry.runtime import Runtime
from heimdall_jax.training.fingerprint_fit import learn_fingerprints
from heimdall_jax.types import Domain, Sample

DOMAIN = Domain(
    (40.76, -111.84), ("a", "b", "c", "d", "e"), (200.0, -100.0), 600.0, -80.0, 12.0, (-800.0, -900.0, 900.0, 700.0)
)
SET = dataclasses.replace(POWDER, model=ModelConfig(name="receiver_set", width=32, depth=2))
NET = Config(model=ModelConfig(receivers=3))
MAP = dataclasses.replace(POWDER, model=ModelConfig(name="radio_map"))
MEDIAN = dataclasses.replace(MAP, radio_map=dataclasses.replace(NAMED["powder_map"].radio_map, fingerprints=40))
CONFIGS = {config.model.name: config for config in (SET, NET, MAP)} | {"radio_map_by_median": MEDIAN}


def samples_of(config: Config) -> Sample:
    """Plausible samples; NaN where they mean nothing."""
    rng = np.random.default_rng(0)
    batch, receivers = 12, 3 if config.model.name == "localization_net" else 5
    present = rng.random((batch, receivers)) < 0.9
    heard = present & (rng.random((batch, receivers)) < 0.8)
    shape = (batch, receivers, 128, 32)
    places = rng.normal(0, 800, (batch, receivers, 2))
    samples = {
        "rss_db": np.where(heard, rng.normal(-80, 12, heard.shape), np.nan).astype(np.float32),
        "receiver_m": np.where(present[..., None], places, np.nan).astype(np.float32),
        "heard": heard,
        "present": present,
        "identity": rng.integers(0, 6, heard.shape).astype(np.int32),
    }
    if config.model.name == "localization_net":
        mel = rng.normal(-80, 12, shape)
        samples["mel_spectrogram"] = np.where(heard[:, :, None, None], mel, np.nan).astype(np.float32)
    return samples


def recordings(seed: int) -> Sample:
    """30 of known places, their receivers in the domain's order; the later ones at other places than the first."""
    rng = np.random.default_rng(seed)
    stand_m = rng.normal(0, 800, (5, 2))
    return {
        "rss_db": rng.normal(-80, 12, (30, 5)).astype(np.float32),
        "receiver_m": (stand_m + np.arange(30)[:, None, None] // 10 * 40.0).astype(np.float32),
        "heard": rng.random((30, 5)) < 0.8,
        "present": np.ones((30, 5), bool),
        "identity": np.tile(np.arange(1, 6, dtype=np.int32), (30, 1)),
        "position_m": rng.uniform(-700, 700, (30, 2)).astype(np.float32),
        "weight": np.ones(30, np.float32),
    }


def model_of(config: Config, seed: int = 3) -> nnx.Module:
    """Fresh weights, with noise so that no head is still constant."""
    model = build(config.model, DOMAIN, nnx.Rngs(seed), radio_map=config.radio_map)
    rng = np.random.default_rng(seed)
    if isinstance(model, RadioMapNet):
        shape = model.mean_db.shape
        spreads = {"own_db2": rng.uniform(9, 60, shape), "shared_db2": rng.uniform(0, 2, shape[1])}
        levels = {"mean_db": rng.normal(-80, 5, shape), "bias_db": np.full(6, -20.0), "least_db": np.full(6, -95.0)}
        model.fill(spreads | levels | {"mapped": [0, 1, 1, 1, 1, 0], "exponent": 2.5, "shares": (0.5, 1.0)})
        if model.fingerprints is not None:
            learn_fingerprints(model.fingerprints, recordings(seed), None, 1e6)
        return model
    weights = nnx.state(model, nnx.Param)
    noise = jax.tree.map(lambda weight: weight + 0.01 * rng.normal(size=weight.shape).astype(np.float32), weights)
    nnx.update(model, noise)
    return model


@pytest.fixture(scope="module", params=CONFIGS)
def released(request, tmp_path_factory) -> tuple[Path, Config, Sample]:
    """A bundle, made once for each model."""
    config = CONFIGS[request.param]
    folder, samples = tmp_path_factory.mktemp(request.param), samples_of(config)
    metrics = {"n": 12, "error_m": {"mean": float("nan")}}
    export_model(model_of(config), folder, config=config, domain=DOMAIN, samples=samples, metrics=metrics)
    return folder, config, samples


def check(path: Path, config: Config, model: nnx.Module | None = None, domain: Domain = DOMAIN):
    model = model or model_of(config)
    return validate(path, model, read_samples(path.parent), config=config, domain=domain)


def test_a_release_validates_and_locates(released):
    folder, config, samples = released
    report = check(folder / "model.onnx", config)
    assert {row.batch for row in report.rows} == {1, 3, 32}
    assert len({row.receivers for row in report.rows}) >= 2
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["parity"]["limits"] == LIMITS
    assert len(manifest["parity"]["rows"]) == len(report.rows)
    assert manifest["metrics"] == {"n": 12, "error_m": {"mean": None}}
    assert manifest["config"]["model"]["name"] == config.model.name
    runtime = Runtime.load(folder, threads=1)
    fixes = runtime.locate({tensor.name: samples[tensor.name] for tensor in runtime.manifest.inputs})
    assert np.isfinite(fixes.position_deg).all()
    assert (np.linalg.eigvalsh(fixes.covariance_m2) > 0).all()
    console = Console(width=160, record=True)
    console.print(parity_table(report))
    assert "ONNX Runtime against JAX" in console.export_text()


@pytest.mark.parametrize("released", ["radio_map_by_median"], indirect=True)
def test_the_file_compares_recordings_whatever_order_their_receivers_come_in(released):
    """ONNX Runtime with receivers turned, and one unknown, against JAX in training's order; fingerprints count."""
    folder, config, _ = released
    model, samples = model_of(config), recordings(3)
    rng, names = np.random.default_rng(0), ("rss_db", "receiver_m", "heard", "present", "identity")
    asked = {name: samples[name] for name in names}
    asked["rss_db"] = asked["rss_db"] + rng.normal(0, 2, (30, 5)).astype(np.float32)
    asked["identity"] = np.where(np.arange(5) == 1, 0, asked["identity"]).astype(np.int32)
    turned = {name: np.ascontiguousarray(value[:, [3, 0, 4, 2, 1]]) for name, value in asked.items()}
    fixes = Runtime.load(folder, threads=1).locate(turned)
    place = nnx.jit(lambda net, given: net(**given))
    fix = place(model, {name: jnp.asarray(value) for name, value in asked.items()})
    np.testing.assert_allclose(fixes.position_m, fix.position_m, atol=LIMITS["position_m"])
    scale_m = np.asarray(fix.scale_m, np.float64)
    np.testing.assert_allclose(fixes.covariance_m2, scale_m @ scale_m.transpose(0, 2, 1), rtol=1e-3, atol=1.0)
    model.fill({"shares": (0.5, 0.0)})
    without = place(model, {name: jnp.asarray(value) for name, value in asked.items()})
    assert np.linalg.norm(np.asarray(without.position_m) - fixes.position_m, axis=1).mean() > 50


def test_a_flipped_weight_is_found_with_and_without_its_hash(released, tmp_path):
    folder, config, _ = released
    shutil.copytree(folder, tmp_path / "run")
    path = tmp_path / "run" / "model.onnx"
    proto = onnx.load(path)
    weight = max(proto.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    data = bytearray(weight.raw_data)
    data[len(data) // 8 * 4] ^= 1  # the lowest mantissa bit of one float
    weight.raw_data = bytes(data)
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ExportError, match="sha256"):
        check(path, config)
    manifest = json.loads(path.with_name("manifest.json").read_text())
    manifest["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name("manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ExportError, match=r"weight .*1 of \d+ elements differ"):
        check(path, config)


def test_other_weights_or_another_domain_are_found(released):
    folder, config, _ = released
    other = model_of(config, seed=4)
    with pytest.raises(ExportError, match=r"weight .* elements differ"):
        check(folder / "model.onnx", config, other)
    moved = dataclasses.replace(DOMAIN, origin_deg=(40.0, -111.84))
    with pytest.raises(ExportError, match="manifest's domain"):
        check(folder / "model.onnx", config, domain=moved)


def test_samples_are_needed(released, tmp_path):
    _, config, samples = released
    none = {name: value[:0] for name, value in samples.items()}
    with pytest.raises(DataError, match="samples to export with: got none"):
        export_model(model_of(config), tmp_path, config=config, domain=DOMAIN, samples=none)
    with pytest.raises(ExportError, match=f"{SAMPLES}: got"):
        read_samples(tmp_path)
    (tmp_path / SAMPLES).write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ExportError, match=f"{SAMPLES}: got"):
        read_samples(tmp_path)
