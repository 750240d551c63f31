"""The two DFT back ends agree, and one reaches ONNX Runtime (`training/test_accelerators.py`: both reach CUDA, TPU)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdall_jax.config import FeatureConfig
from heimdall_jax.features.extract import extract, parts_to_features
from heimdall_jax.features.spectra import parts_to_mel_spectrogram

RATE = 12_000
TIME_S = np.arange(12_000) / RATE
CONFIGS = (FeatureConfig(), FeatureConfig(sided="envelope"), FeatureConfig(n_fft=1024, hop_length=256, n_mels=64))


def parts(rng: np.random.Generator, tone_hz: float, noise_db: float) -> tuple[jax.Array, jax.Array]:
    noise = rng.standard_normal((2, 12_000)) * 10 ** (noise_db / 20)
    angle = 2 * np.pi * tone_hz * TIME_S
    return jnp.asarray(np.cos(angle) + noise[0], jnp.float32), jnp.asarray(np.sin(angle) + noise[1], jnp.float32)


@pytest.mark.parametrize("config", CONFIGS, ids=("default", "envelope", "long"))
@settings(deadline=None, max_examples=10)
@given(tone_hz=st.floats(-6000, 6000), noise_db=st.floats(-200, 20), seed=st.integers(0, 99))
def test_backends_agree_near_the_peak_in_db_and_below_it_in_power(config, tone_hz, noise_db, seed):
    i, q = parts(np.random.default_rng(seed), tone_hz, noise_db)
    fft, matmul = (
        np.asarray(parts_to_mel_spectrogram(i, q, config, backend=backend), np.float64) for backend in ("fft", "matmul")
    )
    peak = fft.max(axis=0, keepdims=True)
    near = fft > peak - 40
    np.testing.assert_allclose(matmul[near], fft[near], atol=1e-3)
    share = np.abs(10 ** ((fft - peak) / 10) - 10 ** ((matmul - peak) / 10))
    assert share[~near].max(initial=0) < 1e-6


def test_every_matrix_product_asks_for_full_precision():
    # GPUs and TPUs default to TF32 and bfloat16 products, which would cost 40 dB of dynamic range.
    text = str(jax.make_jaxpr(extract(FeatureConfig(), "matmul"))(jnp.zeros((1, 1, 12_000), jnp.complex64)))
    assert text.count("dot_general[") == text.count("Precision.HIGHEST") // 2 == 4


@pytest.mark.parametrize("sided", ["two", "envelope"])
def test_matmul_path_exports_from_float32_i_and_q_with_dynamic_batch_and_receivers(sided):
    import jax2onnx
    import onnxruntime

    config = FeatureConfig(sided=sided)

    def graph(i, q):
        features = parts_to_features(i, q, config)
        return features["mel_spectrogram"], features["rss_db"]

    model = jax2onnx.to_onnx(graph, inputs=[("B", "R", 12_000), ("B", "R", 12_000)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    for batch, receivers in ((1, 3), (2, 5)):
        parts = np.random.default_rng(0).standard_normal((2, batch, receivers, 12_000)).astype(np.float32)
        outputs = session.run(None, dict(zip(names, parts, strict=True)))
        # The matrix path in ONNX Runtime against the FFT path in JAX: what serving and training would do.
        expected = extract(config)(jax.lax.complex(*parts))
        np.testing.assert_allclose(outputs[0], np.asarray(expected["mel_spectrogram"]), atol=1e-3)
        np.testing.assert_allclose(outputs[1], np.asarray(expected["rss_db"]), atol=1e-4)
