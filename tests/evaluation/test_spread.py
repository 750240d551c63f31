"""Mean and spread over runs, by hand and against NumPy."""

import numpy as np
import pytest
from evaluation.some_fixes import metrics_of, some_fixes
from rich.console import Console

from heimdall_jax.errors import DataError
from heimdall_jax.evaluation.spread import spread_table, spreads


def result(mean_m: float, **changes):
    whole = {"dataset": "d", "split": "time", "n": 4, "error_m": {"mean": mean_m}, "coverage": {"0.68": mean_m / 1000}}
    return whole | {"nll_nats_per_fix": 12.0, "skipped": {"masked": 72}, "notes": ["a"], "step": 5} | changes


def test_mean_and_sample_standard_deviation_by_hand():
    """150, 160, 200: mean 170, squares of the rest 400 + 100 + 900 over 2, 26.46 to the hundredth."""
    got = spreads([result(150.0), result(160.0), result(200.0)])
    assert set(got) == {"error_m.mean", "coverage.0.68", "nll_nats_per_fix"}
    spread = got["error_m.mean"]
    assert spread["std"] == pytest.approx(26.4575, abs=1e-4)
    assert (spread["mean"], spread["min"], spread["max"]) == (170.0, 150.0, 200.0)
    assert spread["values"] == [150.0, 160.0, 200.0]
    assert got["nll_nats_per_fix"]["std"] == 0.0


def test_one_run_has_no_spread():
    spread = spreads([result(150.0)])["error_m.mean"]
    assert (spread["mean"], spread["std"]) == (150.0, None)


def test_only_what_all_runs_hold_is_told():
    assert "controls.x.mean" not in spreads([result(1.0, controls={"x": {"mean": 1.0}}), result(1.0)])


@pytest.mark.parametrize("other", [{"n": 5}, {"split": "block"}, {"dataset": "other"}])
def test_results_on_other_rows_are_no_spread(other):
    with pytest.raises(DataError, match=r"runs: got d, split time, n = 4; .*--split"):
        spreads([result(1.0), result(1.0, **other)])
    with pytest.raises(DataError, match="runs: got none"):
        spreads([])


def test_the_whole_metrics_are_taken_and_the_table_leaves_baselines_to_the_file():
    results = [metrics_of(some_fixes(count, position_m_NE=some_fixes(count).position_m_NE + shift))
               for count, shift in ((80, 0.0), (80, 30.0))]  # fmt: skip
    got = spreads(results)
    expected = [each["risk_coverage"]["0.5"] for each in results]
    assert got["risk_coverage.0.5"]["std"] == pytest.approx(np.std(expected, ddof=1))
    assert got["baselines.knn5.mean"]["std"] == 0.0
    console = Console(width=120)
    with console.capture() as capture:
        console.print(spread_table("made up", got))
    text = capture.get()
    assert "made up, 2 runs" in text
    for name in ("error_m.mean", "risk_coverage.0.5", "region_area_m2", "coverage.0.68", "nll_nats_per_fix"):
        assert name in text
    assert "knn5" not in text
