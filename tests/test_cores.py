"""Rows shared among threads are the rows that one call gives, and what must not be shared is not."""

import os
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heimdall_jax.cores import across_cores


@pytest.fixture
def callers(monkeypatch):
    """The threads that called `doubled`, on a machine of three cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    return []


def doubled(callers):
    program = jax.jit(lambda x, y: {"sum": x + y, "twice": 2 * x})

    def function(*arrays):
        callers.append(threading.current_thread())
        return program(*arrays)

    return function


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 7])
def test_rows_come_back_in_order(callers, rows):
    x = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)
    found = across_cores(doubled(callers), x, jnp.ones((rows, 1)))
    np.testing.assert_array_equal(found["sum"], x + 1)
    np.testing.assert_array_equal(found["twice"], 2 * x)
    assert len(callers) == max(1, min(rows, 3))


def test_what_is_traced_goes_through_whole(callers):
    x = np.ones((6, 2), np.float32)
    jax.jit(lambda x: across_cores(doubled(callers), x, x))(x)
    assert callers == [threading.current_thread()]


def test_contexts_of_jax_hold(callers):
    """They are a thread's own: double precision, and another device."""
    x = np.ones((6, 2))
    with jax.enable_x64(True):
        assert across_cores(doubled(callers), x, x)["sum"].dtype == np.float64
    other, single = jax.devices()[1], x.astype(np.float32)
    with jax.default_device(other):
        assert across_cores(doubled(callers), single, single)["sum"].devices() == {other}
    there = jax.device_put(single, other)
    assert across_cores(doubled(callers), there, there)["sum"].devices() == {other}
    assert callers == [threading.current_thread()] * 3


def test_an_error_of_one_share_is_raised(callers):
    def fails(x):
        if x[0, 0] > 3:
            raise ValueError("of the last share")
        return x

    with pytest.raises(ValueError, match="of the last share"):
        across_cores(fails, np.arange(6, dtype=np.float32)[:, None])
