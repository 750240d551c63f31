"""Bounds are smooth, gradients never vanish, covariances are sound."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdall_jax.config import ModelConfig
from heimdall_jax.models.heads import MAX_CORRELATION, SigmaHead, before_bound, cholesky_factor, smooth_bound

LOW, HIGH = math.log(1.0), math.log(1e6)


@settings(max_examples=50, deadline=None)
@given(st.floats(-1e9, 1e9, width=32))
def test_bound_holds_and_its_gradient_never_vanishes(x):
    value, slope = jax.value_and_grad(lambda x: smooth_bound(x, LOW, HIGH))(jnp.float32(x))
    assert LOW - 1e-5 <= float(value) <= HIGH + 1e-5
    assert 0.0 < float(slope) <= 1.0


def test_bound_rises_with_slope_one_in_the_middle():
    values = smooth_bound(jnp.linspace(-40, 40, 801, dtype=jnp.float32), LOW, HIGH)
    assert bool(jnp.all(jnp.diff(values) > 0))
    middle = (LOW + HIGH) / 2
    assert float(smooth_bound(jnp.float32(0.0), LOW, HIGH)) == pytest.approx(middle, rel=1e-6)
    assert float(jax.grad(lambda x: smooth_bound(x, LOW, HIGH))(jnp.float32(0.0))) == pytest.approx(1.0)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.02, 0.98))
def test_before_bound_is_the_inverse(share):
    value = LOW + share * (HIGH - LOW)
    assert float(smooth_bound(jnp.float32(before_bound(value, LOW, HIGH)), LOW, HIGH)) == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize("start_m", [5.0, 700.0, 60_000.0])
def test_sigma_starts_at_the_spread_of_the_truths(start_m):
    head = SigmaHead(16, start_m, ModelConfig(dropout=0.0), rngs=nnx.Rngs(0))
    features = jnp.asarray(np.random.default_rng(0).normal(size=(50, 16)), jnp.float32)
    np.testing.assert_allclose(np.median(head(features)), start_m, rtol=0.1)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3))
def test_cholesky_factor_is_lower_bounded_and_positive(raw):
    factor = np.asarray(cholesky_factor(jnp.asarray(raw, jnp.float32), LOW, HIGH), np.float64)
    assert factor[0, 1] == 0
    assert (np.diag(factor) > 0).all()
    covariance = factor @ factor.T
    sigma = np.sqrt(np.diag(covariance))
    assert (sigma > 0.999).all()
    assert (sigma < 1.001e6).all()
    assert abs(covariance[0, 1]) <= (MAX_CORRELATION + 1e-6) * sigma[0] * sigma[1]


def test_cholesky_gradients_are_finite_and_nonzero_at_extremes():
    for extreme in (-1e6, -100.0, 0.3, 100.0, 1e6):
        raw = jnp.full((3,), extreme, jnp.float32)
        jacobian = np.asarray(jax.jacobian(lambda raw: jnp.log(jnp.diag(cholesky_factor(raw, LOW, HIGH))))(raw))
        assert np.isfinite(jacobian).all()
        assert (np.abs(jacobian).max(axis=0) > 0).all()
