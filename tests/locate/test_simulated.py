"""Simulated transmissions with clocks of 50 ns, each placed within the region that it is given."""

import dataclasses

import numpy as np
import pytest

from heimdall_jax.geodesy import degrees_to_local
from heimdall_jax.locate.arguments import LocateArguments
from heimdall_jax.locate.find import find
from heimdall_jax.simulation.sessions import SimulatedSessions
from heimdall_jax.simulation.world import World
from heimdall_jax.sources.sigmf_write import write_collection
from heimdall_jax.worlds import TIMING_WORLD

pytestmark = pytest.mark.slow

SHARP = dataclasses.replace(TIMING_WORLD, clock_sigma_s=(50e-9,), kinds=("fm",))


@pytest.mark.parametrize("seed", range(3))
def test_a_fix_lies_within_its_region(seed, tmp_path):
    session = SimulatedSessions(World.build(SHARP), f"seed {seed}", 1)[0]
    write_collection(session, tmp_path / "one")
    found = find(LocateArguments((tmp_path / "one" / "one.sigmf-collection",)))
    assert found.located, found.reasons
    off_m = degrees_to_local(np.array(session.truth_deg), found.fix.place_deg)
    assert off_m @ np.linalg.solve(found.fix.covariance_m2, off_m) < 13.8  # chi-square of two, 99.9 %
    assert found.fix.radius_68_m < 1000
    assert [curve.kind for curve in found.curves] == ["hyperbola"] * (len(found.used) - 1)
