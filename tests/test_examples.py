"""Recordings shown in a report: chosen by rule, made by the features' own code, beside lags that physics gives."""

import numpy as np
import pytest
from evaluation.some_fixes import some_fixes
from evaluation.test_report_figures import column, pictured

from heimdall_jax import config as configs
from heimdall_jax.config import WorldConfig
from heimdall_jax.evaluation.report_recordings import lag_examples, spectrogram_examples
from heimdall_jax.examples import QUANTILES, Examples, band_middles_hz, examples_of
from heimdall_jax.feature_settings import FeatureConfig
from heimdall_jax.simulation.sessions import SimulatedSessions
from heimdall_jax.simulation.world import World
from heimdall_jax.training.dataset import HeimdallDataset

COUNT = 12
WORLD = WorldConfig(clock_sigma_s=(50e-9,), shadowing_db=3.0)


@pytest.fixture(scope="module")
def shown() -> tuple[Examples, SimulatedSessions, np.ndarray]:
    """Examples of simulated sessions, those sessions, and their made-up errors."""
    world = World.build(WORLD)
    sessions = SimulatedSessions(world, "test", COUNT)
    whole = {"origin_deg": world.origin_deg, "rows": sessions.receivers, "known": sessions.receivers}
    dataset = HeimdallDataset(sessions, **whole)
    fixes = some_fixes(COUNT)
    return examples_of(configs.SIMULATION, dataset, fixes), sessions, fixes.error_m_N


def test_fixes_at_quantiles_of_the_error_are_shown(shown):
    found, _, error_m = shown
    ranks = [round(share * (COUNT - 1)) for share in QUANTILES]
    assert [one.error_m for one in found.recorded] == np.sort(error_m)[ranks].tolist()
    assert [one.session_id for one in found.recorded] == [f"test-{np.argsort(error_m)[r]:06d}" for r in ranks]


def test_true_lags_are_those_of_the_simulations_own_delays(shown):
    """Straight lines from a transmitter on the ground; the simulation's plane is within a metre, 3 ns, of them."""
    found, sessions, _ = shown
    for one in found.recorded:
        number = int(one.session_id.removeprefix("test-"))
        delay_s = np.asarray(sessions.transmissions([number]).delay_s_R)[0].astype(np.float64)
        np.testing.assert_allclose(one.true_s_RR, delay_s[:, None] - delay_s[None], atol=2e-7)
        timed = one.timed_RR & (one.lag_curve_RRK.max(axis=-1) > 0.99)
        np.testing.assert_allclose(one.tdoa_s_RR[timed], one.true_s_RR[timed], atol=5e-6)


def test_panels_tell_receivers_levels_and_lags(shown):
    found, _, _ = shown
    heard = spectrogram_examples(found.recorded, found.band_hz, found.frame_s)
    pictured(heard)
    for one in found.recorded:
        mine = [row for row in heard.rows if row[0] == one.session_id]
        powers = np.sort(one.rss_db_R[one.heard_R])[::-1][:3]
        assert [row[3] for row in mine] == [f"{power:.1f}" for power in powers]
    lags = lag_examples(found.recorded, found.lag_s)
    pictured(lags)
    assert all(0 <= float(cell) <= 1.01 for cell in column(lags, "highest value"))


def test_powers_alone_leave_sentences():
    world = World.build(WORLD)
    sessions = SimulatedSessions(world, "test", COUNT, iq=False)
    dataset = HeimdallDataset(sessions, origin_deg=world.origin_deg, rows=sessions.receivers, known=())
    found = examples_of(configs.SIMULATION, dataset, some_fixes(COUNT))
    assert found.recorded == []
    for panel in (
        spectrogram_examples(found.recorded, found.band_hz, found.frame_s),
        lag_examples(found.recorded, found.lag_s),
    ):
        assert panel.png == b""
        assert "received powers and no samples" in panel.caption


def test_bands_are_symmetric_about_the_carrier_or_above_it():
    both = band_middles_hz(FeatureConfig())
    assert both.shape == (128,)
    np.testing.assert_allclose(both, -both[::-1])
    assert (np.diff(both) > 0).all()
    one = band_middles_hz(FeatureConfig(sided="envelope"))
    assert one.shape == (128,)
    assert 0 < one[0] < one[-1] < 6000
