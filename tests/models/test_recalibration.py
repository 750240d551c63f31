"""What changes a network's regions after training."""

import jax.numpy as jnp
import numpy as np
import pytest

from heimdall_jax.models.heads import Fix
from heimdall_jax.models.recalibration import Recalibration

USED = jnp.asarray([[True, True, False, False], [True, True, True, True]])
PLACES_M = jnp.asarray([[1.0, 2.0], [3.0, 4.0]])


def set_to(*coefficients):
    module = Recalibration()
    module.coefficients[...] = jnp.asarray(coefficients, jnp.float32)
    return module


def test_it_changes_nothing_until_it_is_set():
    scale_m = jnp.asarray([[[2.0, 0.0], [1.0, 3.0]], [[50.0, 0.0], [-4.0, 7.0]]])
    fix = Recalibration()(Fix(PLACES_M, scale_m), USED)
    np.testing.assert_array_equal(fix.position_m, PLACES_M)
    np.testing.assert_array_equal(fix.scale_m, scale_m)


@pytest.mark.parametrize("shape", ["sigma", "cholesky"])
def test_the_factor_by_hand(shape):
    """Spread 8 of two: exp(0.1 + 0.5 ln(8 / 2)) = 2 exp(0.1); spread 1 counts as 2, its four receivers as three."""
    module = set_to(0.1 - 0.5 * np.log(2.0) - 0.4, 0.5, 0.2, np.log(2.0), np.log(100.0), 1.0, 3.0)
    sigma_m = jnp.asarray([[4.0, 16.0], [1.0, 1.0]])
    scale_m = sigma_m if shape == "sigma" else sigma_m[:, None] * jnp.eye(2)[None]
    grown = module(Fix(PLACES_M, scale_m), USED).scale_m / jnp.where(scale_m == 0, 1.0, scale_m)
    factors = np.asarray(grown.reshape(2, -1)).max(axis=1)
    np.testing.assert_allclose(factors, [2 * np.exp(0.1), np.exp(0.1 + 0.2)], rtol=1e-5)
