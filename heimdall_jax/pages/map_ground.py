"""What lies below a fix on its map: land and water, borders, or tiles; meridians and parallels; a bar of kilometres."""

from __future__ import annotations

import math
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

from heimdall_jax import geodesy
from heimdall_jax.errors import ConfigError, explain
from heimdall_jax.pages.coast import Layer, detail_for, shapes_deg
from heimdall_jax.pages.map_labels import Label, Labels
from heimdall_jax.pages.map_view import HEIGHT, PICTURE, WIDTH, View
from heimdall_jax.pages.outlines import SPARE, THINNED, Rectangle, cut_area, cut_line, path_data

AREAS: tuple[Layer, ...] = ("land", "lake", "island")
RIVERS_BELOW_M = 400_000.0
"""Width of a view: in wider ones they hide what matters."""
STEPS_DEG = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0)
LINES = 4.5
"""Meridians, or parallels, at most on a picture."""
LONGEST_BAR = 120.0
TILE, FINEST = 256.0, 19
FIELDS = ("{z}", "{x}", "{y}")


class Bar(NamedTuple):
    """A length on the ground: its ends along x, its y, and what it is."""

    x_low: float
    x_high: float
    y: float
    text: str


class Tile(NamedTuple):
    """A square picture of a web map."""

    url: str
    x: float
    y: float
    size: float


class Ground(NamedTuple):
    """SVG paths by layer, lines of the grid and their labels, the bar, and tiles."""

    paths: dict[str, str]
    grid: str
    labels: list[Label]
    bar: Bar
    tiles: list[Tile]


def keep_bar_free(view: View, labels: Labels) -> None:
    """Nothing is written on the bar of kilometres."""
    bar = bar_of(view)
    labels.keep_free(Rectangle(bar.x_low, bar.y - 18, bar.x_high, bar.y).grown(6.0))


def ground_of(view: View, labels: Labels, tiles: str | None) -> Ground:
    """What lies below; of its labels those that find room."""
    grid, told = _grid(view, labels)
    return Ground(_paths(view), grid, told, bar_of(view), [] if tiles is None else _tiles(view, tiles))


def check_tiles(tiles: str) -> str:
    """The host that tiles come from.

    Raises:
        ConfigError: It is no address of tiles.
    """
    try:
        parts = urlsplit(tiles)
        host = parts.hostname or ""
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in {"http", "https"} or not host or not all(field in tiles for field in FIELDS):
        cure = "Give one such as https://tile.example/{z}/{x}/{y}.png, or leave tiles out: coasts need none."
        raise ConfigError(explain("address of tiles", got=tiles, allowed="http(s) with {z}, {x}, {y}", cure=cure))
    return host


def _paths(view: View) -> dict[str, str]:
    """The path of each layer that has anything in the view."""
    metres = view.ground_m_per_unit
    detail, part = detail_for(metres), view.part
    layers: list[Layer] = [*AREAS, "border", *(("river",) if view.width_m < RIVERS_BELOW_M else ())]
    frame, paths = PICTURE.grown(SPARE), {}
    for layer in layers:
        closed, pieces = layer in AREAS, []
        for shape_deg in shapes_deg(layer, part, detail, least_km2=(metres / 1000) ** 2):
            units = view.units(shape_deg)
            for piece in cut_area(units, frame) if closed else [units]:
                pieces += cut_line(piece, frame, THINNED)
        if data := path_data(pieces, closed=closed):
            paths[layer] = data
    return paths


def _grid(view: View, labels: Labels) -> tuple[str, list[Label]]:
    """Parallels, named at the left edge, and meridians, named at the upper one."""
    part, lines, told = view.part, [], []
    spans = (part.y_high - part.y_low, part.x_high - part.x_low)
    for axis, (low, high) in enumerate(((part.y_low, part.y_high), (part.x_low, part.x_high))):
        step = next((step for step in STEPS_DEG if spans[axis] <= LINES * step), STEPS_DEG[-1])
        other = np.linspace(*((part.x_low, part.x_high) if axis == 0 else (part.y_low, part.y_high)), 91)
        for number in range(math.ceil(low / step), math.floor(high / step) + 1):
            fixed = np.full_like(other, number * step)
            units = view.units(np.stack([fixed, other] if axis == 0 else [other, fixed], axis=-1))
            lines += cut_line(units, PICTURE, THINNED)
            told += _named(units, axis, _degrees(number * step, step, "NS" if axis == 0 else "EW"), labels)
    return path_data(lines, closed=False), told


def _named(units: np.ndarray, axis: int, text: str, labels: Labels) -> list[Label]:
    """The label of a line of the grid, where it meets its edge and there is room."""
    along, across = (units[:, 0], units[:, 1]) if axis == 0 else (units[::-1, 1], units[::-1, 0])
    if not ((np.diff(along) > 0).all() and along[0] < 0 < along[-1]):
        return []
    at = float(np.interp(0.0, along, across))
    label = labels.at(text, 5.0, at, "start") if axis == 0 else labels.at(text, at, 13.0, "middle")
    return [] if label is None else [label]


def _degrees(value: float, step: float, letters: str) -> str:
    """Degrees with as many decimals as the step has, and the half of the Earth."""
    value = (value + 180) % 360 - 180 if letters == "EW" else value
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    number = f"{abs(value):.{decimals}f}°"
    return number if value == 0 or (letters == "EW" and abs(value) == 180) else f"{number} {letters[value < 0]}"


def bar_of(view: View) -> Bar:
    """The longest round number of metres that fits, at the lower right."""
    most_m = LONGEST_BAR * view.ground_m_per_unit
    power = 10 ** math.floor(math.log10(most_m))
    length_m = max(digit * power for digit in (1, 2, 5) if digit * power <= most_m)
    right, units = WIDTH - 14.0, length_m / view.ground_m_per_unit
    text = f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"
    return Bar(round(right - units, 1), right, HEIGHT - 12.0, text)


def _tiles(view: View, address: str) -> list[Tile]:
    """The tiles that cover a web map, of about as many pixels as it has."""
    edge_m, metres = geodesy.WEB_MERCATOR_EDGE_M, view.metres_per_unit
    zoom = min(max(math.ceil(math.log2(2 * edge_m / metres / TILE)), 0), FINEST)
    count = 2**zoom
    size_m = 2 * edge_m / count
    east_m, north_m = geodesy.degrees_to_web_mercator(np.asarray(view.middle_deg)).tolist()
    left_m, top_m = edge_m + east_m - WIDTH / 2 * metres, edge_m - north_m - HEIGHT / 2 * metres
    columns = range(math.floor(left_m / size_m), math.ceil((left_m + WIDTH * metres) / size_m))
    rows = range(max(math.floor(top_m / size_m), 0), min(math.ceil((top_m + HEIGHT * metres) / size_m), count))
    found = []
    for row in rows:
        for column in columns:
            url = address
            for field, number in zip(FIELDS, (zoom, column % count, row), strict=True):
                url = url.replace(field, str(number))
            x, y = (column * size_m - left_m) / metres, (row * size_m - top_m) / metres
            found.append(Tile(url, round(x, 2), round(y, 2), round(size_m / metres, 2)))
    return found
