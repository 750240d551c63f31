"""`metrics.json` against hand-made numbers, SciPy and pymap3d."""

import json

import numpy as np
import pymap3d.vincenty
import pytest
from rich.console import Console
from scipy.stats import multivariate_normal

from heimdall_jax.errors import DataError, StorageError
from heimdall_jax.evaluation.summary import (
    bound_of_errors,
    error_summary,
    ground_error_m,
    summarize,
    write_metrics,
)
from heimdall_jax.evaluation.table import closing_table
from heimdall_jax.geodesy import local_to_degrees

TURIN = (45.044, 7.672)

BOUND = {"kind": "posterior_mean", "median_m": 4.1, "p68_m": 5.25, "rmse_m": 640.0}


def made_up(count=40, **more):
    rng = np.random.default_rng(3)
    truth_m = rng.normal(0, 500, (count, 2)).astype(np.float32)
    factor = np.tril(rng.uniform(50, 200, (count, 2, 2)))
    position_m = truth_m.astype(np.float64) + np.einsum("nij,nj->ni", factor, rng.normal(size=(count, 2)))
    covariance = factor @ factor.transpose(0, 2, 1)
    arguments = {"origin_deg": TURIN, "dataset": "made up", "split": "time"} | more
    return (position_m, covariance, truth_m), arguments


def test_the_keys_are_the_contracts():
    """design.md, Contracts."""
    arrays, more = made_up(baselines={"prior_mean": error_summary(np.ones(3))}, controls={})
    metrics = summarize(*arrays, **more, bound={"kind": "bayes", "median_m": 30.0, "p68_m": 50.0, "rmse_m": 40.0})
    required = {"dataset", "split", "n", "error_m", "nll_nats_per_fix", "coverage", "baselines", "controls"}
    assert set(metrics) == required | {
        "bound",
        "coverage_interval",
        "error_interval_m",
        "error_median_interval_m",
        "region_area_m2",
        "risk_coverage",
    }
    assert (
        set(metrics["error_m"]) == set(metrics["baselines"]["prior_mean"]) == {"mean", "median", "p68", "p90", "rmse"}
    )
    assert set(metrics["coverage"]) == {"0.5", "0.68", "0.9", "0.95"}
    sizes = {"median_m", "p68_m", "rmse_m"}
    assert set(metrics["bound"]) == {"kind", *sizes, "ratio_median", "ratio_p68", "ratio_rmse"}
    assert metrics["bound"]["ratio_median"] == metrics["error_m"]["median"] / 30.0
    assert metrics["bound"]["ratio_p68"] == metrics["error_m"]["p68"] / 50.0
    assert metrics["bound"]["ratio_rmse"] == metrics["error_m"]["rmse"] / 40.0
    assert metrics["n"] == 40
    assert not {"bound"} & set(summarize(*arrays, **more))


def test_error_statistics_by_hand():
    """0, 100, ..., 1000 m: linear quantiles; rmse = 100 sqrt(385 / 11)."""
    got = error_summary(np.arange(11) * 100.0)
    assert got == pytest.approx({"mean": 500, "median": 500, "p68": 680, "p90": 900, "rmse": 100 * 35**0.5})


def test_an_error_is_the_ground_distance():
    """Oracle: pymap3d's Vincenty geodesic; 150 km off, where the tangent plane is 40 m short."""
    position_m, truth_m = np.array([[150_000.0, -60_000.0]]), np.array([[0.0, 0.0]])
    got = ground_error_m(position_m, truth_m, TURIN)[0]
    ends = (*local_to_degrees(position_m[0], TURIN), *local_to_degrees(truth_m[0], TURIN))
    assert got == pytest.approx(pymap3d.vincenty.vdist(*ends)[0], rel=3e-6)
    assert got - np.linalg.norm(position_m) > 10


@pytest.mark.parametrize("truth_error_m", [None, 30.0])
def test_nll_is_scipys_with_the_truths_error_in_the_covariance(truth_error_m):
    arrays, more = made_up()
    position_m, covariance, truth_m = arrays
    extra = 0.0 if truth_error_m is None else truth_error_m
    expected = np.mean(
        [
            -multivariate_normal.logpdf(t, p, c + extra**2 * np.eye(2))
            for p, c, t in zip(position_m, covariance, truth_m, strict=True)
        ]
    )
    errors = None if truth_error_m is None else np.full(40, truth_error_m, np.float32)
    metrics = summarize(*arrays, **more, truth_error_m=errors)
    assert metrics["nll_nats_per_fix"] == pytest.approx(expected, rel=1e-9)


def test_regions_stay_as_predicted_whatever_the_truths_error():
    arrays, more = made_up()
    plain = summarize(*arrays, **more)
    assert summarize(*arrays, **more, truth_error_m=np.full(40, 1e4))["coverage"] == plain["coverage"]


