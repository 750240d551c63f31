"""Tables, lists and settings as targets: POWDER, stations, own recordings, split files, configs, task requests."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from heimdall_jax import config as configs
from heimdall_jax.jobs.requests import checked
from heimdall_jax.simulation.stations import read_stations
from heimdall_jax.sources.own_recordings import import_recordings
from heimdall_jax.sources.powder import read_powder
from heimdall_jax.sources.recordings import encode_iq
from heimdall_jax.sources.splits import split
from tests.fuzz.harness import Reader, Target
from tests.fuzz.mutators import Mutator, spoil_json, spoil_text
from tests.fuzz.sigmf_files import IQ_T2, metadata
from tests.powder_like import write_no_tx_like, write_powder_like

STATIONS_CSV = b"name,latitude,longitude,altitude_m\nhill,45.0,7.0,300\nroof,45.1,7.1,\n"
STATIONS_JSON = b'[{"name": "hill", "latitude": 45.0, "longitude": 7.0, "altitude_m": 300}]'
RECORDINGS_CSV = (
    b"session,start,latitude,longitude,frequency_hz,station,file,sample_rate_hz,clock_sigma_s,rss_db,error_margin_m\n"
    b"a,2026-03-01T12:00:00Z,45.05,7.05,145e6,hill,hill.npy,12000,5e-8,,100\n"
    b"a,2026-03-01T12:00:00Z,45.05,7.05,145e6,roof,roof.npy,12000,,-70.5,100\n"
)
OF_SIGMF_CSV = RECORDINGS_CSV.replace(b"hill.npy", b"hill.sigmf-meta").replace(b"roof.npy", b"hill.sigmf-data")


def file_in(name: str, read: Callable[[Path], object], prepare: Callable[[Path], object] = lambda folder: None):
    """A reader of the file `name` in a folder that was prepared."""

    def opened(folder: Path) -> Reader:
        prepare(folder)

        def reader(data: bytes) -> object:
            (folder / name).write_bytes(data)
            return read(folder / name)

        return reader

    return opened


def written(write: Callable[[Path], object], name: str) -> Callable[[], list[bytes]]:
    """The file `name` of a folder that `write` fills."""

    def seeds() -> list[bytes]:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            return [(Path(folder) / name).read_bytes()]

    return seeds


def few_rows(folder: Path) -> None:
    write_powder_like(folder, rows=6)


def few_records(folder: Path) -> None:
    write_no_tx_like(folder, rows=4)
    (folder / "all_data" / "no_tx.json").rename(folder / "no_tx.json")


def locations_json(path: Path) -> object:
    return read_powder(path.with_name("single_tx.csv"))


def open_split(folder: Path) -> Reader:
    sessions = read_powder(write_powder_like(folder, rows=40)).sessions

    def read(data: bytes) -> object:
        (folder / "test.json").write_bytes(data)
        return split(sessions, str(folder / "test.json"))

    return read


def split_seeds() -> list[bytes]:
    names = [f"2022-04-25 12:0{minute}:30" for minute in range(5)]
    return [json.dumps(names).encode(), json.dumps(dict.fromkeys(names, 0)).encode()]


def own_folder(folder: Path) -> None:
    iq_T = np.exp(1j * np.arange(600)).astype(np.complex64)
    for name in ("hill", "roof"):
        (folder / f"{name}.npy").write_bytes(encode_iq(iq_T))
    (folder / "hill.sigmf-meta").write_bytes(metadata())
    (folder / "hill.sigmf-data").write_bytes(IQ_T2.tobytes())
    (folder / "stations.csv").write_bytes(STATIONS_CSV)
    (folder / "recordings.csv").write_bytes(RECORDINGS_CSV)


def import_own(path: Path) -> object:
    out = path.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    return import_recordings(path.parent, out)


def config_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        configs.save(configs.POWDER, Path(folder) / "a.yaml")
        return [(Path(folder) / "a.yaml").read_bytes(), b"training: {epochs: 5, learning_rate: 1e-3}\n"]


def request_seeds() -> list[bytes]:
    train = {"out": "runs/a", "config": "powder", "changes": {"training.epochs": 5}}
    whole = {"out": "runs/a", "config": {"seed": 1, "data": {"source": "powder", "path": "x"}}}
    others = {"evaluate": {"run": "runs/a", "conditions": 3}, "publish": {"run": "runs/a", "store": "s3://b"}}
    asked = [("train", train), ("train", whole), *others.items()]
    return [json.dumps({"task": task, "arguments": arguments}).encode() for task, arguments in asked]


def open_requests(folder: Path) -> Reader:
    def read(data: bytes) -> object:
        asked = json.loads(data)
        if not (isinstance(asked, dict) and isinstance(asked.get("arguments"), dict)):
            return None
        return checked(
            "train" if asked.get("task") not in ("evaluate", "publish") else asked["task"], asked["arguments"]
        )

    def only_json(data: bytes) -> object:
        try:
            json.loads(data)
        except (ValueError, RecursionError):
            return None  # a broker's
        return read(data)

    return only_json


def table(name: str, seeds: Callable[[], list[bytes]], opened: Callable[[Path], Reader], spoil: Mutator = spoil_text):
    return Target(name, seeds, opened, spoil, 20_000, 300)


TARGETS = (
    table("powder_csv", written(few_rows, "single_tx.csv"), file_in("single_tx.csv", read_powder, few_rows)),
    table(
        "powder_places",
        written(few_rows, "location_coordinates.json"),
        file_in("location_coordinates.json", locations_json, few_rows),
    ),
    table(
        "powder_json",
        written(few_records, "no_tx.json"),
        file_in("no_tx.json", lambda path: read_powder(path, transmitters=0), few_records),
        spoil_json,
    ),
    table("split_file", split_seeds, open_split, spoil_json),
    table("stations_csv", lambda: [STATIONS_CSV], file_in("a.csv", read_stations)),
    table("stations_json", lambda: [STATIONS_JSON], file_in("a.json", read_stations), spoil_json),
    table("own_stations", lambda: [STATIONS_CSV], file_in("stations.csv", import_own, own_folder)),
    table("own_recordings", lambda: [RECORDINGS_CSV, OF_SIGMF_CSV], file_in("recordings.csv", import_own, own_folder)),
    table("config_yaml", config_seeds, file_in("a.yaml", lambda path: configs.load(str(path)))),
    table("request", request_seeds, open_requests, spoil_json),
)
