"""The map of errors on the Earth: places in degrees by hand, coasts where there are some, the right proportions."""

import numpy as np
import pytest
from evaluation.some_fixes import some_fixes
from evaluation.test_report_figures import column, pictured

from heimdall_jax.geodesy import degrees_to_local
from heimdall_jax.pages.error_map import ROWS_TOLD, error_map, ground_distance_ratio
from heimdall_jax.pages.outlines import Rectangle

GENOA = (44.4, 8.9)


def test_every_place_is_told_in_degrees_the_worst_first():
    truth_deg = np.stack([np.linspace(44.1, 44.7, 60), np.linspace(8.5, 9.3, 60)], axis=1)
    fixes = some_fixes(60, truth_m_NE=degrees_to_local(truth_deg, GENOA), origin_deg=GENOA)
    panel = error_map(fixes)
    pictured(panel)
    worst = np.argsort(-fixes.error_m_N)
    assert column(panel, "transmission") == [f"session-{row}" for row in worst]
    told = [[float(cell) for cell in column(panel, name)] for name in ("latitude", "longitude")]
    np.testing.assert_allclose(np.transpose(told), truth_deg[worst], atol=1e-5)
    assert "44.100, 8.500 to 44.700, 9.300" in panel.alt
    assert "GSHHG" in panel.caption  # Genoa is on the coast


def test_a_campus_has_no_coast_and_its_map_says_so():
    panel = error_map(some_fixes())
    pictured(panel)
    assert "There is no coast or border in this area." in panel.caption
    assert f"The table holds the {ROWS_TOLD} worst" in panel.caption
    assert len(panel.rows) == ROWS_TOLD


def test_one_place_without_receivers_can_be_drawn():
    pictured(error_map(some_fixes(1, present_NR=np.zeros((1, 4), bool), heard_NR=np.zeros((1, 4), bool))))


def test_a_degree_of_longitude_shrinks_as_the_cosine_of_latitude():
    """WGS84: 111.694 km by 55.800 km at 60 degrees (National Geospatial-Intelligence Agency, length of a degree)."""
    assert ground_distance_ratio(Rectangle(9.9, 59.9, 10.1, 60.1)) == pytest.approx(111.412 / 55.800, rel=2e-3)
