"""Negative log-likelihoods against SciPy in float64, and their gradients at extremes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from heimdall_jax.errors import DataError
from heimdall_jax.training.losses import gaussian_nll

metres = st.floats(-1e7, 1e7, width=32)
sigmas = st.floats(-3.0, 7.0).map(lambda exponent: 10.0**exponent)


def factor_of(east: float, north: float, correlation: float) -> np.ndarray:
    """Lower Cholesky factor of a covariance."""
    return np.array([[east, 0.0], [correlation * north, north * np.sqrt(1 - correlation**2)]])


def f32(*values) -> tuple[jax.Array, ...]:
    return tuple(jnp.asarray(value, jnp.float32) for value in values)


def norm_nll(residual, sigma, error=0.0) -> float:
    spread = np.hypot(np.asarray(sigma, np.float64), error)
    return float(-stats.norm.logpdf(np.asarray(residual, np.float64), scale=spread).sum())


@settings(max_examples=100, deadline=None)
@given(metres, metres, sigmas, sigmas, st.sampled_from([None, 0.0, 3.0, 1e4]))
def test_diagonal_is_scipy_norm(x, y, east, north, error):
    position, scale, truth = f32([0.0, 0.0], [east, north], [x, y])
    want = norm_nll([float(truth[0]), float(truth[1])], np.asarray(scale), error or 0.0)
    got = gaussian_nll(position, scale, truth, None if error is None else f32(error)[0])
    np.testing.assert_allclose(float(got), want, rtol=1e-5, atol=1e-4)


@settings(max_examples=100, deadline=None)
@given(
    st.floats(-4, 4),
    st.floats(-4, 4),
    sigmas,
    st.floats(0.05, 20.0),
    st.floats(-0.97, 0.97),
    st.sampled_from([0, 1, 50]),
)
def test_full_covariance_is_scipy_multivariate_normal(u, v, east, ratio, correlation, error_in_east):
    factor = factor_of(east, east * ratio, correlation).astype(np.float32)
    residual = (factor @ np.array([u, v])).astype(np.float32)
    error = np.float32(error_in_east * east)
    exact = factor.astype(np.float64)
    covariance = exact @ exact.T + np.eye(2) * float(error) ** 2
    oracle = stats.multivariate_normal(cov=covariance)  # pyright: ignore[reportArgumentType] - its stub says int
    want = -oracle.logpdf(residual.astype(np.float64))
    got = gaussian_nll(*f32(np.zeros(2), factor, residual, error))
    np.testing.assert_allclose(float(got), want, rtol=1e-4, atol=2e-3)


def test_density_is_per_square_metre():
    # At the mean of a unit Gaussian in the plane the density is 1 / (2 pi).
    got = gaussian_nll(*f32(np.zeros(2), np.ones(2), np.zeros(2)))
    assert float(got) == pytest.approx(np.log(2 * np.pi), rel=1e-6)


def test_a_diagonal_factor_is_the_diagonal_form_elementwise():
    rng = np.random.default_rng(0)
    position, truth = f32(*rng.normal(size=(2, 3, 4, 2)))
    sigma = jnp.exp(f32(rng.normal(size=(3, 4, 2)))[0])
    factor = sigma[..., None] * jnp.eye(2, dtype=jnp.float32)[None, None]
    error = jnp.abs(f32(rng.normal(size=(3, 4)))[0])
    diagonal = gaussian_nll(position, sigma, truth, error)
    assert diagonal.shape == (3, 4)
    np.testing.assert_allclose(gaussian_nll(position, factor, truth, error), diagonal, rtol=1e-5)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("error", [None, 0.0, 1e-3, 1e7])
def test_gradients_are_finite_at_extremes(full, error):
    for east in (1e-3, 1.0, 1e7):
        for north in (1e-3, 1e7):
            for residual in (0.0, 1e-3, 1e7):
                scale = factor_of(east, north, 0.98) if full else np.array([east, north])
                position, scale, truth = f32([0.0, 0.0], scale, [residual, -residual])
                error_m = None if error is None else f32(error)[0]
                value, gradients = jax.value_and_grad(gaussian_nll, argnums=(0, 1))(position, scale, truth, error_m)
                assert np.isfinite(float(value))
                assert all(np.isfinite(np.asarray(gradient)).all() for gradient in gradients)


@pytest.mark.parametrize(
    ("what", "shapes"),
    [
        ("truth_m", [(5, 2), (5, 2), (1, 2), (5,)]),
        ("scale_m", [(5, 2), (5, 1), (5, 2), (5,)]),
        ("scale_m", [(5, 2), (1, 2, 2), (5, 2), (5,)]),
        ("position_m", [(5, 3), (5, 3), (5, 3), (5,)]),
        ("truth_error_m", [(5, 2), (5, 2), (5, 2), (1,)]),
    ],
)
def test_shapes_are_checked_before_subtracting(what, shapes):
    with pytest.raises(DataError, match=what):
        gaussian_nll(*(jnp.ones(shape, jnp.float32) for shape in shapes))
