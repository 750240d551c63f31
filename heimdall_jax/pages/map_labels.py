"""Names on a map, none of which lies on another."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from heimdall_jax.pages.map_view import PICTURE
from heimdall_jax.pages.outlines import Rectangle

LETTERS = 16.0
"""Height of letters in units for which room is made: that of the narrowest screens, where they are largest."""
LONGEST = 18
"""Characters of a name on the map; the table has all of them."""
NEAR, FAR = 9.0, 27.0
"""Units from a mark to its name; a farther name has a line to its mark."""


class Label(NamedTuple):
    """A name on the map.

    Attributes:
        text: Perhaps shortened.
        x: Of its `anchor`.
        y: Of its base line.
        anchor: As SVG's `text-anchor`.
        leader: Ends of the line to its mark, or none.
    """

    text: str
    x: float
    y: float
    anchor: str
    leader: tuple[float, float, float, float] | None = None


class Labels:
    """Places names where there is room, first come first served."""

    def __init__(self) -> None:
        self.taken: list[Rectangle] = []
        self.avoided: list[Rectangle] = []

    def keep_free(self, area: Rectangle) -> None:
        """Nothing is written there."""
        self.taken.append(area)

    def keep_free_about(self, x: float, y: float, by: float = 7.0) -> None:
        """Nothing is written on a mark."""
        self.taken.append(Rectangle(x, y, x, y).grown(by))

    def avoid(self, points: Iterable[tuple[float, float]], by: float = 2.0) -> None:
        """Names lie on these points only where there is no other room."""
        self.avoided += [Rectangle(x, y, x, y).grown(by) for x, y in points]

    def name(self, text: str, x: float, y: float) -> Label | None:
        """A name beside its mark, or some way off with a line to it; None where there is no room at all."""
        label = self._first(text, _about(x, y), self.taken + self.avoided)
        return label or self._first(text, _about(x, y), self.taken)

    def along(self, text: str, points: Sequence[tuple[float, float, float, float]]) -> Label | None:
        """A name beside a line at the first of these points (x, y and direction) that has room for it."""
        spots = list(_beside(shortened(text), points))
        return self._first(text, spots, self.taken + self.avoided) or self._first(text, spots, self.taken)

    def at(self, text: str, x: float, y: float, anchor: str) -> Label | None:
        """A name just there, or none."""
        return self._first(text, [(x, y, anchor, None)], self.taken)

    def _first(self, text: str, places: Iterable[tuple], full: list[Rectangle]) -> Label | None:
        text = shortened(text)
        for x, y, anchor, leader in places:
            box = _box(text, x, y, anchor)
            if box.within(PICTURE.grown(-3.0)) and not any(box.meets(other) for other in full):
                self.taken.append(box)
                return Label(text, round(x, 1), round(y + LETTERS * 0.33, 1), anchor, leader)
        return None


def shortened(text: str) -> str:
    """At most `LONGEST` characters."""
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _about(x: float, y: float) -> Iterator[tuple]:
    """Middles of a name's height about a mark, the best first."""
    for away in (NEAR, FAR, 2 * FAR):
        slant = 0.75 * away
        spots = [
            (x + away, y, "start"),
            (x - away, y, "end"),
            (x, y - away - 5, "middle"),
            (x, y + away + 5, "middle"),
            (x + slant, y - slant, "start"),
            (x + slant, y + slant, "start"),
            (x - slant, y - slant, "end"),
            (x - slant, y + slant, "end"),
        ]
        for spot_x, spot_y, anchor in spots:
            line = None if away == NEAR else tuple(round(at, 1) for at in (x, y, spot_x, spot_y))
            yield spot_x, spot_y, anchor, line


def _beside(text: str, points: Iterable[tuple[float, float, float, float]]) -> Iterator[tuple]:
    """Middles of a name on both sides of a line, just off it."""
    half_x, half_y = _width(text) / 2, LETTERS * 0.55
    for x, y, along_x, along_y in points:
        length = math.hypot(along_x, along_y) or 1.0
        normal_x, normal_y = along_y / length, -along_x / length
        away = abs(normal_x) * half_x + abs(normal_y) * half_y + 3.0
        for side in (away, -away):
            yield x + side * normal_x, y + side * normal_y, "middle", None


def _box(text: str, x: float, y: float, anchor: str) -> Rectangle:
    width = _width(text)
    left = x - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
    return Rectangle(left, y - LETTERS * 0.55, left + width, y + LETTERS * 0.55)


def _width(text: str) -> float:
    return LETTERS * sum(map(_share, text))


def _share(character: str) -> float:
    """Width over height, of a wide sans serif face."""
    if unicodedata.east_asian_width(character) in "WF":
        return 1.05
    return 0.72 if character.isupper() else 0.6
