"""One figure of a report: the picture, the words for those who do not see it, and the numbers behind it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SIZE_IN, DOTS_PER_INCH = (4.8, 3.7), 200
"""So that a label of 10 points is still 10 pixels high where the picture is shrunk to a telephone's 370."""
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#767676"
"""Told apart by colour-blind readers too (Okabe and Ito 2008)."""


@dataclass(frozen=True)
class Panel:
    """A figure, or the sentence that says why there is none.

    Attributes:
        name: Of its file, without suffix.
        title: Above it.
        caption: What it shows; why there is none, where `png` is empty.
        alt: What is to be seen in it, in a sentence.
        header: Of its table.
        rows: Of its table, as text.
        png: The picture.
    """

    name: str
    title: str
    caption: str
    alt: str = ""
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    png: bytes = b""


def drawn(
    draw: Callable[[Any, Any], None], size_in: tuple[float, float] = SIZE_IN, *, rows: int = 1, columns: int = 1
) -> bytes:
    """A PNG of what `draw` puts on a Matplotlib figure and its axes: an array of them where there are several.

    Those below one another share their x axis.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=size_in, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure, figure.subplots(rows, columns, sharex="col"))
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DOTS_PER_INCH)
    return file.getvalue()


def in_metres(axis: Any, label: str) -> None:
    """Label one axis in metres and kilometres."""
    from matplotlib.ticker import EngFormatter, NullFormatter

    axis.set_major_formatter(EngFormatter(unit="m"))
    axis.set_minor_formatter(NullFormatter())
    axis.set_label_text(label)


def in_percent(axis: Any, label: str) -> None:
    """Label one axis of shares in per cent."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0))
    axis.set_label_text(label)


def grid(axes: Any) -> None:
    """Faint lines behind everything."""
    axes.grid(visible=True, alpha=0.3)
    axes.set_axisbelow(True)


def groups_of_equal_size(values: np.ndarray, count: int) -> list[np.ndarray]:
    """Numbers of the values in each of `count` groups along their order, or fewer where many values are equal."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, count + 1)))
    group = np.searchsorted(edges[1:-1], values, side="right")
    members = [np.flatnonzero(group == number) for number in range(max(len(edges) - 1, 1))]
    return [each for each in members if len(each)]


def percent(share: float) -> str:
    """A share as text, without decimals."""
    return f"{share:.0%}"


def table(columns: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Columns of text as rows."""
    return tuple(zip(*columns, strict=True))
