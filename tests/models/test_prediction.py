"""What float64 predictions are for: in float32 a solver's weak directions are rounded by metres."""

import jax
import numpy as np
import pytest
from flax import nnx

from heimdall_jax.config import ModelConfig
from heimdall_jax.geodesy import SPEED_OF_LIGHT_M_PER_S
from heimdall_jax.models.build import build, input_names
from heimdall_jax.models.prediction import precision_of, predict, predicts_in_double
from heimdall_jax.types import Domain, Sample

DOMAIN = Domain((44.9365, 8.1965), ("a",), (0.0, 0.0), 38_000.0, -85.0, 9.0)
TIMED = ModelConfig(name="receiver_set", width=16, depth=1, heads=2, timing=True)


def samples(count: int = 64, receivers: int = 7) -> Sample:
    """Receivers nearly on one line, and clocks from 50 ns to 1 ms: directions that times fix a thousand times worse."""
    rng = np.random.default_rng(0)
    place_m = np.stack(
        [rng.uniform(-7e4, 7e4, (count, receivers)), rng.uniform(-300, 300, (count, receivers))], axis=-1
    )
    truth_m = rng.uniform(-6e4, 6e4, (count, 1, 2))
    heard = rng.random((count, receivers)) < 0.8
    clock_s = rng.choice([50e-9, 1e-6, 20e-6, 1e-3], (count, 1)) * np.ones((1, receivers))
    arrival_s = np.linalg.norm(place_m - truth_m, axis=2) / SPEED_OF_LIGHT_M_PER_S + rng.normal(0, clock_s)
    valid = heard[:, :, None] & heard[:, None] & ~np.eye(receivers, dtype=bool)
    single = {
        "rss_db": rng.normal(-85, 9, heard.shape),
        "receiver_m": place_m,
        "receiver_up_m": rng.uniform(0, 600, heard.shape),
        "clock_sigma_s": clock_s,
        "tdoa_s": np.where(valid, arrival_s[:, :, None] - arrival_s[:, None], 0.0),
        "arrival_precision_per_s2": np.where(heard, 1 / 20e-9**2, 0.0),
    }
    masks = {"heard": heard, "present": np.ones_like(heard), "timing_valid": valid}
    identity = np.zeros(heard.shape, np.int32)
    return {name: value.astype(np.float32) for name, value in single.items()} | masks | {"identity": identity}


@pytest.mark.slow
def test_float32_is_metres_off_where_receivers_stand_on_one_line():
    network = build(TIMED, DOMAIN, nnx.Rngs(0))
    network.eval()
    assert predicts_in_double(network)
    named = {name: samples()[name] for name in input_names(TIMED)}
    with precision_of(network):
        exact = jax.jit(lambda arrays: tuple(predict(network, arrays)))(named)
    single = jax.jit(lambda arrays: tuple(network(**arrays)))(named)  # pyright: ignore[reportCallIssue]
    assert np.asarray(exact[0]).dtype == np.float64
    assert np.asarray(single[0]).dtype == np.float32
    offset_m = np.linalg.norm(np.asarray(single[0], np.float64) - np.asarray(exact[0]), axis=1)
    assert offset_m.max() > 1.0