def test_start_times_make_the_interval_resample_chunks():
    arrays, more = made_up()
    one_chunk = summarize(*arrays, **more, start_time_s=np.arange(40) * 4.0)
    assert "coverage_interval" not in one_chunk
    two = summarize(*arrays, **more, start_time_s=np.arange(40) * 40.0)["coverage_interval"]
    assert two != summarize(*arrays, **more)["coverage_interval"]
    assert two[0] <= two[1]


def test_no_rows_is_a_clear_error():
    arrays, more = made_up()
    with pytest.raises(DataError, match=r"0 positions and 0 truths.*leaves test rows"):
        summarize(*(x[:0] for x in arrays), **more)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e8])
def test_a_place_that_is_none_is_refused(wrong):
    (position_m, covariance, truth_m), more = made_up()
    position_m[7, 0] = wrong
    with pytest.raises(DataError, match="1 of 40 that are not"):
        summarize(position_m, covariance, truth_m, **more)


def test_counts_that_differ_are_refused():
    (position_m, covariance, truth_m), more = made_up()
    with pytest.raises(Exception, match=r"40 positions and 39 truths|[Tt]ype"):
        summarize(position_m, covariance, truth_m[:39], **more)


def test_a_file_reads_back_equal(tmp_path):
    arrays, more = made_up()
    metrics = summarize(*arrays, **more, bound=bound_of_errors("bayes", np.array([10.0, 20.0])))
    write_metrics(tmp_path / "metrics.json", metrics)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.json"]


def test_json_holds_no_nan_and_the_old_file_stays(tmp_path):
    path = tmp_path / "metrics.json"
    write_metrics(path, {"n": 1})
    with pytest.raises(DataError, match=r"metrics\.json: got .*finite numbers"):
        write_metrics(path, {"n": float("nan")})
    assert json.loads(path.read_text()) == {"n": 1}


def test_a_folder_that_is_a_file_is_a_storage_error(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(StorageError, match="writable folder"):
        write_metrics(tmp_path / "runs" / "metrics.json", {"n": 1})


def shown(metrics, files) -> str:
    console = Console(width=120, force_terminal=False)
    with console.capture() as capture:
        console.print(closing_table(metrics, files))
    return capture.get()


def test_the_closing_table_shows_what_a_user_asks_first():
    errors = dict.fromkeys(("mean", "median", "p68", "p90", "rmse"), 51_285.0)
    arrays, more = made_up(baselines={"prior_mean": errors, "weighted_centroid": errors}, controls={"no_radio": errors})
    metrics = summarize(*arrays, **more, bound=BOUND)
    text = shown(metrics, {"metrics": "runs/1/metrics.json", "model": "runs/1/model.onnx"})
    for expected in ("made up, split time, n = 40", "prior mean", "weighted centroid", "no radio", "51.3 km", "5.2 m"):
        assert expected in text
    for expected in (
        "bound: posterior mean",
        "4.1 m",
        "640 m",
        "in the 68% region",
        "with 95 % confidence",
        "runs/1/model.onnx",
    ):
        assert expected in text


def test_a_reference_is_not_called_a_bound():
    arrays, more = made_up()
    text = shown(summarize(*arrays, **more, bound=BOUND | {"binds": False, "left_out": 3}), {})
    text = " ".join(text.split())
    assert "reference: posterior mean" in text
    assert "bound" not in text
    assert "who knows a map of powers may be below it; 3 fixes that it cannot place are left out." in text
    text = shown(summarize(*arrays, **more, bound=BOUND | {"binds": False, "left_out": 0}), {})
    assert "left out" not in text


def test_detections_are_told_with_what_is_unsure_of_them():
    arrays, more = made_up()
    two = {"auroc": 0.7, "interval": [0.55, 0.85], "detected": 346, "usual": 202, "same_days": True, "caught": 0.15}
    none = {"auroc": 0.99, "interval": None, "detected": 46, "usual": 9, "same_days": False, "caught": 0.98}
    two["auroc_alone"] = 0.654
    told = {"two": two, "none": none, "refused": 0.027, "left_out": 4}
    lines = shown(summarize(*arrays, **more) | {"detection": told}, {}).splitlines()
    (line,) = [line for line in lines if "two transmitters" in line]
    assert [cell.strip() for cell in line.strip("│").split("│")][1:] == ["0.700", "0.550 to 0.850", "346", "202", "15%"]
    (line,) = [line for line in lines if "no transmitter" in line]
    assert [cell.strip() for cell in line.strip("│").split("│")][1:] == ["0.990", "", "46", "9, other days", "98%"]
    text = " ".join(" ".join(lines).split())
    assert "refuses 2.7% of the single test recordings. Two are judged with their minute; each alone: 0.654." in text
    assert "each alone: 0.654. 4 recordings that too few receivers heard" in text


def test_the_closing_table_without_options():
    arrays, more = made_up(1)
    text = shown(summarize(*arrays, **more), {})
    assert "bound" not in text
    assert "confidence" not in text
