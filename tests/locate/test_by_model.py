"""An exported model locates made-up recordings: an untrained one, whose solver needs no training to solve."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from kiwi_like import write_kiwi_like, write_places

from heimdall_jax.config import Config, ModelConfig
from heimdall_jax.errors import ExportError
from heimdall_jax.export.release import export_model
from heimdall_jax.geodesy import degrees_to_local
from heimdall_jax.locate.arguments import LocateArguments
from heimdall_jax.locate.command import locate
from heimdall_jax.locate.find import find
from heimdall_jax.models.build import build
from heimdall_jax.registry.recordings import recording_inputs
from heimdall_jax.simulation.sessions import SimulatedSessions
from heimdall_jax.simulation.world import World
from heimdall_jax.types import Domain
from heimdall_jax.worlds import TIMING_WORLD
from tests.locate import made_up
from tests.locate.made_up import TRANSMITTER, delay_s, transmission, write_npy

pytestmark = pytest.mark.slow

ORIGIN = (44.9365, 8.1965)
DOMAIN = Domain(ORIGIN, ("TO", "GE"), (0.0, 0.0), 38_000.0, -85.0, 9.0, (-72_000.0, -60_000.0, 73_000.0, 61_000.0))
CONFIG = Config(model=ModelConfig(name="receiver_set", width=16, depth=1, heads=2, identity=True, timing=True))
PLACES = {name: made_up.PLACES[name] for name in ("TO", "GE", "MI", "CO")}


def locate_by_model(paths: tuple[Path, ...], stations: Path, model: Path) -> dict:
    return find(LocateArguments(paths, stations=stations, model=str(model))).to_tree()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    sessions = SimulatedSessions(World.build(TIMING_WORLD), "test", 2).__getitems__([0, 1])
    samples, _ = recording_inputs(sessions, DOMAIN, samples=11_982, sample_rate_hz=12_000.0)
    export_model(build(CONFIG.model, DOMAIN, nnx.Rngs(0)), folder, config=CONFIG, domain=DOMAIN, samples=samples)
    return folder


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("recordings")
    write_places(folder / "places", PLACES)
    return tuple(write_kiwi_like(folder, name, hertz=145_000_000, delay_s=delay_s(name)) for name in PLACES)


def test_the_place_comes_back_from_recordings_alone(run, recordings):
    arguments = LocateArguments(recordings, stations=recordings[0].parent / "places", model=str(run), json=True)
    fix = json.loads(locate(arguments).text)
    off_m = degrees_to_local(np.array((fix["latitude"], fix["longitude"])), TRANSMITTER)
    covariance_m2 = np.array(fix["covariance_m2"])
    assert np.linalg.norm(off_m) < 100
    assert off_m @ np.linalg.solve(covariance_m2, off_m) < 13.8  # the chi-square of two at 99.9 %
    assert fix["receivers_used"] == sorted(PLACES)
    assert fix["receivers_refused"] == []
    assert fix["method"] == "model"
    assert fix["ellipse_95"]["semi_major_m"] > fix["ellipse_68"]["semi_major_m"] > 0
    assert "method       model" in locate(LocateArguments(recordings, stations=arguments.stations, model=str(run))).text


def test_a_silent_and_an_undated_receiver_are_refused_with_the_reason(run, recordings, tmp_path):
    kept = [path for path in recordings if "_MI_" not in path.name]
    silent = write_kiwi_like(tmp_path, "MI", hertz=145_000_000, iq=lambda time_s: np.zeros(time_s.shape, complex))
    places = write_places(tmp_path / "places", PLACES | {"ST": (45.0, 8.0)})

    def stale(blocks):
        for block in blocks:
            block.age_s = 255
        return blocks

    undated = write_kiwi_like(tmp_path, "ST", hertz=145_000_000, edit=stale)
    fix = locate_by_model((*kept, silent, undated), places, run)
    assert {entry["name"] for entry in fix["receivers_refused"]} == {"MI", "ST"}
    assert fix["receivers_used"] == ["CO", "GE", "TO"]


def test_a_model_that_doubts_its_own_radius_claims_no_place(run, recordings, tmp_path):
    """NumPy recordings, too: the same place as best guess, and the radius that the run's metrics doubt."""
    doubting = tmp_path / "run"
    shutil.copytree(run, doubting)
    manifest = json.loads((doubting / "manifest.json").read_text())
    (doubting / "manifest.json").write_text(json.dumps(manifest | {"metrics": {"doubt": {"above_m": 1.0}}}))
    paths = write_npy(tmp_path / "npy", transmission(tuple(PLACES)))
    sure, unsure = (find(LocateArguments(paths, model=str(folder))).to_tree() for folder in (run, doubting))
    assert np.linalg.norm(degrees_to_local(np.array((sure["latitude"], sure["longitude"])), TRANSMITTER)) < 100
    (reason,) = unsure["reasons"]
    assert re.match(r"out of distribution: its own 68 % radius is .* m, above 1\.0 m", reason)
    assert unsure["best_guess"]["latitude"] == sure["latitude"]


def test_receivers_elsewhere_are_refused_with_the_region_and_a_cure(run, tmp_path):
    from kiwi_like import PLACES as FAR

    paths = tuple(write_kiwi_like(tmp_path, name) for name in FAR)
    places = write_places(tmp_path / "places")
    fix = locate_by_model(paths, places, run)
    assert (fix["located"], fix["best_guess"]) == (False, None)
    (reason,) = fix["reasons"]
    assert re.match(
        r"outside the trained region: 1 of 3 receivers within .* of 44.* N, .* E.*leave --model out", reason
    )


def test_a_model_of_features_and_a_spoilt_one_are_refused(run, recordings, tmp_path, set_folder_of_features):
    places = recordings[0].parent / "places"
    with pytest.raises(ExportError, match=r"inputs rss_db.*allowed: raw IQ.*model\.timing"):
        locate_by_model(recordings, places, set_folder_of_features)
    spoilt = tmp_path / "run"
    shutil.copytree(run, spoilt)
    (spoilt / "model.onnx").write_bytes((spoilt / "model.onnx").read_bytes()[:-1])
    with pytest.raises(ExportError, match="truncated"):
        locate_by_model(recordings, places, spoilt)


@pytest.fixture
def set_folder_of_features(tmp_path) -> Path:
    import stand_ins

    return stand_ins.set_bundle(tmp_path / "features").parent


def test_the_script_refuses_in_one_line(recordings, tmp_path, command_line):
    command_line.refuses(
        "locate", *recordings, "--stations", recordings[0].parent / "places", "--model", tmp_path, match="model.onnx"
    )


def test_a_published_model_gives_the_same_fix(run, recordings, tmp_path, capsys):
    from heimdall_jax.registry.publish import publish
    from heimdall_jax.store import FolderStore
    from tests.command_line import main_of

    publish(run, FolderStore(tmp_path), name="heimdall-net")
    flags = [*map(str, recordings), "--stations", str(recordings[0].parent / "places"), "--json", "--model"]
    fixes = []
    for uri in (str(run), str(tmp_path / "heimdall-net")):
        main_of("locate")([*flags, uri])
        fixes.append(json.loads(capsys.readouterr().out))
    assert fixes[0] == fixes[1]
