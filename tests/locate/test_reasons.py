"""Every reason for which no place is claimed, and that a good fix has none."""

import dataclasses
import json
import re

import numpy as np
import pytest
import stand_ins

from heimdall_jax import geodesy
from heimdall_jax.evaluation.tdoa_fix import FixDetails, locate_by_times
from heimdall_jax.export.manifest import Manifest, parse_manifest
from heimdall_jax.locate import reasons
from heimdall_jax.locate.arguments import LocateArguments
from heimdall_jax.locate.find import find
from heimdall_jax.sources.stream_checks import ONE_VALUE
from tests.locate.made_up import PLACES, transmission, write_npy

C = geodesy.SPEED_OF_LIGHT_M_PER_S
ORIGIN = (45.0, 8.0)
SQUARE_M = np.array([[-50e3, -50e3], [50e3, -50e3], [50e3, 50e3], [-50e3, 50e3], [0.0, 60e3]])


def solved(
    receiver_m: np.ndarray, transmitter_m: tuple[float, float], *, late_us: dict[int, float] | None = None, **sigmas
) -> tuple[tuple[str, ...], FixDetails]:
    """Reasons, and details, of a fix on exact times that some clocks falsify."""
    clock_s = np.full(len(receiver_m), sigmas.get("clock_us", 0.05) * 1e-6)
    extra_s, noise_s = sigmas.get("extra_us", 0.0) * 1e-6, sigmas.get("noise_us", 0.001) * 1e-6
    lifted = np.concatenate([receiver_m, geodesy.ground_height_m(receiver_m, ORIGIN)[:, None]], axis=1)
    place = np.array([*transmitter_m, float(geodesy.ground_height_m(np.array(transmitter_m), ORIGIN))])
    arrival_s = np.linalg.norm(lifted - place, axis=1) / C
    for row, late in (late_us or {}).items():
        arrival_s[row] += late * 1e-6
    precision = np.full((len(lifted), len(lifted)), 1 / (2 * noise_s**2))
    np.fill_diagonal(precision, 0.0)
    position_m, covariance_m2, details = locate_by_times(
        arrival_s[:, None] - arrival_s,
        precision,
        clock_sigma_s_R=clock_s,
        extra_sigma_s=extra_s,
        receiver_m_RX=lifted,
        origin_deg=ORIGIN,
    )
    names = tuple("ABCDEFG"[: len(lifted)])
    radius_m = float(geodesy.error_radius_m(covariance_m2, 0.68))
    told = reasons.of_times(
        names, details, position_m, radius_m, clock_sigma_s_R=clock_s, extra_s=extra_s, origin_deg=ORIGIN
    )
    return told, details


def test_a_good_fix_has_no_reason():
    assert solved(SQUARE_M, (10e3, -20e3))[0] == ()
    assert solved(SQUARE_M[:4], (10e3, -20e3), clock_us=1.0)[0] == ()


def test_times_that_contradict_each_other_are_told_with_the_worst():
    """Fifty nanoseconds of sigma, and one clock 2 us late: its 40 sigma show at others, who agree without it."""
    start = r"contradicting times: chi-square \d+ of 2 degrees of freedom, p = .* \(limit 0\.001\); "
    (said,) = solved(SQUARE_M, (10e3, -20e3), late_us={1: 2.0})[0]
    assert re.fullmatch(start + "without B the others agree", said)
    (said,) = solved(SQUARE_M, (10e3, -20e3), late_us={1: 2.0, 3: 3.0})[0]
    assert re.fullmatch(start + "no receiver alone explains it", said)
    (said,) = solved(SQUARE_M[:4], (10e3, -20e3), late_us={1: 2.0})[0]
    assert said.endswith("; a fifth receiver would tell which is off")
    # Within its sigma nothing is said, and three receivers contradict nobody.
    assert solved(SQUARE_M, (10e3, -20e3), late_us={1: 0.1})[0] == ()
    assert solved(SQUARE_M[:3], (10e3, -20e3), late_us={1: 2.0})[0] == ()


def test_residuals_contradict_as_often_as_is_stated():
    """1 % of 2,000 draws of a chi-square of two degrees of freedom lie above its 99 % quantile: 20 +- 4.4."""
    rng = np.random.default_rng(3)
    _, details = solved(SQUARE_M, (10e3, -20e3))
    found = 0
    for _ in range(2000):
        # Residuals of R arrivals fill R - 3 dimensions.
        residual_s = np.zeros(5)
        residual_s[:2] = rng.standard_normal(2)
        one = dataclasses.replace(details, residual_s_R=residual_s * details.sigma_s_R)
        told = reasons.of_times(
            "ABCDE", one, np.zeros(2), 1.0, clock_sigma_s_R=np.full(5, 5e-8), extra_s=0.0, origin_deg=ORIGIN
        )
        found += bool(told)
    assert found <= 8  # 2 are expected at one in a thousand; more than 8 once in 4,000 runs


@pytest.mark.parametrize(
    ("sigmas", "kind"),
    [
        ({"clock_us": 200.0}, "inaccurate clocks"),
        ({"extra_us": 200.0}, "propagation"),
        ({"noise_us": 200.0}, "weak signal"),
    ],
)
def test_a_region_larger_than_the_network_is_withheld_with_what_makes_it_so(sigmas, kind):
    """60 km a sigma, in a circle of 71 km: no place of the receivers would do."""
    told, _ = solved(SQUARE_M[:3], (10e3, -20e3), **sigmas)
    assert told[0].startswith(f"{kind}: 68 % within ")
    assert told[0].endswith("wherever the receivers stood")


