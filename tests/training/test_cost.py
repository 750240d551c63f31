"""XLA's count against counts by hand, the roofline against arithmetic, and what a person sees of it."""

import io

import jax
import jax.numpy as jnp
import pytest
from rich.console import Console

from heimdall_jax.display import Display
from heimdall_jax.training import cost as costs
from heimdall_jax.training.cost import H100, V5E, Cost, bound, cost, peak_flops_per_s


def test_a_matrix_product_costs_what_it_should():
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((64, 128), (128, 256))]
    found = cost(jax.jit(jnp.matmul).lower(*shapes).compile())
    assert found.flops == 2 * 64 * 128 * 256
    assert found.bytes == 4 * (64 * 128 + 128 * 256 + 64 * 256)


def test_the_roofline_by_hand():
    """The H100's ridge in bfloat16: 989.4e12 / 3.35e12 = 295.3 operations a byte; the v5e's 197e12 / 819e9 = 240.5."""
    much, little = Cost(1e12, 1e9), Cost(1e9, 1e9)
    on_h100, on_v5e = bound(much, H100, "bfloat16"), bound(little, V5E, "bfloat16")
    assert on_h100.ridge == pytest.approx(295.3, abs=0.05)
    assert (on_h100.intensity, on_h100.binds) == (1000.0, "arithmetic")
    assert on_h100.seconds == pytest.approx(1e12 / 989.4e12)
    assert on_v5e.ridge == pytest.approx(240.5, abs=0.05)
    assert (on_v5e.intensity, on_v5e.binds) == (1.0, "memory")
    assert on_v5e.seconds == pytest.approx(1e9 / 819e9)
    assert bound(much, H100, "float32").seconds == pytest.approx(2 * on_h100.seconds)


def test_a_known_chip_is_looked_up_and_all_of_them_count(monkeypatch):
    class Device:
        platform, device_kind = "tpu", V5E.kind

    monkeypatch.setattr(jax, "devices", lambda: [Device()] * 4)
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    assert peak_flops_per_s("bfloat16") == 4 * 197e12


def test_an_unknown_device_is_measured_and_virtual_ones_share_it(monkeypatch):
    monkeypatch.setattr(costs, "ROWS_ON_CPU", 64)
    product = 2 * 64**3
    monkeypatch.setattr(costs.time, "perf_counter", iter(range(100)).__next__)
    assert jax.device_count() == 8
    assert peak_flops_per_s() == product  # a second by the clock above


def test_utilisation_is_told_where_the_cost_is_known(monkeypatch):
    said = io.StringIO()
    ticks = iter((100.0, 100.0, 110.0, 110.0, 130.0, 130.0))
    monkeypatch.setattr("heimdall_jax.display.time.monotonic", lambda: next(ticks))
    metrics = {"train/loss": 1.0, "train/error_m": 2.0}
    display = Display(Console(file=said, width=200), samples_per_step=32)
    display.update(1, 100, metrics)
    display.update(11, 100, metrics)  # a step a second
    display.costs(flops=3e9, peak_flops_per_s=12e9)
    display.update(31, 100, metrics)
    lines = said.getvalue().splitlines()
    assert [line.endswith("samples/s") for line in lines] == [True, True, False]
    assert lines[2].endswith("32 samples/s  3.0 GFLOP/s, 25.0% of peak")
