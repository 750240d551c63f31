"""Signals and what receivers with a noise floor read of them."""

import jax.numpy as jnp
import numpy as np
import pytest

from heimdall_jax.propagation import (
    MARGIN_DB,
    NO_FLOOR_DB,
    NOISE_DB,
    least_signal_db,
    reading_db,
    reading_slope,
    signal_db,
    signal_noise_db2,
)

FLOOR_DB = -95.0
SIGNALS_DB = np.linspace(-97.0, -40.0, 58)


def test_readings_add_watts_and_signals_come_back():
    read_db = reading_db(SIGNALS_DB, FLOOR_DB, np)
    np.testing.assert_allclose(10 ** (read_db / 10), 10 ** (SIGNALS_DB / 10) + 10 ** (FLOOR_DB / 10), rtol=1e-12)
    np.testing.assert_allclose(signal_db(read_db, FLOOR_DB, np), SIGNALS_DB, atol=1e-9)


def test_at_the_margin_is_the_least_signal():
    assert reading_db(least_signal_db(FLOOR_DB), FLOOR_DB, np) == pytest.approx(FLOOR_DB + MARGIN_DB)
    assert signal_db(FLOOR_DB - 3.0, FLOOR_DB, np) == pytest.approx(least_signal_db(FLOOR_DB))


def test_slope_and_noise_are_derivatives():
    step = 1e-4
    rise = reading_db(SIGNALS_DB + step, FLOOR_DB, np) - reading_db(SIGNALS_DB - step, FLOOR_DB, np)
    np.testing.assert_allclose(reading_slope(SIGNALS_DB, FLOOR_DB, np), rise / (2 * step), rtol=1e-6)
    read_db = reading_db(SIGNALS_DB, FLOOR_DB, np)
    moved = signal_db(read_db, FLOOR_DB + step, np) - signal_db(read_db, FLOOR_DB - step, np)
    np.testing.assert_allclose(signal_noise_db2(read_db, FLOOR_DB, np), (NOISE_DB * moved / (2 * step)) ** 2, rtol=1e-4)


def test_without_a_floor_a_reading_is_the_signal_in_float32_too():
    read_db = jnp.asarray(SIGNALS_DB, jnp.float32)
    for function in (signal_db, reading_db):
        np.testing.assert_allclose(function(read_db, jnp.float32(NO_FLOOR_DB), jnp), read_db, rtol=1e-6)
    np.testing.assert_array_equal(signal_noise_db2(read_db, jnp.float32(NO_FLOOR_DB), jnp), 0.0)
    np.testing.assert_allclose(reading_slope(read_db, jnp.float32(NO_FLOOR_DB), jnp), 1.0, rtol=1e-5)
