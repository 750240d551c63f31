"""A folder in POWDER's format, small and made up: five fixed receivers, one on a bus, a distance law with noise."""

import csv
import datetime as dt
import json
from pathlib import Path

import numpy as np

from heimdall_jax.geodesy import local_to_degrees

ORIGIN = (40.765, -111.845)
FIXED_M = np.array([[0.0, 0.0], [1500.0, 0.0], [0.0, 1500.0], [1500.0, 1500.0], [700.0, 800.0]])


NAMES = [f"fixed-{i}" for i in range(5)]
FLOOR_DB = -95.0


def write_powder_like(folder: Path, rows: int = 160, seed: int = 0) -> Path:
    """Write `single_tx.csv` and `location_coordinates.json`; one row every 30 seconds."""
    rng = np.random.default_rng(seed)
    write_places(folder)
    columns = ["timestamp", *NAMES, "bus-1_rss", "bus-1_x", "bus-1_y", "tx_x_coord", "tx_y_coord"]
    with (folder / "single_tx.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        for row in range(rows):
            when = dt.datetime(2022, 4, 25, 12) + dt.timedelta(seconds=30 * row)
            truth_m, bus_m = rng.uniform(100, 1400, (2, 2))
            powers = -30 - 30 * np.log10(np.linalg.norm(np.vstack([FIXED_M, bus_m]) - truth_m, axis=1) / 10)
            powers += rng.normal(0, 1.0, 6)
            heard = [f"{power:.4f}" if power > -95 else "-101" for power in powers]
            degrees = [
                f"{value:.7f}" for value in (*local_to_degrees(bus_m, ORIGIN), *local_to_degrees(truth_m, ORIGIN))
            ]
            table.writerow([when.strftime("%Y-%m-%d %H:%M:%S"), *heard, *degrees])
    return folder


def write_places(folder: Path) -> None:
    """Write `location_coordinates.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    places = {name: tuple(local_to_degrees(place, ORIGIN)) for name, place in zip(NAMES, FIXED_M, strict=True)}
    known = ", ".join(
        f'"{name}": ({round(float(lat), 9)!r}, {round(float(lon), 9)!r})' for name, (lat, lon) in places.items()
    )
    (folder / "location_coordinates.json").write_text(f'{{{known}, "bus-1": None}}')


def write_two_tx_like(folder: Path, rows: int = 40, seed: int = 1) -> Path:
    """Write `two_tx.csv`: the powers of two transmitters by the same law, added as watts; the bus took no part."""
    rng = np.random.default_rng(seed)
    write_places(folder)
    truth = [f"tx_{number}_{axis}_coord" for number in (1, 2) for axis in ("x", "y")]
    with (folder / "two_tx.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["timestamp", *NAMES, "bus-1_rss", "bus-1_x", "bus-1_y", *truth])
        for row in range(rows):
            when = dt.datetime(2022, 4, 25, 14) + dt.timedelta(seconds=30 * row)
            truth_m = rng.uniform(100, 1400, (2, 1, 2))
            each_db = -30 - 30 * np.log10(np.linalg.norm(FIXED_M - truth_m, axis=-1) / 10)
            powers = 10 * np.log10((10 ** (each_db / 10)).sum(axis=0)) + rng.normal(0, 1.0, 5)
            degrees = [f"{value:.7f}" for place in truth_m[:, 0] for value in local_to_degrees(place, ORIGIN)]
            readings = [*(f"{power:.4f}" for power in powers), "-101", "-1", "-1"]
            table.writerow([when.strftime("%Y-%m-%d %H:%M:%S"), *readings, *degrees])
    return folder


def write_no_tx_like(folder: Path, rows: int = 20, seed: int = 2) -> Path:
    """Write `all_data/no_tx.json`: noise alone; records name no transmitter."""
    rng = np.random.default_rng(seed)
    write_places(folder)
    places = [[float(value) for value in local_to_degrees(place, ORIGIN)] for place in FIXED_M]
    records = {}
    for row in range(rows):
        when = dt.datetime(2022, 4, 25, 15) + dt.timedelta(seconds=30 * row)
        powers = FLOOR_DB + rng.normal(0, 1.0, 5)
        rx_data = [[float(power), *place, name] for power, place, name in zip(powers, places, NAMES, strict=True)]
        records[when.strftime("%Y-%m-%d %H:%M:%S")] = {"rx_data": rx_data}
    (folder / "all_data").mkdir(exist_ok=True)
    (folder / "all_data" / "no_tx.json").write_text(json.dumps(records))
    return folder
