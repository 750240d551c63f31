"""The shadowing field's statistics over many draws, against the closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from heimdall_jax.simulation.shadowing import draw_field, field_at

CORRELATION_M = 20_000.0
COUNT = 4000
FIELD = draw_field(jax.random.key(7), stations=COUNT, correlation_m=CORRELATION_M)


def values(east_m, north_m):
    """Every field's value at one place: fields of different stations are independent draws."""
    return np.asarray(field_at(FIELD, jnp.array([east_m, north_m], jnp.float32)), np.float64)


@pytest.mark.parametrize("distance_m", [0.0, 500.0, 2000.0, 10_000.0, 20_000.0, 60_000.0])
@pytest.mark.parametrize("bearing_deg", [0.0, 130.0])
def test_covariance_is_exponential(distance_m, bearing_deg):
    start = np.array([31_000.0, -12_000.0])
    bearing = np.deg2rad(bearing_deg)
    end = start + distance_m * np.array([np.sin(bearing), np.cos(bearing)])
    product = values(*start) * values(*end)
    expected = np.exp(-distance_m / CORRELATION_M)  # Gudmundson 1991
    assert product.mean() == pytest.approx(expected, abs=4 * product.std() / np.sqrt(COUNT))


def test_values_are_standard_normal():
    assert scipy.stats.kstest(values(5000.0, 8000.0), "norm").pvalue > 1e-3


def test_stations_are_independent():
    here, there = values(0.0, 0.0)[: COUNT // 2], values(0.0, 0.0)[COUNT // 2 :]
    assert abs(np.corrcoef(here, there)[0, 1]) < 4 / np.sqrt(COUNT / 2)


def test_same_key_same_field():
    again = draw_field(jax.random.key(7), stations=COUNT, correlation_m=CORRELATION_M)
    np.testing.assert_array_equal(again.phase_RW, FIELD.phase_RW)
    other = draw_field(jax.random.key(8), stations=COUNT, correlation_m=CORRELATION_M)
    assert not np.any(np.asarray(other.phase_RW) == np.asarray(FIELD.phase_RW))
