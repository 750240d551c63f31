"""The figure of a report that shows errors on the Earth: every truth in the colour of its error, coasts and borders."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from heimdall_jax.evaluation.fixes import Fixes
from heimdall_jax.evaluation.panels import GREY, Panel, drawn
from heimdall_jax.evaluation.report_maps import receiver_places_m
from heimdall_jax.evaluation.table import spoken_m
from heimdall_jax.geodesy import ground_distance_m, local_to_degrees
from heimdall_jax.pages.coast import SOURCE, Layer, detail_for, shapes_deg
from heimdall_jax.pages.outlines import Rectangle

MARGIN = 0.06
"""Around the places, as a share of the longer side."""
PIXELS = 700
"""About so many across the map."""
ROWS_TOLD = 300
"""Of the table: the largest errors."""
LEAST_M = 0.1
"""A smaller error has this one's colour."""
LAND, WATER, LINE = "#ececec", "#ffffff", "#8a8a8a"


def error_map(fixes: Fixes) -> Panel:
    """Each truth where it is on the Earth, coloured by the error of its fix; receivers; coasts where there are any."""
    truth_deg = local_to_degrees(fixes.truth_m_NE, fixes.origin_deg)
    receivers_m = np.concatenate(receiver_places_m(fixes))
    part, metres = _view(np.concatenate([truth_deg, local_to_degrees(receivers_m, fixes.origin_deg)]))
    shapes = _shapes(part, metres)
    ground = f" {SOURCE}." if shapes else " There is no coast or border in this area."
    cut = f" The table holds the {ROWS_TOLD} worst." if len(truth_deg) > ROWS_TOLD else ""
    low, high = (spoken_m(float(value)) for value in np.quantile(fixes.error_m_N, (0.1, 0.9)))
    corners = f"{_place(truth_deg.min(axis=0))} to {_place(truth_deg.max(axis=0))}"
    return Panel(
        "error_map",
        "Where on Earth is it wrong?",
        f"Every true place in the colour of its fix's error, and the receivers.{ground}{cut}",
        f"Map of {len(truth_deg):,} true places from {corners}; eight of ten errors are between {low} and {high}, "
        f"the largest is at {_place(truth_deg[fixes.worst[0]])}.",
        ("transmission", "latitude", "longitude", "error"),
        tuple(
            (
                fixes.session_ids[at],
                *(f"{degrees:.5f}" for degrees in truth_deg[at]),
                spoken_m(float(fixes.error_m_N[at])),
            )
            for at in fixes.worst[:ROWS_TOLD]
        ),
        drawn(lambda figure, axes: _draw(figure, axes, fixes, shapes, part), (4.8, 5.0)),
    )


def ground_distance_ratio(part: Rectangle) -> float:
    """Metres of a degree of latitude over those of a degree of longitude, in the middle of a part of the Earth."""
    latitude, longitude = (part.y_low + part.y_high) / 2, (part.x_low + part.x_high) / 2
    here, step = np.array([latitude, longitude]), 1e-3
    north_m, east_m = (float(ground_distance_m(here, here + offset)) for offset in ((step, 0.0), (0.0, step)))
    return north_m / east_m


def _view(place_deg: np.ndarray) -> tuple[Rectangle, float]:
    """The part of the Earth that holds all places with a margin, and the metres of a pixel of its picture."""
    (south, west), (north, east) = place_deg.min(axis=0).tolist(), place_deg.max(axis=0).tolist()
    ratio = ground_distance_ratio(Rectangle(west, south, east, north))
    margin = MARGIN * max(north - south, (east - west) / ratio, 1e-4)
    part = Rectangle(west - margin * ratio, south - margin, east + margin * ratio, north + margin)
    across_m = float(ground_distance_m(np.array([part.y_low, west]), np.array([part.y_high, west])))
    return part, across_m / PIXELS


def _shapes(part: Rectangle, metres: float) -> dict[Layer, list[np.ndarray]]:
    """Outlines by layer; none where land or water fills all of the part."""
    layers: list[Layer] = ["land", "lake", "island", "border"]
    found: dict[Layer, list[np.ndarray]] = {
        layer: shapes_deg(layer, part, detail_for(metres), (metres / 1000) ** 2) for layer in layers
    }
    inside = any(_crosses(shape, part) for shapes in found.values() for shape in shapes)
    return found if inside else {}


def _crosses(shape_deg: np.ndarray, part: Rectangle) -> bool:
    """Whether an outline is anywhere off the edges of the part: one that was cut to it on all sides is not."""
    y, x = shape_deg.T
    spare = 1e-6 * math.hypot(part.x_high - part.x_low, part.y_high - part.y_low)
    off_x = (x > part.x_low + spare) & (x < part.x_high - spare)
    return bool((off_x & (y > part.y_low + spare) & (y < part.y_high - spare)).any())


def _draw(figure: Any, axes: Any, fixes: Fixes, shapes: dict[Layer, list[np.ndarray]], part: Rectangle) -> None:
    places_m = (fixes.truth_m_NE, *receiver_places_m(fixes))
    truth_deg, standing_deg, moving_deg = (local_to_degrees(place_m, fixes.origin_deg) for place_m in places_m)
    _draw_ground(axes, shapes)
    if len(moving_deg):
        axes.plot(*moving_deg.T[::-1], ".", color=GREY, alpha=0.3, markersize=2, zorder=3, label="moving receiver")
    if len(standing_deg):
        axes.plot(*standing_deg.T[::-1], "^", color="k", mec="white", markersize=8, zorder=5, label="receiver")
    worst_on_top = fixes.worst[::-1]
    points = axes.scatter(
        *truth_deg[worst_on_top].T[::-1],
        c=np.maximum(fixes.error_m_N[worst_on_top], LEAST_M),
        s=10,
        norm="log",
        cmap="viridis_r",  # large errors stand out from the paper, also where the page turns lightness over
        edgecolors=GREY,
        linewidths=0.3,
        zorder=4,
        label="truth, by its error",
    )
    axes.set_xlim(part.x_low, part.x_high)
    axes.set_ylim(part.y_low, part.y_high)
    axes.set_aspect(ground_distance_ratio(part))
    axes.set_xlabel("longitude, degrees")
    axes.set_ylabel("latitude, degrees")
    axes.locator_params(nbins=5)
    axes.ticklabel_format(useOffset=False)
    axes.tick_params(labelsize=8)
    _colour_bar(figure, axes, points)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)


def _draw_ground(axes: Any, shapes: dict[Layer, list[np.ndarray]]) -> None:
    from matplotlib.collections import LineCollection, PolyCollection

    axes.set_facecolor(WATER)
    for layer, shapes_deg_ in shapes.items():
        lines = [shape[:, ::-1] for shape in shapes_deg_]
        if layer == "border":
            axes.add_collection(LineCollection(lines, colors=LINE, linewidths=0.8, linestyles="dashed", zorder=2))
        else:
            fill = WATER if layer == "lake" else LAND
            axes.add_collection(PolyCollection(lines, facecolor=fill, edgecolor=LINE, linewidth=0.6, zorder=1))


def _colour_bar(figure: Any, axes: Any, points: Any) -> None:
    from matplotlib.ticker import EngFormatter, NullFormatter

    bar = figure.colorbar(points, ax=axes, location="bottom", shrink=0.8, pad=0.02)
    bar.ax.xaxis.set_major_formatter(EngFormatter(unit="m"))
    bar.ax.xaxis.set_minor_formatter(NullFormatter())
    bar.set_label("error")


def _place(place_deg: np.ndarray) -> str:
    return "{:.3f}, {:.3f}".format(*place_deg)
