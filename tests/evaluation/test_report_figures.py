"""What the figures show: their tables against NumPy and numbers by hand, and pictures that are pictures."""

import io

import numpy as np
import pytest
from evaluation.some_fixes import metrics_of, some_fixes
from PIL import Image
from scipy.spatial.distance import cdist

from heimdall_jax.evaluation import report_figures
from heimdall_jax.evaluation.panels import Panel, groups_of_equal_size
from heimdall_jax.evaluation.report_figures import (
    coverage_curve,
    error_against_sigma,
    error_cdf,
    risk_curve,
    skipped_rows,
)
from heimdall_jax.evaluation.report_maps import REGIONS_DRAWN, ROWS_TOLD, error_by_distance, error_by_receivers, fix_map
from heimdall_jax.evaluation.table import spoken_m

FIXES = some_fixes()
METRICS = metrics_of(FIXES)


def pictured(panel: Panel) -> None:
    """A PNG that is wide enough, a sentence for those who do not see it, and a table with a cell for each heading."""
    image = Image.open(io.BytesIO(panel.png))
    image.load()
    assert image.format == "PNG"
    assert min(image.size) > 300
    assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 10
    assert len(panel.alt) > 40
    assert panel.caption
    assert panel.rows
    assert {len(row) for row in panel.rows} == {len(panel.header)}


def column(panel: Panel, heading: str) -> list[str]:
    return [row[panel.header.index(heading)] for row in panel.rows]


def test_the_cdf_tells_quantiles_of_model_and_baselines_and_why_there_is_no_bound():
    panel = error_cdf(FIXES, METRICS)
    pictured(panel)
    assert [row[0] for row in panel.rows] == ["model", "knn5", "prior mean"]
    median = float(np.median(FIXES.error_m_N))
    assert column(panel, "50% below") == [spoken_m(median), spoken_m(2 * median), spoken_m(5 * median)]
    assert "No bound is drawn" in panel.caption
    assert "best baseline, knn5" in panel.alt


def test_the_bound_is_drawn_from_its_own_covariances():
    """68 % of an isotropic normal of 100 m is within 151 m (physics: r68 = 1.51 sigma)."""
    bounded = some_fixes(bound_m2_NEE=np.tile(100.0**2 * np.eye(2), (400, 1, 1)))
    panel = error_cdf(bounded, metrics_of(bounded))
    assert panel.rows[-1][0] == "bound"
    told = float(column(panel, "68% below")[-1].removesuffix(" m"))
    assert told == pytest.approx(151, rel=0.02)
    assert "No bound" not in panel.caption


def test_a_reference_is_drawn_under_its_name_without_fixes_that_it_cannot_place():
    covariance_m2 = np.tile(100.0**2 * np.eye(2), (400, 1, 1))
    covariance_m2[:100, [0, 1], [0, 1]] = np.inf
    fixes = some_fixes(bound_m2_NEE=covariance_m2)
    metrics = metrics_of(fixes)
    panel = error_cdf(fixes, metrics | {"bound": metrics["bound"] | {"binds": False}})
    assert panel.rows[-1][0] == "reference"
    assert float(column(panel, "68% below")[-1].removesuffix(" m")) == pytest.approx(151, rel=0.02)
    assert "of the best baseline, knn5" in panel.alt


def test_coverage_of_honest_regions_is_their_probability():
    panel = coverage_curve(FIXES, METRICS)
    pictured(panel)
    told = [float(cell.removesuffix("%")) / 100 for cell in column(panel, "truths inside")]
    np.testing.assert_allclose(told, report_figures.NOMINAL, atol=4 * np.sqrt(0.25 / 400))
    too_sure = some_fixes(covariance_m2_NEE=FIXES.covariance_m2_NEE / 9)
    told = column(coverage_curve(too_sure, metrics_of(too_sure)), "truths inside")
    assert float(told[-1].removesuffix("%")) < 80  # 1 - exp(-9.21 / 18) = 40 % in expectation


def test_a_coverage_without_interval_is_drawn_too():
    one = some_fixes(1)
    assert "coverage_interval" not in metrics_of(one)
    pictured(coverage_curve(one, metrics_of(one)))


def test_errors_follow_honest_sigmas_and_twice_the_sigma_is_told():
    panel = error_against_sigma(FIXES)
    pictured(panel)
    assert sum(map(int, column(panel, "fixes"))) == 400
    ratio = np.array(column(panel, "ratio"), float)
    np.testing.assert_allclose(ratio, 1.0, atol=4 / np.sqrt(2 * 2 * 40))  # rms of 80 normals, 4 standard errors
    cautious = some_fixes(covariance_m2_NEE=4 * FIXES.covariance_m2_NEE)
    np.testing.assert_allclose(np.array(column(error_against_sigma(cautious), "ratio"), float), ratio / 2, atol=0.011)


def test_refusing_the_least_sure_lowers_the_mean_error_and_never_below_the_best():
    panel = risk_curve(FIXES)
    pictured(panel)
    assert column(panel, "fixes kept")[0] == "100%"
    assert column(panel, "mean error")[0] == column(panel, "at best")[0] == spoken_m(float(FIXES.error_m_N.mean()))
    half = column(panel, "fixes kept").index("50%")
    assert column(panel, "at best")[half] == spoken_m(float(np.sort(FIXES.error_m_N)[:200].mean()))
    surest = np.argsort(FIXES.covariance_m2_NEE[:, 0, 0])[:200]
    assert column(panel, "mean error")[half] == spoken_m(float(FIXES.error_m_N[surest].mean()))


