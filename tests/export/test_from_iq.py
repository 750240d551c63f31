"""One graph from raw IQ to the place: it says what JAX says, and what training's own features lead to."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from heimdall_jax.config import Config, FeatureConfig, ModelConfig, TimingConfig, TrainingConfig
from heimdall_jax.errors import DataError, ExportError
from heimdall_jax.export.bundle import read_bundle
from heimdall_jax.export.from_iq import raw_names, takes_iq
from heimdall_jax.export.release import export_model, read_samples, validate
from heimdall_jax.models.build import build, input_names
from heimdall_jax.registry.inputs import receiver_inputs
from heimdall_jax.registry.recordings import recording_inputs
from heimdall_jax.registry.runtime import Runtime
from heimdall_jax.simulation.sessions import SimulatedSessions
from heimdall_jax.simulation.world import World
from heimdall_jax.training.batches import evaluation_batches
from heimdall_jax.training.dataset import HeimdallDataset, fit_domain
from heimdall_jax.training.step import Trainer
from heimdall_jax.types import Domain, Sample, Session
from heimdall_jax.worlds import TIMING_WORLD

pytestmark = pytest.mark.slow

CONFIG = Config(
    model=ModelConfig(name="receiver_set", width=16, depth=1, heads=2, identity=False, timing=True, spectrogram=True)
)
COUNT = 8


@pytest.fixture(scope="module")
def sessions() -> list[Session]:
    return SimulatedSessions(World.build(TIMING_WORLD), "test", COUNT).__getitems__(range(COUNT))


@pytest.fixture(scope="module")
def dataset() -> HeimdallDataset:
    world = World.build(TIMING_WORLD)
    names = [station.name for station in world.stations]
    return HeimdallDataset(
        SimulatedSessions(world, "test", COUNT),
        origin_deg=world.origin_deg,
        rows=names,
        known=names,
        features=FeatureConfig(),
        timing=TimingConfig(),
    )


@pytest.fixture(scope="module")
def domain(dataset) -> Domain:
    return fit_domain(dataset, World.build(TIMING_WORLD).origin_deg, dataset.rows)


@pytest.fixture(scope="module")
def network(domain) -> nnx.Module:
    return build(CONFIG.model, domain, nnx.Rngs(0), n_mels=CONFIG.features.n_mels)


@pytest.fixture(scope="module")
def samples(sessions, domain) -> Sample:
    return recording_inputs(sessions, domain, samples=11_982, sample_rate_hz=12_000.0)[0]


@pytest.fixture(scope="module")
def folder(network, domain, samples, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    export_model(network, folder, config=CONFIG, domain=domain, samples=samples)
    return folder


def test_the_graph_takes_recordings_of_any_batch_and_receivers(folder):
    manifest = read_bundle(folder).manifest
    assert {tensor.name: (tensor.dtype, tensor.shape) for tensor in manifest.inputs} == {
        "i": ("float32", ("B", "R", 11_982)),
        "q": ("float32", ("B", "R", 11_982)),
        "receiver_deg": ("float64", ("B", "R", 2)),
        "altitude_m": ("float32", ("B", "R")),
        "clock_sigma_s": ("float32", ("B", "R")),
        "heard": ("float32", ("B", "R")),
        "present": ("float32", ("B", "R")),
    }
    assert [tensor.name for tensor in manifest.inputs if tensor.optional] == ["present"]
    assert (manifest.samples, manifest.sample_rate_hz) == (11_982, 12_000.0)
    assert takes_iq(CONFIG.model)
    assert raw_names(CONFIG.model) == tuple(tensor.name for tensor in manifest.inputs)


def test_the_runtime_says_from_recordings_what_training_says_from_its_features(
    folder, network, dataset, domain, sessions
):
    """Features in float32 there, in float64 here: a hundredth of a sigma is the contract."""
    trainer = Trainer(network, TrainingConfig(batch_size=8), total_steps=1, seed=0, inputs=input_names(CONFIG.model))
    position_m, covariance_m2 = trainer.predict(trainer.start(), evaluation_batches(dataset, COUNT))
    runtime = Runtime.load(folder, threads=1)
    fixes = runtime.locate(receiver_inputs(sessions, runtime.manifest))
    factor = np.linalg.cholesky(covariance_m2)
    off = np.linalg.solve(factor, (fixes.position_m - position_m)[..., None])[..., 0]
    assert np.linalg.norm(off, axis=1).max() < 0.01
    np.testing.assert_allclose(
        np.einsum("bii->bi", fixes.covariance_m2), np.einsum("bii->bi", covariance_m2), rtol=0.01
    )


def test_threads_that_share_a_batch_say_what_one_says(folder, sessions):
    """Eight recordings are two parts, one for each thread."""
    inputs = receiver_inputs(sessions, Runtime.load(folder, threads=1).manifest)
    alone, shared = (Runtime.load(folder, threads=threads).locate(inputs) for threads in (1, 2))
    np.testing.assert_allclose(shared.position_m, alone.position_m, rtol=0, atol=0.01)
    np.testing.assert_allclose(shared.covariance_m2, alone.covariance_m2, rtol=1e-5)


def test_a_bundle_is_proved_and_an_altered_weight_is_named(folder, network, domain, tmp_path):
    report = validate(folder, network, read_samples(folder), config=CONFIG, domain=domain)
    assert max(row.position_m for row in report.rows) < 0.1
    assert {row.batch for row in report.rows} == {1, 3, 8}
    assert {row.receivers for row in report.rows} == {3, 4, 7}
    other = build(CONFIG.model, domain, nnx.Rngs(1), n_mels=CONFIG.features.n_mels)
    with pytest.raises(ExportError, match="weight"):
        validate(folder, other, read_samples(folder), config=CONFIG, domain=domain)
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run" / "manifest.json").unlink()
    with pytest.raises(ExportError, match=r"manifest\.json"):
        read_bundle(tmp_path / "run")


def test_what_did_not_hear_changes_nothing_whatever_it_holds(folder, samples):
    runtime = Runtime.load(folder, threads=1)
    wanted = {tensor.name for tensor in runtime.manifest.inputs}
    named = {name: values for name, values in samples.items() if name in wanted}
    deaf = np.arange(7)[None] == np.arange(COUNT)[:, None] % 7
    named["heard"] = named["heard"] & ~deaf
    fixes = runtime.locate(named)
    junk = {name: np.where(deaf[..., None], np.float32(np.nan), named[name]) for name in ("i", "q")}
    junk["clock_sigma_s"] = np.where(deaf, np.float32(np.inf), named["clock_sigma_s"])
    np.testing.assert_array_equal(runtime.locate(named | junk).position_m, fixes.position_m)
    with pytest.raises(DataError, match="q: got NaN"):
        runtime.locate(named | {"q": np.full_like(named["q"], np.nan)})
    unknown = runtime.locate(named | {"clock_sigma_s": np.full_like(named["clock_sigma_s"], np.inf)})
    assert (np.linalg.det(unknown.covariance_m2) >= np.linalg.det(fixes.covariance_m2) * 0.99).all()


def test_recordings_that_cannot_be_used_do_not_count(sessions, domain):
    iq_RT = sessions[0].iq_RT
    assert iq_RT is not None
    broken = iq_RT.copy()
    hearing = np.flatnonzero(sessions[0].heard_R)
    broken[hearing[0], 5] = np.nan
    session = dataclasses.replace(sessions[0], iq_RT=broken)
    batch, refused = recording_inputs([session], domain, samples=11_982, sample_rate_hz=12_000.0)
    assert refused == [{session.receivers[hearing[0]]: "IQ holds NaN or infinity"}]
    assert not batch["heard"][0, hearing[0]]
    assert batch["present"][0, hearing[0]]
    for changes, reason in (
        ({"iq_RT": iq_RT[:, :100]}, "100 samples, 11982 are needed"),
        ({"sample_rate_hz": 8000.0}, "a sample rate of 8000.0 Hz, 12000 is needed"),
        ({"iq_RT": None}, "0 samples, 11982 are needed"),
    ):
        changed = dataclasses.replace(sessions[0], **changes)
        _, refused = recording_inputs([changed], domain, samples=11_982, sample_rate_hz=12_000.0)
        assert set(refused[0].values()) == {reason}
    with pytest.raises(DataError, match="sessions: got 0 without a receiver"):
        recording_inputs([], domain, samples=11_982, sample_rate_hz=12_000.0)