def test_receivers_in_a_bunch_far_away_are_bad_geometry():
    """Two kilometres of baseline, 3.9 km off, 50 ns: from all around, the same times would give tens of metres."""
    told, details = solved(SQUARE_M[:4] * 0.02, (2800.0, 2750.0), clock_us=1.0)
    assert details.reach_m == pytest.approx(2 * np.hypot(1e3, 1e3))
    assert told[0].startswith("bad geometry: 68 % within ")
    assert re.search(r"from all around the same times give \d+ m, \d+ times less", told[0])


def test_a_place_outside_what_is_searched_is_not_claimed():
    told, details = solved(SQUARE_M, (20e3, -400e3))
    assert any(said.startswith("bad geometry: the best place is") and "are searched" in said for said in told)
    assert details.reach_m < 300e3


def test_two_places_that_fit_alike_are_not_told_apart():
    """Three receivers and a transmitter behind one of them: a textbook ambiguity of two branches of hyperbolas."""
    receiver_m = np.array([[0.0, 0.0], [60e3, 10e3], [10e3, 60e3]])
    ambiguous = [solved(receiver_m, (-x, -x))[0] for x in (3e3, 6e3, 9e3, 12e3)]
    assert any(any("another place fits" in said for said in told) for told in ambiguous)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (f"{reasons.UNDATED}: the last GPS solution is over 60 s old in 9 of 9 blocks", "stale clocks"),
        (f"{reasons.NO_BANDWIDTH}: rms bandwidth 2 Hz, 44 Hz are needed", "no bandwidth"),
        (f"{reasons.NO_CORRELATION}: 3.0 dB after integration, 13 are needed", "no common signal"),
        (f"{reasons.NO_SIGNAL} in the band: -2.0 dB", "no signal"),
        (f"{reasons.INACCURATE}: 1000 us", "inaccurate clocks"),
        (ONE_VALUE, "dead receivers"),
    ],
)
def test_too_few_receivers_are_told_with_what_the_others_lack(reason, kind):
    told = reasons.too_few(2, [{"name": "GE", "reason": reason}])
    assert told == ("too few receivers: 2 usable, 3 are needed", f"{kind}: GE: {reason}")
    assert reasons.too_few(3, [{"name": "GE", "reason": reason}]) == ()


def test_a_clock_worse_than_the_network_is_large_is_left_out(tmp_path):
    """1 ms is 300 km: such a receiver tells nothing within a circle of 96 km."""
    good = write_npy(tmp_path / "good", transmission(("TO", "GE")))
    bad = write_npy(tmp_path / "bad", transmission(("MI",), sigma_s=1e-3))
    found = find(LocateArguments((*good, *bad)))
    assert not found.located
    assert found.reasons[0] == "too few receivers: 2 usable, 3 are needed"
    assert re.match(
        r"inaccurate clocks: MI: its clock says nothing: 1000 us, or 299\.8 km, is more than", found.reasons[1]
    )
    assert found.to_tree()["best_guess"] is None


def test_powers_alone_are_withheld_where_they_say_no_more_than_that_it_was_heard(tmp_path):
    """Equal powers at three receivers leave everything between and around them."""
    found = find(LocateArguments(write_npy(tmp_path, transmission(("TO", "GE", "MI"))), method="rss"))
    assert not found.located
    assert found.reasons[0].startswith("bad geometry: 68 % within ")
    assert found.fix is not None


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Manifest:
    path = stand_ins.set_bundle(tmp_path_factory.mktemp("bundle"))
    return parse_manifest(path.with_name("manifest.json").read_bytes())


def test_a_model_doubts_by_its_own_radius_and_region(manifest):
    box = (-70e3, -60e3, 70e3, 60e3)
    domain = dataclasses.replace(manifest.domain, position_box_m=box)
    trained = dataclasses.replace(manifest, metrics={"doubt": {"above_m": 500.0}}, domain=domain)
    assert reasons.of_model(trained, np.zeros(2), 499.0) == ()
    (said,) = reasons.of_model(trained, np.zeros(2), 501.0)
    assert said.startswith("out of distribution: its own 68 % radius is 501 m, above 500 m")
    assert reasons.of_model(trained, np.array([70.4e3, 0.0]), 499.0) == ()
    (said,) = reasons.of_model(trained, np.array([73e3, 64e3]), 499.0)
    assert said.startswith("outside the trained region: the best place is 5,000 m beyond")
    # A bundle that says nothing of either doubts nothing.
    bare = dataclasses.replace(manifest, metrics=None)
    assert reasons.of_model(bare, np.array([73e3, 64e3]), 1e6) == ()
    odd = dataclasses.replace(trained, metrics=json.loads('{"doubt": {"above_m": null}}'))
    assert reasons.of_model(odd, np.zeros(2), 501.0) == ()


def test_the_exit_code_says_that_no_place_is_claimed(tmp_path, capsys):
    from tests.command_line import main_of

    paths = write_npy(tmp_path / "two", transmission(tuple(PLACES)[:2]))
    with pytest.raises(SystemExit) as caught:
        main_of("locate")([*map(str, paths), "--geojson", str(tmp_path / "out.geojson")])
    assert caught.value.code == 3
    words = capsys.readouterr().out.splitlines()
    assert words[:2] == ["I don't know where it is:", "- too few receivers: 2 usable, 3 are needed"]
    assert any(line.startswith("would help   a receiver ") for line in words)
    tree = json.loads((tmp_path / "out.geojson").read_text())
    assert (tree["located"], {part["properties"]["role"] for part in tree["features"]}) == (False, {"receiver"})
