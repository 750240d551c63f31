"""The table: what a user can do wrong with paths, formats, units, coordinates, rates, credentials and flags."""

from __future__ import annotations

import numpy as np

from heimdall_jax.flags import WRONG_USAGE
from tests.scripts.mistake import HEADER, RATE_HZ, Case, described, folder, own, powder, text, together, tracked_run
from tests.servers import free_port

OWN = ("prepare_data", "--recordings", ".", "--out", "out")
NOBODY = f"127.0.0.1:{free_port()}"
LOCATE = ("locate", "TO.npy", "GE.npy", "MI.npy")
WAV = "20260301T120000Z_145000000_TO_iq.wav"
CONFIG = ("train", "--out", "runs/a", "--config")
TRAIN = ("train", "--out", "runs/a", "--tracking.enabled", "False")
ON_POWDER = (*TRAIN, "--config", "powder", "--data", "data")
PUBLISH = (*TRAIN, "--export.publish")
NO_KEYS = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}
WRONG_KEYS = {"AWS_ACCESS_KEY_ID": "wrong", "AWS_SECRET_ACCESS_KEY": "wrong"}

CASES = [
    # Paths.
    Case("config missing", (*CONFIG, "nowhere.yaml"), r"config file nowhere\.yaml: got No such file"),
    Case("config a folder", (*CONFIG, "a.yaml"), r"config file a\.yaml: got Is a directory", folder("a.yaml")),
    Case("config not text", (*CONFIG, "a.yaml"), r"config file a\.yaml: got 'utf-8'", text("a.yaml", b"\xff\xfe")),
    Case("config unknown", (*CONFIG, "powdr"), "config: got 'powdr'.*Did you mean 'powder'"),
    Case("data not given", (*TRAIN, "--data.source", "powder"), r"data\.path: got nothing.*Give --data FOLDER"),
    Case("data missing", ON_POWDER, "POWDER data: got nothing at data.*Check the path"),
    Case("data empty", ON_POWDER, "data: got a folder without recordings", folder("data")),
    Case("data another file", ON_POWDER, "data: got no JSON", text("data")),
    Case("prepared missing", (*TRAIN, "--data.source", "prepared", "--data", "set"), "prepared set: got no folder set"),
    Case("prepared a file", (*TRAIN, "--data.source", "prepared", "--data", "f"), "got no folder f", text("f")),
    Case(
        "prepared empty",
        (*TRAIN, "--data.source", "prepared", "--data", "d"),
        "prepared sets in d: got none",
        folder("d"),
    ),
    Case("catalogue missing", (*TRAIN, "--catalogue", "c"), r"c/catalogue\.sqlite: got .*No such file"),
    Case("catalogue a file", (*TRAIN, "--catalogue", "f"), r"f/catalogue\.sqlite: got .*Not a directory", text("f")),
    Case("resume nothing", ("train", "--out", "r", "--resume"), r"resume r: got no config\.yaml.*Give --out"),
    Case("sync nothing", ("train", "--out", "r", "--sync"), r"sync r: got no config\.yaml"),
    Case("evaluate a file", ("evaluate", "f"), "run f: got no checkpoints.*the folder that train.py left", text("f")),
    Case("validate missing", ("validate_export", "nowhere"), "nowhere"),
    Case("recordings missing", OWN, r"stations\.csv: got No such file"),
    Case(
        "recordings not listed",
        OWN,
        r"recordings\.csv: got No such file",
        text("stations.csv", "name,latitude,longitude\n"),
    ),
    Case("recording missing", OWN, r"no\.npy", own(("mast.npy", "no.npy"))),
    Case("recording a folder", OWN, r"mast\.npy", own(iq=lambda file: (file.unlink(), file.mkdir()))),
    Case(
        "out is taken",
        OWN,
        "a catalogue is there already",
        together(own(), folder("out"), text("out/catalogue.sqlite")),
    ),
    Case("split missing", (*ON_POWDER, "--split", "no.json"), r"no\.json", powder),
    # Formats.
    Case("split broken", (*ON_POWDER, "--split", "s.json"), r"s\.json", together(powder, text("s.json", '["2022'))),
    Case(
        "table empty",
        OWN,
        r"stations\.csv: got no column 'name'",
        together(own(), text("stations.csv", "")),
    ),
    Case("table without rows", OWN, r"recordings\.csv: got no rows", together(own(), text("recordings.csv", HEADER))),
    Case("a cell too few", OWN, r"7 cells in row 2 for 8 columns", own((f",{RATE_HZ}", ""))),
    Case(
        "npy of int16",
        OWN,
        r"mast\.npy: got dtype int16.*",
        own(iq=lambda file: np.save(file, np.zeros(600, np.int16))),
    ),
    Case("npy that is text", OWN, r"mast\.npy: got ", own(iq=lambda file: file.write_text("not samples"))),
    Case("npy cut off", OWN, r"mast\.npy: got ", own(iq=lambda file: file.write_bytes(file.read_bytes()[:700]))),
    Case(
        "SigMF broken",
        OWN,
        r"mast\.sigmf-meta",
        own(("mast.npy", "mast.sigmf-meta"), iq=lambda file: file.with_suffix(".sigmf-meta").write_text("{")),
    ),
    Case(
        "model damaged",
        ("validate_export", "m/model.onnx"),
        "manifest",
        together(folder("m"), text("m/model.onnx")),
    ),
    Case(
        "manifest broken",
        ("validate_export", "m"),
        "manifest: got unreadable JSON",
        together(folder("m"), text("m/model.onnx"), text("m/manifest.json", "{")),
    ),
    Case(
        "stations file without a column",
        (*TRAIN, "--world.stations-file", "s.csv"),
        r"s\.csv, station 1, longitude: got None",
        text("s.csv", "name,latitude\na,45\n"),
    ),
    # Units.
    Case(
        "rate in kHz",
        OWN,
        r"sample_rate_hz: got 12; allowed: 250 Hz or more\. Give Hz: 12 kHz are 12000",
        own((f",{RATE_HZ}", ",12")),
    ),
    Case("carrier in MHz", OWN, r"frequency_hz: got 145; .*145 MHz are 145000000\.", own(("145e6", "145"))),
    Case(
        "radians",
        OWN,
        r"station 'mast': got \(0\.789, 0\.126\); .*look like radians",
        own(("45.21,7.21", "0.789,0.126")),
    ),
    Case(
        "altitude in feet and cm",
        OWN,
        "altitude_m: got 120000; allowed: -1000 to 100000",
        own(
            ("longitude\n", "longitude,altitude_m\n"),
            ("7.01\n", "7.01,120000\n"),
            ("7.11\n", "7.11,0\n"),
            ("7.21\n", "7.21,0\n"),
        ),
    ),
    Case(
        "negative sigma",
        OWN,
        "clock_sigma_s: got -1e-6; allowed: 0 to",
        own(("sample_rate_hz\n", "sample_rate_hz,clock_sigma_s\n"), (f",{RATE_HZ}\n", f",{RATE_HZ},-1e-6\n")),
    ),
    Case(
        "negative sigma of a world",
        (*TRAIN, "--world.clock-sigma-s", "-1"),
        r"world\.clock_sigma_s: got -1\.0; allowed: 0 to",
    ),
    Case("time without a zone", OWN, "start: got 2026-03-01T12:00:00; .*Append Z", own(("00Z", "00"))),
    # Coordinates.
    Case(
        "station swapped off Earth",
        OWN,
        r"station 'mast': got \(120\.0, 45\.0\); .*look swapped",
        own(("45.21,7.21", "120,45")),
    ),
    Case(
        "station swapped on Earth",
        OWN,
        r"station 'mast': got \(7\.21, 45\.21\), .*seem swapped",
        own(("45.21,7.21", "7.21,45.21")),
    ),
    Case(
        "transmitter swapped",
        OWN,
        r"session 'a', transmitter: got \(7\.05, 45\.05\), .*seem swapped",
        own(("45.05,7.05", "7.05,45.05")),
    ),
    Case(
        "latitude beyond the pole",
        OWN,
        r"station 'mast': got \(95\.0, 95\.0\); allowed: latitude in",
        own(("45.21,7.21", "95,95")),
    ),
    Case("no number", OWN, "latitude: got 'N45'", own(("45.21", "N45"))),
    # Rates.
    Case("rates differ", OWN, "session 'a'", own(("mast.npy,12000", "mast.npy,8000"))),
    Case("rate of zero", OWN, r"sample_rate_hz: got 0; allowed: 1 to", own((f",{RATE_HZ}", ",0"))),
    Case("rate of zero for features", (*TRAIN, "--features.sample-rate-hz", "0"), r"sample_rate_hz: got 0"),
    # Credentials and servers.
    Case(
        "S3 away",
        (*PUBLISH, "s3://models"),
        "s3://models: got .*Check AWS_ENDPOINT_URL",
        environment=WRONG_KEYS | {"AWS_ENDPOINT_URL": f"http://{NOBODY}"},
    ),
    Case(
        "S3 without keys",
        (*PUBLISH, "s3://models"),
        "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        environment=NO_KEYS | {"AWS_ENDPOINT_URL": f"http://{NOBODY}"},
    ),
    Case(
        "S3 with a wrong key",
        (*PUBLISH, "s3://models"),
        "InvalidAccessKeyId.*Check AWS_ACCESS_KEY_ID",
        environment=WRONG_KEYS | {"AWS_ENDPOINT_URL": "REFUSING"},
    ),
    Case("store unknown", (*PUBLISH, "ftp://models"), "store: got 'ftp://models'; allowed: .*s3://bucket/prefix"),
    Case(
        "PostgreSQL away",
        (*TRAIN, "--catalogue", f"postgresql://{NOBODY}/db"),
        "onnection refused.*Check the address and that the server runs",
    ),
    Case(
        "a secret in a URL",
        ("prepare_data", "--catalogue", "postgresql://me:hunter2@host/db", "--out", "o"),
        r"got a postgresql URL with a secret.*PGPASS",
    ),
    Case("database unknown", (*TRAIN, "--catalogue", "notes://host/db"), "database: got .*sqlite:/// or postgresql://"),
    Case(
        "MLflow away",
        ("train", "--out", "run", "--sync", "--tracking.uri", f"http://{NOBODY}"),
        "MLflow|track",
        tracked_run,
    ),
    Case(
        "patience no number",
        (*TRAIN, "--catalogue", f"postgresql://{NOBODY}/db"),
        "HEIMDALL_PATIENCE_SECONDS: got 'soon'",
        environment={"HEIMDALL_PATIENCE_SECONDS": "soon"},
    ),
    # Flags and values.
    Case(
        "unknown flag",
        ("train", "--slit", "time"),
        "command line: got unrecognized options: --slit, time; .*Did you mean --split",
        code=WRONG_USAGE,
    ),
    Case(
        "unknown setting",
        ("train", "--training.epoch", "5"),
        "lists. Did you mean --training.epochs INT",
        code=WRONG_USAGE,
    ),
    Case(
        "no number of epochs",
        ("train", "--training.epochs", "five"),
        "'five'; allowed: --training.epochs INT",
        code=WRONG_USAGE,
    ),
    Case("unknown choice", ("train", "--data.source", "radio"), "'radio'.*'catalogue'", code=WRONG_USAGE),
    Case("no value", ("train", "--out"), "missing value for argument '--out'", code=WRONG_USAGE),
    Case("no run", ("evaluate",), "missing from evaluate.py: .*See evaluate.py --help", code=WRONG_USAGE),
    Case("no out", ("prepare_data",), "missing from prepare_data.py: --out", code=WRONG_USAGE),
    Case("no window", ("locate", "--window", "x"), "--window.*'x'", code=WRONG_USAGE),
    Case("unknown section", ("bench", "trian"), "'trian'.*See bench.py --help", code=WRONG_USAGE),
    Case("no rounds", ("bench", "--repeats", "0"), "--repeats: got 0; allowed: 1 or more"),
    Case("no seeds", (*TRAIN, "--seeds", "0"), "--seeds: got 0; allowed: 1 or more"),
    Case("negative epochs", (*TRAIN, "--training.epochs", "-1"), r"training\.epochs: got -1; allowed: above 0"),
    Case(
        "objects without a catalogue",
        ("prepare_data", "--objects", "s3://b", "--out", "o"),
        "--objects: got no catalogue; .*Leave it out",
    ),
    Case(
        "two sources",
        ("prepare_data", "--catalogue", "c", "--recordings", "r", "--out", "o"),
        "--recordings: got --catalogue too",
    ),
    # Of locate.py alone.
    Case("nothing recorded", ("locate",), "recordings: got none; allowed: three or more"),
    Case("stations missing", (*LOCATE, "--stations", "nowhere"), "--stations: got nowhere", described()),
    Case("recording of no kind", ("locate", "a.mp3"), r"a\.mp3: got \.mp3; allowed: \.wav", text("a.mp3")),
    Case("no such recording", ("locate", "a.npy"), r"a\.(npy|json): got No such file"),
    Case("wav cut off", ("locate", WAV, "--stations", "."), WAV, text(WAV, b"RIFF")),
    Case("JSON cut off", LOCATE, r"MI\.json", together(described(), text("MI.json", '{"start'))),
    Case("JSON key unknown", LOCATE, "latitud; .*Did you mean .*latitude", described(latitud=45)),
    Case("no start", LOCATE, "--start", described(start=None)),
    Case("receiver swapped off Earth", LOCATE, "MI.*look swapped", described(latitude=120, longitude=45)),
    Case("receiver swapped on Earth", LOCATE, "station 'MI'.*seem swapped", described(latitude=9.12, longitude=45.48)),
    Case("rate of nothing", LOCATE, "sample_rate_hz", described(sample_rate_hz=0)),
    Case("clock that runs backwards", (*LOCATE, "--clock-us", "-1"), r"--clock-us: got -1\.0; allowed: above 0"),
    Case("model of no kind", (*LOCATE, "--model", "ftp://models/net"), "model: got 'ftp://models/net'", described()),
    Case("registry not named", (*LOCATE, "--model", "models:/net@best"), "registry of models:/net@best", described()),
    Case("no folder for the map", (*LOCATE, "--map", "d"), "--map: got the folder d", folder("d")),
]
