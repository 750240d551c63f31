"""The uses of the script, each read back as a source."""

import dataclasses
import datetime as dt
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from heimdall_jax import config as configs
from heimdall_jax.config import Config, DataConfig, ModelConfig, WorldConfig
from heimdall_jax.datasets import load_data
from heimdall_jax.errors import ConfigError
from heimdall_jax.preparation import PrepareArguments, parse_prepare, prepare_config, prepare_data, write_sigmf
from heimdall_jax.simulation.sessions import SimulatedSessions
from heimdall_jax.simulation.world import World
from heimdall_jax.sources.catalogue import embedded, open_catalogue
from heimdall_jax.sources.catalogue_sql import add_session, create_catalogue
from heimdall_jax.sources.powder import read_powder
from heimdall_jax.sources.prepared import open_prepared
from heimdall_jax.sources.rows import Recording
from heimdall_jax.sources.sigmf import read_collection
from heimdall_jax.sources.splits import split
from heimdall_jax.types import Station

SMALL = Config(world=WorldConfig(train=6, validation=2, test=3, duration_s=0.05))


def test_simulated_network(tmp_path):
    prepare_config(dataclasses.replace(SMALL, data=DataConfig(limit=4)), tmp_path)
    source = open_prepared(tmp_path)
    assert len(source) == 4 + 2 + 3
    world = World.build(SMALL.world, sample_rate_hz=SMALL.features.sample_rate_hz)
    made = SimulatedSessions(world, "train", 6)
    read = open_prepared(tmp_path, "train")
    for index in range(4):
        np.testing.assert_array_equal(read[index].iq_RT, made[index].iq_RT)
        np.testing.assert_allclose(read[index].truth_deg, made[index].truth_deg, rtol=1e-15)
    parts = split(source, "random", folder=tmp_path)
    assert {source[int(i)].session_id for i in parts.test} == {f"test-{i:06d}" for i in range(3)}


def test_powder_from_a_yaml(powder_folder, tmp_path):
    file = tmp_path / "mine.yaml"
    configs.save(dataclasses.replace(configs.POWDER, data=DataConfig(source="powder", validation_fraction=0.1)), file)
    out = tmp_path / "set"
    line = prepare_data(PrepareArguments(out=out, config=str(file), data=str(powder_folder), split="block", limit=100))
    assert "powder_rss/block" in line
    assert len(open_prepared(out, "train")) == 100
    assert len(open_prepared(out, "test")) == 458
    held = split(read_powder(powder_folder), "block", folder=powder_folder, validation_fraction=0.1).validation
    assert len(open_prepared(out, "validation")) == len(held)


def test_own_recordings(tmp_path):
    (tmp_path / "stations.csv").write_text("name,latitude,longitude\na,45,7\nb,45.1,7\nc,45,7.1\n")
    rows = ["session,start,latitude,longitude,frequency_hz,station,file,sample_rate_hz"]
    for name in "abc":
        np.save(tmp_path / f"{name}.npy", np.ones(100, np.complex64))
        rows.append(f"one,2026-03-01T12:00:00Z,45.05,7.05,145e6,{name},{name}.npy,12000")
    (tmp_path / "recordings.csv").write_text("\n".join(rows))
    assert prepare_data(PrepareArguments(out=tmp_path / "out", recordings=tmp_path)).startswith("1 sessions")
    assert len(open_catalogue(tmp_path / "out")) == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DataConfig(source="catalogue"), "simulation or powder"),
        (DataConfig(source="powder", split="mine.json"), "give the file when training"),
    ],
)
def test_what_is_not_prepared(tmp_path, data, message):
    with pytest.raises(ConfigError, match=message):
        prepare_config(Config(data=data), tmp_path)


