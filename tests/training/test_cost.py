"""XLA's count against counts by hand, the roofline against arithmetic, and what a person sees of it."""

import io
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from rich.console import Console

from heimdall_jax.config import FeatureConfig, TrainingConfig
from heimdall_jax.display import Display
from heimdall_jax.features import chunks
from heimdall_jax.features.extract import extract, samples_needed
from heimdall_jax.models import convolution, winograd
from heimdall_jax.training import cost as costs
from heimdall_jax.training.cost import CHIPS, H100, V5E, Cost, bound, cost, peak_flops_per_s
from tests.training.step_program import NETWORKS, batch_shapes, trainer_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"


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
    assert jax.device_count() == 2
    assert peak_flops_per_s() == product  # a second by the clock above


def test_utilisation_is_told_where_the_cost_is_known(monkeypatch):
    said = io.StringIO()
    now = [100.0]
    monkeypatch.setattr("heimdall_jax.display.time.monotonic", lambda: now[0])
    metrics = {"train/loss": 1.0, "train/error_m": 2.0}
    display = Display(Console(file=said, width=200), samples_per_step=32)
    display.update(1, 100, metrics)
    now[0] = 110.0
    display.update(11, 100, metrics)  # a step a second
    display.costs(flops=3e9, peak_flops_per_s=12e9)
    now[0] = 130.0
    display.update(31, 100, metrics)
    lines = said.getvalue().splitlines()
    assert ["GFLOP" in line for line in lines] == [False, False, True]
    assert lines[1].endswith("32 samples/s  89 s left")
    assert lines[2].endswith("32 samples/s  3.0 GFLOP/s, 25.0% of peak  69 s left")


def told():
    """Rows of the page's roofline: what the work is, and its cells."""
    lines = PAGE.read_text(encoding="utf-8").split("## What one chip could do")[1].split("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][1:]
    whole, named = "", []
    for name, *cells in rows:
        whole = name.rsplit(", batch", 1)[0] if not name.startswith("the same") else whole
        named.append((f"{whole}, {name.rsplit(', ', 1)[1]}", cells))
    return named


def test_the_page_s_roofline_follows_from_its_counts():
    assert len(told()) == 8
    for name, (gflop, gbyte, intensity, *times) in told():
        work = Cost(float(gflop) * 1e9, float(gbyte) * 1e9)
        for chip, cells in zip(CHIPS, (times[:2], times[2:]), strict=True):
            found = bound(work, chip, "highest" if name.startswith("mel") else "float32")
            assert found.intensity == pytest.approx(float(intensity), rel=5e-3)
            for cell, seconds in zip(cells, (found.arithmetic_s, found.memory_s), strict=True):
                assert float(cell.strip("*")) == pytest.approx(1e3 * seconds, rel=5e-3)
                assert cell.startswith("**") == (seconds == found.seconds)


@pytest.mark.slow
def test_the_page_s_counts_are_xla_s(monkeypatch):
    """Within a tenth: other versions and CPUs fuse otherwise. Each of several devices gets the batch that is told."""
    # As on accelerators: all frames at once, and no convolution by a way that only CPUs take.
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 2**40)
    monkeypatch.setattr(winograd, "SIZE", 0)
    monkeypatch.setattr(convolution, "FEW_CHANNELS", 0)
    page = dict(told())
    found = {}
    for backend, name in (("fft", "mel spectrograms by FFT"), ("matmul", "mel spectrograms by products")):
        features = FeatureConfig()
        iq = jax.ShapeDtypeStruct((32, 7, samples_needed(features)), jnp.complex64)
        found[f"{name}, batch 32"] = cost(jax.jit(extract.__wrapped__(features, backend)).lower(iq).compile())
    for network, each, name in (
        ("resnet", 32, "ResNet-18 `LocalizationNet`, train step"),
        ("receiver_set", 64, "receiver-set network, train step"),
    ):
        rows = each * jax.device_count()
        trainer = trainer_of(NETWORKS[network], TrainingConfig(batch_size=rows))
        found[f"{name}, batch {each}"] = cost(trainer.step.lower(*trainer.shapes(batch_shapes(rows))).compile())
    for name, work in found.items():
        assert work.flops / 1e9 == pytest.approx(float(page[name][0]), rel=0.1), name
        assert work.bytes / 1e9 == pytest.approx(float(page[name][1]), rel=0.1), name