def test_skipped_rows_are_counted_by_reason_the_largest_first():
    panel = skipped_rows(metrics_of(FIXES, skipped={"too few": 3, "masked": 1200, "never": 0}))
    pictured(panel)
    assert panel.rows == (("masked", "1,200"), ("too few", "3"))
    nothing = skipped_rows(metrics_of(FIXES, skipped={"never": 0}))
    assert nothing.png == b""
    assert "no row was skipped" in nothing.caption


def test_the_map_names_the_worst_and_tells_every_fix():
    panel = fix_map(FIXES)
    pictured(panel)
    worst = np.argsort(FIXES.error_m_N)[::-1]
    assert column(panel, "transmission") == [f"session-{number}" for number in worst]
    for number in worst[:5]:
        assert f"session-{number} ({spoken_m(float(FIXES.error_m_N[number]))})" in panel.caption
        assert f"session-{number}" in panel.alt
    assert f"session-{worst[5]} " not in panel.caption
    inside = np.mean([cell == "yes" for cell in column(panel, "inside 68 %")])
    assert inside == METRICS["coverage"]["0.68"]
    assert column(panel, "receivers") == [f"{FIXES.heard_NR[number].sum()}" for number in worst]


def test_a_large_map_says_what_it_leaves_out():
    panel = fix_map(some_fixes(ROWS_TOLD + 1))
    assert len(panel.rows) == ROWS_TOLD
    assert f"The table holds the {ROWS_TOLD:,} worst" in panel.caption
    assert "(drawn for 15" in panel.caption
    assert "drawn for" not in fix_map(some_fixes(REGIONS_DRAWN)).caption


def test_receivers_that_stand_are_green_triangles_and_others_are_not():
    def green(*present: bool) -> int:
        fixes = some_fixes(present_NR=np.tile(present, (400, 1)), heard_NR=np.zeros((400, 4), bool))
        pixels = np.asarray(Image.open(io.BytesIO(fix_map(fixes).png)).convert("RGB")).astype(int)
        return int((np.abs(pixels - (0x00, 0x9E, 0x73)).sum(axis=-1) < 30).sum())

    one, both = green(True, False, False, False), green(True, True, False, False)
    assert 50 < one < both
    assert green(False, False, True, False) == green(False, False, False, False) == 0  # a bus alone; nobody


def test_errors_by_receivers_are_grouped_by_count():
    panel = error_by_receivers(FIXES)
    pictured(panel)
    heard = FIXES.heard_NR.sum(axis=1)
    assert column(panel, "receivers that heard") == [f"{count}" for count in np.unique(heard)]
    means = [spoken_m(float(FIXES.error_m_N[heard == count].mean())) for count in np.unique(heard)]
    assert column(panel, "mean") == means
    crowd = {"present_NR": np.ones((400, 50), bool), "receiver_m_NRE": np.zeros((400, 50, 2))}
    many = some_fixes(heard_NR=np.arange(400)[:, None] >= 8 * np.arange(50)[None], **crowd)
    groups = column(error_by_receivers(many), "receivers that heard")
    assert len(groups) == 8
    assert groups[0] == "1 to 6"  # an eighth of 400 fixes, 8 of each count, ends within the 7s, which stay together


def test_errors_by_distance_are_grouped_by_the_nearest_training_place():
    panel = error_by_distance(FIXES)
    pictured(panel)
    assert FIXES.trained_m_ME is not None
    nearest_m = cdist(FIXES.truth_m_NE, FIXES.trained_m_ME).min(axis=1)
    assert panel.rows[0][0].startswith(f"{spoken_m(nearest_m.min())} to ")
    assert panel.rows[-1][0].endswith(f" to {spoken_m(nearest_m.max())}")
    assert [int(cell) for cell in column(panel, "fixes")] == [50] * 8
    endless = error_by_distance(some_fixes(trained_m_ME=None))
    assert endless.png == b""
    assert "fresh transmissions" in endless.caption


def test_groups_hold_every_value_once_and_equal_values_together():
    values = np.array([1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 4.0])
    groups = groups_of_equal_size(values, 4)
    assert sorted(np.concatenate(groups).tolist()) == list(range(8))
    assert all(
        len(set(values[group]) & set(values[other])) == 0 for group in groups for other in groups if group is not other
    )
    assert [group.tolist() for group in groups_of_equal_size(np.ones(3), 4)] == [[0, 1, 2]]
    assert [len(group) for group in groups_of_equal_size(np.arange(80.0), 8)] == [10] * 8


@pytest.mark.parametrize("draw", [error_against_sigma, risk_curve, fix_map, error_by_receivers, error_by_distance])
def test_a_single_exact_fix_can_be_drawn(draw):
    one = some_fixes(1)
    pictured(draw(some_fixes(1, position_m_NE=one.truth_m_NE, error_m_N=np.zeros(1))))