def test_the_script(tmp_path):
    script = Path(__file__).parents[1] / "scripts" / "prepare_data.py"
    command = [sys.executable, str(script), "--out", str(tmp_path / "o"), "--config", "powder", "--data"]
    done = subprocess.run([*command, str(tmp_path / "absent")], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: POWDER data: got nothing at")
    assert done.stderr.count("\n") == 1
    assert subprocess.run([*command[:2], "--help"], capture_output=True, text=True).returncode == 0


def write_catalogue(folder):
    """Noise at three stations, two sessions at each of four places."""
    stations = [Station(f"s{i}", 45.0 + 0.1 * i, 7.0) for i in range(3)]
    url, store = embedded(folder)
    create_catalogue(url)
    for index in range(8):
        rng = np.random.default_rng(index)
        iq = [(rng.standard_normal(400) + 1j * rng.standard_normal(400)).astype(np.complex64) for _ in stations]
        add_session(
            url,
            store,
            name=f"{index}",
            start=dt.datetime(2026, 3, 1, 12, index, tzinfo=dt.UTC),
            duration_s=30.0,
            truth_deg=(45.05 + 0.1 * (index % 4), 7.05),
            recordings=[Recording(station, -60.0, 10.0, iq_T) for station, iq_T in zip(stations, iq, strict=True)],
            frequency_hz=145.3e6,
            sample_rate_hz=12_000.0,
        )


def test_a_catalogue(tmp_path):
    """By the script, again by its function, and trained from as a prepared set."""
    write_catalogue(tmp_path / "catalogue")
    script = Path(__file__).parents[1] / "scripts" / "prepare_data.py"
    flags = ["--catalogue", str(tmp_path / "catalogue"), "--out", str(tmp_path / "set"), "--split", "block"]
    done = subprocess.run([sys.executable, str(script), *flags], capture_output=True, text=True)
    where = f"prepared set in {tmp_path}/set/approved_sessions/block/1.2.0"
    assert done.returncode == 0, done.stderr
    assert {line.split(" ")[0] for line in done.stderr.splitlines()} <= {"writing"}  # sessions, so many of 8
    assert done.stdout == f"{where}: 8 sessions read, 0 kept, 0 dropped\n"
    arguments = PrepareArguments(out=tmp_path / "set", catalogue=str(tmp_path / "catalogue"), split="block")
    assert prepare_data(arguments) == f"{where}: 0 sessions read, 8 kept, 0 dropped"
    model = ModelConfig(name="receiver_set", spectrogram=False, timing=False)
    data = DataConfig(source="prepared", path=str(tmp_path / "set"), split="block")
    loaded = load_data(Config(data=data, model=model), cache=tmp_path / "cache")
    assert loaded.test is not None
    held = open_prepared(tmp_path / "set", "test")
    assert sorted(loaded.test.session_ids) == sorted(row.session_id for row in held.transmissions)
    assert len(held) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recordings": Path("r")}, r"--recordings: got --catalogue too; allowed: one of them"),
        ({"data": "d"}, r"--data: got --catalogue too"),
        ({"limit": 3}, r"--limit: got --catalogue too.*Give it when training"),
        ({"split": "block2"}, r"split of a set that grows: got 'block2'"),
        ({"catalogue": "postgresql://u:hunter2@h/d"}, r"--catalogue: got a postgresql URL with a secret in it"),
        ({"objects": "s3://k:hunter2@b"}, r"--objects: got a s3 URL with a secret in it"),
        ({"catalogue": None, "objects": "s3://b"}, r"--objects: got no catalogue; allowed: with --catalogue"),
        ({"catalogue": None, "runner": "direct"}, r"--runner: got no catalogue"),
        ({"catalogue": None, "runner_options": "--x"}, r"--runner-options: got no catalogue"),
    ],
)
def test_flags_that_do_not_fit(tmp_path, changes, message):
    write_catalogue(tmp_path / "catalogue")
    given = {"out": tmp_path / "out", "catalogue": str(tmp_path / "catalogue"), **changes}
    with pytest.raises(ConfigError, match=message) as caught:
        prepare_data(PrepareArguments(**given))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("given", [["--runner-options", "--a=1 --b"], ["--runner_options=--a=1 --b"]])
def test_options_of_a_runner_are_one_value(given):
    parsed = parse_prepare(["--out", "o", *given, "--runner", "direct"])
    assert (parsed.runner_options, parsed.runner) == ("--a=1 --b", "direct")
    with pytest.raises(SystemExit):
        parse_prepare(["--out", "o", "--runner-options"])


def test_simulated_transmissions_as_sigmf(tmp_path):
    made = SimulatedSessions(World.build(SMALL.world, sample_rate_hz=SMALL.features.sample_rate_hz), "test", 2)
    line = write_sigmf(SMALL, 2, tmp_path / "out")
    assert line == f"2 SigMF collections of 14 recordings, 0.05 s each, in {tmp_path / 'out'}"
    for sent in (made[0], made[1]):
        read = read_collection(tmp_path / "out" / sent.session_id / f"{sent.session_id}.sigmf-collection")
        assert sent.iq_RT is not None
        np.testing.assert_array_equal([one.iq_T for one in read], sent.iq_RT)
        assert tuple(one.station for one in read) == sent.receivers
        assert [one.start_ns for one in read] == [int(sent.start_time_s) * 10**9] * 7


@pytest.mark.parametrize(
    ("config", "count", "message"),
    [("powder", 1, "allowed: simulation with --sigmf"), ("simulation", 0, "--sigmf: got 0; allowed: 1 or more")],
)
def test_what_is_not_written_as_sigmf(tmp_path, config, count, message):
    with pytest.raises(ConfigError, match=message):
        prepare_data(PrepareArguments(out=tmp_path / "out", config=config, sigmf=count))
    with pytest.raises(ConfigError, match="--limit: got --sigmf too"):
        prepare_data(PrepareArguments(out=tmp_path / "out", limit=3, sigmf=3))
    assert not (tmp_path / "out").exists()
