"""The page that shows a fix on a map: receivers, curves of equal delay or range, density, ellipses and the place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heimdall_jax.errors import DataError, explain
from heimdall_jax.evaluation.fix_words import in_words
from heimdall_jax.pages import map_words
from heimdall_jax.pages.map_ground import Ground, check_tiles, ground_of, keep_bar_free
from heimdall_jax.pages.map_labels import Labels
from heimdall_jax.pages.map_marks import REGIONS, Marks, bands_deg, marks_of, outline_deg, place_of, wish_of
from heimdall_jax.pages.map_picture import FixPicture, Heat, MapCurve, MapReceiver
from heimdall_jax.pages.map_view import HEIGHT, WIDTH, View, view_of
from heimdall_jax.pages.render import render

__all__ = ["FixPicture", "Heat", "MapCurve", "MapReceiver", "map_page"]
CLOSER = 0.45
"""A view is drawn beside a wider one if it is at most this share as wide."""


@dataclass(frozen=True, eq=False)
class _Map:
    """One view as the template draws it."""

    name: str
    title: str
    alt: str
    caption: str
    ground: Ground
    marks: Marks


def map_page(picture: FixPicture, tiles: str | None = None) -> str:
    """A page that needs nothing beside it, works without a script, and fetches nothing unless `tiles` asks for it.

    Args:
        picture: What to show.
        tiles: Address of map tiles with {z}, {x} and {y}, drawn over the coasts; the map is a web map then, else
            azimuthal equidistant about its middle.

    Raises:
        ConfigError: `tiles` is no such address.
        DataError: The density of a heat map is none, or there is neither receiver nor place to show.
    """
    host = None if tiles is None else check_tiles(tiles)
    known = picture.fix["located"]
    bands = [] if picture.heat is None else bands_deg(picture.heat)
    views = _views(picture, bands, web=tiles is not None)
    return render(
        "map.html.jinja",
        title=picture.title,
        subtitle=map_words.subtitle(picture),
        warnings=[] if known else [f"I don't know where it is: {'; '.join(picture.fix['reasons']) or 'no fix'}."],
        headlines=map_words.headlines(picture),
        maps=_maps(picture, bands, views, tiles),
        width=WIDTH,
        height=HEIGHT,
        known=known,
        place=place_of(picture.fix),
        wished=wish_of(picture.fix) is not None,
        kinds={curve.kind for curve in picture.curves},
        banded=bool(bands),
        parts={receiver.used for receiver in picture.receivers},
        words=in_words({**picture.fix, "notes": []}).splitlines(),  # notes stand below
        sheets=map_words.sheets(picture, bands),
        notes=[*picture.fix["notes"], *map_words.beyond(picture, views[0][1])],
        about=map_words.about(host),
    )


def _views(picture: FixPicture, bands: Sequence[Sequence[np.ndarray]], *, web: bool) -> list[tuple[str, View]]:
    """From the widest to the closest: everything, the receivers used with the region, and the smaller of these two."""
    place = place_of(picture.fix)
    everyone = [(r.latitude_deg, r.longitude_deg) for r in picture.receivers]
    used = [spot for spot, r in zip(everyone, picture.receivers, strict=True) if r.used]
    spot = [] if place is None else [(place["latitude"], place["longitude"])]
    wish = wish_of(picture.fix)
    outline = None if place is None else outline_deg(place, REGIONS[0])
    region = [*spot, *([] if outline is None else map(tuple, outline.tolist()))]
    region += [tuple(point) for ring in bands[0] for point in ring.tolist()] if bands else []
    if not everyone and not region:
        cure = "Give the receivers' places."
        raise DataError(explain("a map", got="neither receivers nor a place", allowed="one or more", cure=cure))
    wanted = [
        ("All receivers", everyone, [*region, *([] if wish is None else [wish])]),
        ("The receivers used, and the region", used, region),
        ("The region, closer", spot, region),
        ("The receivers used, closer", used if len(used) > 1 else [], []),
    ]
    seen = [(title, inside, _fitting(inside + more, web=web)) for title, inside, more in wanted if inside or more]
    views = []
    for title, inside, view in seen:
        fits = not inside or bool(view.shows(np.array(inside, np.float64)).all())
        if fits and (not views or view.width_m <= CLOSER * views[-1][1].width_m):
            views.append((title, view))
    return views or [(seen[0][0], seen[0][2])]  # receivers all around the Earth


def _fitting(points: Sequence[tuple[float, float]], *, web: bool) -> View:
    return view_of(np.array(points, np.float64), web=web)


def _maps(
    picture: FixPicture, bands: list[list[np.ndarray]], views: Sequence[tuple[str, View]], tiles: str | None
) -> list[_Map]:
    maps = []
    for number, (title, view) in enumerate(views):
        labels = Labels()
        keep_bar_free(view, labels)
        closer = views[number + 1][1] if number + 1 < len(views) else None
        marks = marks_of(picture, bands, view, labels, closer)
        ground = ground_of(view, labels, tiles)
        caption = map_words.caption(picture, view, framed=closer is not None)
        maps.append(_Map(f"map{number + 1}", title, map_words.alt(picture, view), caption, ground, marks))
    return maps
