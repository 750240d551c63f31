"""Each section measures what it says, small; a peer that is not installed is named and left out."""

import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from rich.console import Console

from heimdall_jax.benchmarks import features, inference, inputs, sections, startup, training
from heimdall_jax.benchmarks.race import OURS
from heimdall_jax.config import ModelConfig
from heimdall_jax.errors import ConfigError, StorageError
from heimdall_jax.features.lags import block_lag_products, two_sided
from heimdall_jax.models.localization_net import LocalizationNet
from heimdall_jax.models.receiver_set import ReceiverSetNet
from heimdall_jax.models.tokens import FEATURES
from heimdall_jax.types import Domain


@pytest.fixture
def without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Stands in for `train.py`."""

    def write(text):
        path = tmp_path / "train.py"
        path.write_text(text)
        monkeypatch.setattr(startup, "TRAIN", path)

    return write


def quiet() -> Console:
    return Console(quiet=True)


@pytest.mark.parametrize(("section", "repeats"), [("everything", 7), ("features", 0)])
def test_what_cannot_be_measured_is_refused(section, repeats):
    with pytest.raises(ConfigError, match=r"section|--repeats"):
        sections.bench(section, repeats=repeats, out=None, console=quiet())


@pytest.mark.slow
def test_features_are_measured_and_written(monkeypatch, tmp_path):
    def absent(iq, config):
        raise ImportError("No module named 'torch'")

    monkeypatch.setattr(features, "_torch_mel", absent)
    monkeypatch.setattr(features, "SPECTROGRAMS", ((2, 4_000, 512, 256, 12_000.0),))
    monkeypatch.setattr(features, "CORRELATIONS", (2, 3, 2_000, 8))
    out = tmp_path / "speed.json"
    found = sections.bench("features", repeats=2, out=out, console=quiet())
    mel, pairs = found
    assert mel.timings.keys() == {OURS, "librosa, all at once", "librosa, one by one"}
    assert "torch" in mel.facts["torch.stft"]
    assert mel.met("torch.stft") is None
    assert pairs.timings.keys() == {OURS, "numpy.vdot"}
    written = json.loads(out.read_text())["results"]
    assert [line["work"] for line in written] == [mel.work, pairs.work]


def test_the_peer_of_correlations_does_the_same_work():
    iq = features.noise((2, 3, 1_000))
    real, imaginary = two_sided(*block_lag_products(jnp.real(iq), jnp.imag(iq), blocks=1, max_lag=8)[:2])
    ours = np.asarray(real[:, 0]) + 1j * np.asarray(imaginary[:, 0])
    theirs = features._vdot(iq, 8)
    pairs = [(one, other) for one in range(3) for other in range(one)]
    for column, (one, other) in enumerate(pairs):
        np.testing.assert_allclose(np.abs(theirs[:, column]), np.abs(ours[:, other, one]), rtol=1e-3, atol=1e-2)


@pytest.mark.slow
def test_steps_of_the_set_network_are_measured(without_torch, monkeypatch):
    monkeypatch.setattr(training, "RECEIVERS", 4)
    found = training.receiver_set(1, batch_size=8)
    assert found.timings.keys() == {OURS}
    assert found.facts["parameters"] > 100_000
    assert "torch" in found.facts["PyTorch"]


@pytest.mark.slow
def test_steps_of_the_resnet_are_measured(without_torch, monkeypatch):
    monkeypatch.setattr(training, "PRODUCT", 256)
    found = training.resnet(1, batch_size=8)
    assert 0 < found.ratios[training.PEAK] < float("inf")
    assert found.facts["parameters"] == pytest.approx(11.3e6, rel=0.02)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch, while it is imported
def test_the_peers_have_as_many_parameters():
    pytest.importorskip("torch", reason="needs the extra `bench`")
    from heimdall_jax.benchmarks import peers

    resnet, sets = ModelConfig(receivers=3), ModelConfig(name="receiver_set", identity=False)
    nowhere = Domain(origin_deg=(0.0, 0.0), receivers=())
    pairs = (
        (LocalizationNet(resnet, rngs=nnx.Rngs(0)), peers.ResNet(resnet)),
        (ReceiverSetNet(sets, nowhere, rngs=nnx.Rngs(0)), peers.SetTransformer(sets, FEATURES)),
    )
    for ours, theirs in pairs:
        assert sum(p.numel() for p in theirs.parameters()) == pytest.approx(training._count(ours), rel=0.005)


def test_the_first_step_ends_the_measurement(script, tmp_path):
    script("import time\nprint('reading')\nprint('training 1/9  loss 1')\ntime.sleep(60)\n")
    assert startup._until_first_step(tmp_path / "run") < 30


def test_memory_is_the_largest(script):
    script("held = bytearray(300 << 20)\nheld[::4096] = b'1' * len(held[::4096])\ndel held\n")
    assert 300 < startup._until_end(()) / 2**20 < 600


@pytest.mark.parametrize("measure", [lambda out: startup._until_first_step(out), lambda out: startup._until_end(())])
def test_a_run_that_fails_says_so(script, tmp_path, measure):
    script("raise SystemExit('error: no such thing')\n")
    with pytest.raises(StorageError, match="no such thing"):
        measure(tmp_path / "run")


@pytest.mark.slow
def test_fixes_are_measured(without_torch, monkeypatch):
    monkeypatch.setattr(inference, "FIXES", 3)
    monkeypatch.setattr(inference, "BATCH", 8)
    fix, resnet = sections.bench("infer", repeats=1, out=None, console=quiet())
    assert fix.ratios["p95, ms"] > 0
    assert fix.facts["receivers"] == 7
    assert resnet.timings.keys() == {OURS}


@pytest.mark.slow
def test_waiting_is_measured(monkeypatch):
    monkeypatch.setattr(inputs, "SESSIONS", 64)
    monkeypatch.setattr(inputs, "STEPS", 2)
    (found,) = sections.bench("input", repeats=1, out=None, console=quiet())
    assert 0 <= found.ratios["waiting, % of a step"] <= 100
