"""A folder in POWDER's format, small and made up: five fixed receivers, one on a bus, a distance law with noise."""

import csv
import datetime as dt
from pathlib import Path

import numpy as np

from heimdall_jax.geodesy import local_to_degrees

ORIGIN = (40.765, -111.845)
FIXED_M = np.array([[0.0, 0.0], [1500.0, 0.0], [0.0, 1500.0], [1500.0, 1500.0], [700.0, 800.0]])


def write_powder_like(folder: Path, rows: int = 160, seed: int = 0) -> Path:
    """Write `single_tx.csv` and `location_coordinates.json`; one row every 30 seconds."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"fixed-{i}" for i in range(5)]
    places = {name: tuple(local_to_degrees(place, ORIGIN)) for name, place in zip(names, FIXED_M, strict=True)}
    known = ", ".join(f'"{name}": ({float(lat)!r}, {float(lon)!r})' for name, (lat, lon) in places.items())
    (folder / "location_coordinates.json").write_text(f'{{{known}, "bus-1": None}}')
    columns = ["timestamp", *names, "bus-1_rss", "bus-1_x", "bus-1_y", "tx_x_coord", "tx_y_coord"]
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
