"""The timing features as a graph with dynamic batch and receivers: what ONNX Runtime gives is what JAX gives."""

import logging
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from delayed_signals import RATE_HZ, received, spectrum_of

from heimdall_jax.config import TimingConfig
from heimdall_jax.features.tdoa import iq_to_timing, parts_to_timing

N = 12_000
CONFIG = TimingConfig()
KEYS = ("tdoa_s", "timing_valid", "snr_db", "bandwidth_hz", "offset_hz", "tdoa_precision_per_s2", "lag_curve")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    from jax2onnx import to_onnx

    def features(i, q, heard):
        got = parts_to_timing(i, q, heard, CONFIG, sample_rate_hz=RATE_HZ)
        return tuple(got[key] for key in KEYS)

    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    shapes = [("B", "R", N), ("B", "R", N), ("B", "R")]
    with jax.numpy_rank_promotion("allow"), warnings.catch_warnings():
        # A notice of the exporter's own use of a library.
        warnings.filterwarnings("ignore", "'.value' access is now deprecated", DeprecationWarning)
        graph = to_onnx(
            features,
            [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes],
            opset=23,
            input_names=["i", "q", "heard"],
            output_names=list(KEYS),
        )
    return onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(("batch", "receivers"), [(1, 7), (3, 2), (2, 4)])
def test_the_graph_gives_what_jax_gives(session, batch, receivers):
    rng = np.random.default_rng(receivers)
    delay_s = rng.uniform(-3, 3, (batch, receivers)) / RATE_HZ
    offset_hz = rng.uniform(-15, 15, delay_s.shape)
    iq = received(spectrum_of("fm", rng, batch, N), delay_s, snr_db=20.0, offset_hz=offset_hz, rng=rng)
    heard = np.ones(delay_s.shape, np.float32)
    if receivers > 2:
        heard[0, 1] = 0
    feed = {"i": iq.real.copy(), "q": iq.imag.copy(), "heard": heard}
    got = dict(zip(KEYS, session.run(list(KEYS), feed), strict=True))
    expected = {key: np.asarray(value) for key, value in iq_to_timing(iq, heard, CONFIG, RATE_HZ).items()}
    assert all(got[key].dtype == np.float32 and got[key].shape == expected[key].shape for key in KEYS)
    np.testing.assert_array_equal(got["timing_valid"], expected["timing_valid"])
    assert got["timing_valid"].any(axis=(1, 2)).all()
    np.testing.assert_allclose(got["tdoa_s"], expected["tdoa_s"], atol=1e-9)
    np.testing.assert_allclose(got["snr_db"], expected["snr_db"], atol=0.01)
    np.testing.assert_allclose(got["bandwidth_hz"], expected["bandwidth_hz"], rtol=1e-4)
    np.testing.assert_allclose(got["offset_hz"], expected["offset_hz"], atol=1e-3)
    np.testing.assert_allclose(got["tdoa_precision_per_s2"], expected["tdoa_precision_per_s2"], rtol=1e-2)
    np.testing.assert_allclose(got["lag_curve"], expected["lag_curve"], atol=1e-5)
