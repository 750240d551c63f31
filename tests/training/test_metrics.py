"""The laws that let metrics be summed batch by batch."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from heimdall_jax.errors import DataError
from heimdall_jax.training.metrics import Mean, Metrics

# Small whole numbers: their float32 sums are exact, so the laws must hold to the bit.
whole = st.integers(-64, 64).map(float)
batches = st.tuples(
    arrays(np.float32, 6, elements=whole),
    arrays(np.float32, (6, 2), elements=whole),
    arrays(np.float32, 6, elements=st.sampled_from([0.0, 1.0, 2.0])),
)


def metrics_of(batch) -> Metrics:
    """A batch whose distances are whole numbers: along one axis only."""
    nll, position_m, weight = map(jnp.asarray, batch)
    return Metrics.of(nll, position_m * jnp.array([[1.0, 0.0]]), jnp.zeros_like(position_m), weight)


def leaves(metrics: Metrics) -> list[float]:
    return [float(leaf) for leaf in jax.tree.leaves(metrics)]


@settings(deadline=None, max_examples=15)
@given(batches, batches, batches)
def test_merge_is_associative_and_commutative(a, b, c):
    a, b, c = map(metrics_of, (a, b, c))
    assert leaves(a.merge(b).merge(c)) == leaves(a.merge(b.merge(c)))
    assert leaves(a.merge(b)) == leaves(b.merge(a))


@settings(deadline=None, max_examples=10)
@given(batches)
def test_empty_is_neutral_on_both_sides(batch):
    metrics = metrics_of(batch)
    assert leaves(Metrics.empty().merge(metrics)) == leaves(metrics) == leaves(metrics.merge(Metrics.empty()))


@settings(deadline=None, max_examples=15)
@given(batches, st.integers(0, 6))
def test_cutting_a_batch_in_two_changes_nothing(batch, cut):
    first, second = tuple(x[:cut] for x in batch), tuple(x[cut:] for x in batch)
    assert leaves(metrics_of(first).merge(metrics_of(second))) == leaves(metrics_of(batch))


def test_compute_is_numpys_weighted_average():
    """Oracle: numpy.average, and the 3-4-5 triangle."""
    rng = np.random.default_rng(0)
    nll, weight = rng.normal(20, 3, 50).astype(np.float32), rng.uniform(0, 2, 50).astype(np.float32)
    position_m = rng.normal(0, 1e4, (50, 2)).astype(np.float32)
    truth_m = position_m + np.array([[300.0, -400.0]], np.float32)
    truth_m[::2] = position_m[::2] + np.array([[0.0, 1000.0]], np.float32)
    got = Metrics.of(*map(jnp.asarray, (nll, position_m, truth_m, weight))).compute()
    distance = np.where(np.arange(50) % 2 == 0, 1000.0, 500.0)
    assert got["loss"] == pytest.approx(np.average(nll, weights=weight), rel=1e-5)
    assert got["error_m"] == pytest.approx(np.average(distance, weights=weight), rel=1e-5)
    assert got["rmse_m"] == pytest.approx(np.sqrt(np.average(distance**2, weights=weight)), rel=1e-5)
    assert got["count"] == pytest.approx(weight.sum(), rel=1e-6)


def test_padding_counts_for_nothing_even_when_it_is_nan():
    values, weight = jnp.array([1.0, jnp.nan, 3.0]), jnp.array([1.0, 0.0, 1.0])
    assert Mean.of(values, weight).compute() == 2.0


def test_a_nan_that_counts_is_not_hidden():
    assert np.isnan(Mean.of(jnp.array([1.0, jnp.nan]), jnp.ones(2)).compute())


def test_it_is_a_pytree_that_jit_and_scan_take():
    @jax.jit
    def run(nll_NB):
        def add(total, nll_B):
            zero = jnp.zeros((4, 2))
            return total.merge(Metrics.of(nll_B, zero, zero, jnp.ones(4))), None

        return jax.lax.scan(add, Metrics.empty(), nll_NB)[0]

    assert run(jnp.arange(12.0).reshape(3, 4)).compute()["loss"] == 5.5  # mean of 0 .. 11


def test_the_mean_of_nothing_is_refused():
    with pytest.raises(DataError, match="total weight of 0"):
        Metrics.empty().compute()


def test_shapes_are_checked_before_subtracting(monkeypatch):
    """With the test-time type checks off, as a user runs it."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    for nll, weight, truth in [((3,), (1,), (3, 2)), ((1,), (3,), (3, 2)), ((3,), (3,), (1, 2)), ((3,), (3,), (3, 1))]:
        with pytest.raises(DataError, match="metrics: got nll"):
            Metrics.of(jnp.zeros(nll), jnp.zeros((3, 2)), jnp.zeros(truth), jnp.ones(weight))
