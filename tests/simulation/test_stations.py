"""Stations from a file: both formats, and every way to get one wrong."""

import dataclasses
import json

import pytest

from heimdall_jax.config import WorldConfig
from heimdall_jax.errors import ConfigError, DataError, StorageError
from heimdall_jax.simulation.stations import SEVEN_STATIONS, read_stations
from heimdall_jax.simulation.world import World
from heimdall_jax.types import Station

CSV = "name,latitude,longitude,altitude_m\nHütte,45.5,7.25,1200\nSee , -45,8,\n"
EXPECTED = (Station("Hütte", 45.5, 7.25, 1200.0), Station("See", -45.0, 8.0, 0.0))


def written(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_and_json_say_the_same(tmp_path):
    assert read_stations(written(tmp_path, "s.csv", "\ufeff" + CSV)) == EXPECTED
    one = {"name": "Hütte", "latitude": 45.5, "longitude": 7.25, "altitude_m": 1200}
    rows = [one, {"name": "See", "latitude": -45, "longitude": 8}]
    assert read_stations(written(tmp_path, "s.json", json.dumps(rows))) == EXPECTED


def test_a_world_takes_its_stations_from_the_file(tmp_path):
    three = "name,latitude,longitude\na,45,7\nb,45.5,7.5\nc,45.2,8\n"
    config = dataclasses.replace(WorldConfig(), stations_file=str(written(tmp_path, "s.csv", three)))
    world = World.build(config)
    assert [station.name for station in world.stations] == ["a", "b", "c"]
    assert world.box_deg == ((45.0, 7.0), (45.5, 8.0))
    assert World.build(WorldConfig()).stations == SEVEN_STATIONS


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("s.csv", CSV.replace("45.5", "95"), r"station 1, latitude: got '95'; allowed: -90 to 90"),
        ("s.csv", CSV.replace("7.25", "nan"), "longitude: got 'nan'"),
        ("s.csv", CSV.replace("1200", "high"), "altitude_m: got 'high'"),
        ("s.csv", CSV.replace("latitude", "lattitude"), "Did you mean 'latitude'"),
        ("s.csv", CSV.replace("See ", "Hütte"), "Rename one"),
        ("s.csv", CSV.replace("Hütte", ""), "Name the station"),
        ("s.csv", CSV.replace("1200", "1200,9"), "column: got None"),
        ("s.csv", "name,latitude\na,45\n", "longitude: got None"),
        ("s.json", "[", "Correct the syntax"),
        ("s.json", "{}", "got dict; allowed: a list"),
        ("s.json", "[3]", "station 1: got int"),
        ("s.json", '[{"name": "a", "latitude": true, "longitude": 7}]', "latitude: got True"),
    ],
)
def test_bad_files_say_what_is_wrong(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message):
        read_stations(written(tmp_path, name, text))


def test_a_missing_or_empty_file_is_refused(tmp_path):
    with pytest.raises(StorageError, match="stations_file"):
        read_stations(tmp_path / "none.csv")
    with pytest.raises(ConfigError, match="got 0 stations"):
        World.build(dataclasses.replace(WorldConfig(), stations_file=str(written(tmp_path, "s.csv", ""))))
