"""Features and train steps lower for accelerators: the check that a machine without one can make."""

import functools

import jax
import jax.numpy as jnp
import pytest

from heimdall_jax.config import FeatureConfig, TimingConfig
from heimdall_jax.features.cepstra import compute_mfcc
from heimdall_jax.features.extract import TIMING, extract, samples_needed
from heimdall_jax.features.tdoa import iq_to_timing
from tests.training.step_program import NETWORKS, batch_shapes, trainer_of, training_of

PLATFORMS = ("cuda", "tpu")
FEATURES = FeatureConfig()
IQ = jax.ShapeDtypeStruct((2, 3, samples_needed(FEATURES)), jnp.complex64)
HEARD = jax.ShapeDtypeStruct((2, 3), jnp.bool)


HALF = {"precision": "bfloat16", "rematerialise": True}


@pytest.mark.parametrize(
    ("network", "settings"),
    [
        *(
            pytest.param(network, {}, id=f"{network}-plain", marks=[pytest.mark.slow] * (network == "convnext"))
            for network in NETWORKS
        ),
        pytest.param("receiver_set", HALF, id="receiver_set-half"),
        *(
            pytest.param(network, HALF, id=f"{network}-half", marks=pytest.mark.slow)
            for network in NETWORKS
            if network != "receiver_set"
        ),
    ],
)
def test_a_train_step_lowers(network, settings):
    devices = jax.device_count()
    trainer = trainer_of(NETWORKS[network], training_of(network, batch_size=devices, **settings))
    state, batch = trainer.shapes(batch_shapes(devices))
    exported = jax.export.export(trainer.step, platforms=PLATFORMS)(state, batch)
    assert exported.platforms == PLATFORMS
    assert exported.nr_devices == devices
    assert [leaf.dtype for leaf in exported.out_avals[: len(jax.tree.leaves(state))]] == [
        leaf.dtype for leaf in jax.tree.leaves(state)
    ]


@pytest.mark.parametrize("backend", ["fft", "matmul"])
def test_spectrograms_and_cepstra_lower(backend):
    def features(iq):
        mel = extract(FEATURES, backend)(iq)["mel_spectrogram"]
        return mel, compute_mfcc(mel, 20)

    exported = jax.export.export(jax.jit(features), platforms=PLATFORMS)(IQ)
    assert [aval.shape for aval in exported.out_avals] == [(2, 3, 128, 32), (2, 3, 20, 32)]


@pytest.mark.parametrize("method", ["plain", "scot"])
def test_arrival_times_lower(method):
    timing = TimingConfig(method=method)
    together = jax.export.export(jax.jit(extract(FEATURES, timing=timing)), platforms=PLATFORMS)(IQ, HEARD)
    assert len(together.out_avals) == len(TIMING) + 2
    times = jax.jit(functools.partial(iq_to_timing, config=timing, sample_rate_hz=FEATURES.sample_rate_hz))
    alone = jax.export.export(times, platforms=PLATFORMS)(IQ, HEARD)
    assert alone.platforms == PLATFORMS
