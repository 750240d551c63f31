"""The figures of a report that show recordings: spectrograms, and correlation over lag beside the true lag."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from heimdall_jax.evaluation.panels import BLUE, GREEN, ORANGE, Panel, drawn, grid
from heimdall_jax.evaluation.table import spoken_m

SPECTROGRAMS = "spectrograms", "What do recordings look like?"
LAGS = "lag_curves", "Where do recordings agree in time?"
"""Name and title of each."""
RECEIVERS_SHOWN = 3
"""Of a transmission, the strongest; their pairs are as many."""
TICKS_HZ = 5
FAINTEST_DB = 60.0
"""Below the strongest value: less is drawn as nothing."""


@dataclass(frozen=True, eq=False)
class Recorded:
    """One transmission as it was recorded.

    Attributes:
        session_id: Of it.
        error_m: Of its fix.
        receivers: R names.
        heard_R: Who heard it.
        rss_db_R: How strongly.
        mel_db_RML: Spectrogram of each recording, dB relative to full scale.
        lag_curve_RRK: Correlation coefficient of i with j at each lag; None where receivers' clocks are not known.
        timed_RR: Pairs whose delay was measured.
        tdoa_s_RR: That delay, arrival at i less at j.
        true_s_RR: What it would be from the true place with clocks that are right.
    """

    session_id: str
    error_m: float
    receivers: tuple[str, ...]
    heard_R: Bool[ndarray, " R"]
    rss_db_R: Float[ndarray, " R"]
    mel_db_RML: Float[ndarray, "R M L"]
    lag_curve_RRK: Float[ndarray, "R R K"] | None = None
    timed_RR: Bool[ndarray, "R R"] | None = None
    tdoa_s_RR: Float[ndarray, "R R"] | None = None
    true_s_RR: Float[ndarray, "R R"] | None = None

    @property
    def strongest(self) -> list[int]:
        """Numbers of the receivers shown, the strongest first."""
        order = np.argsort(-np.where(self.heard_R, self.rss_db_R, -np.inf), kind="stable")
        return [int(number) for number in order[:RECEIVERS_SHOWN] if self.heard_R[number]]


def spectrogram_examples(examples: Sequence[Recorded], band_hz: Float[ndarray, " M"], frame_s: float) -> Panel:
    """Spectrograms of the strongest receivers of some transmissions.

    Args:
        examples: Empty where there are no recordings.
        band_hz: Middle of each mel band, relative to the carrier.
        frame_s: Time from one column to the next.
    """
    if not examples:
        return Panel(*SPECTROGRAMS, _none("spectrogram"))
    rows = [
        (
            one.session_id,
            spoken_m(one.error_m),
            one.receivers[number],
            f"{one.rss_db_R[number]:.1f}",
            *_peak(one, number, band_hz),
        )
        for one in examples
        for number in one.strongest
    ]
    size = (4.8, 1.2 + 1.6 * len(examples))
    return Panel(
        *SPECTROGRAMS,
        f"Mel spectrograms of {_named(examples)}: the strongest receivers of each, with their received power. "
        "Frequency is relative to the carrier. Chosen by their errors, at the 10, 50 and 90 % quantile.",
        f"Spectrograms of {len(examples)} transmissions at up to {RECEIVERS_SHOWN} receivers each; "
        "the loudest bands are in the table.",
        ("transmission", "error", "receiver", "power, dB", "loudest band, kHz", "level there, dB"),
        tuple(rows),
        drawn(
            lambda figure, axes: _draw_spectrograms(figure, axes, examples, band_hz, frame_s),
            size,
            rows=len(examples),
            columns=RECEIVERS_SHOWN,
        ),
    )


def lag_examples(examples: Sequence[Recorded], lag_s: Float[ndarray, " K"]) -> Panel:
    """Correlation over lag of pairs of receivers of the same transmissions, with the lag of the true place.

    Args:
        examples: Empty where there are no recordings.
        lag_s: Seconds by which the first receiver of a pair hears later.
    """
    if not examples:
        return Panel(*LAGS, _none("correlation"))
    timed = [one for one in examples if one.lag_curve_RRK is not None and list(_pairs(one))]
    if not timed:
        return Panel(*LAGS, "No figure: of these transmissions no two receivers with known clocks heard one.")
    rows = [(one.session_id, *_told_pair(one, i, j, lag_s)) for one in timed for i, j in _pairs(one)]
    missing = "" if len(timed) == len(examples) else " Of the others no two receivers with known clocks heard."
    size = (4.8, 1.0 + 1.6 * len(timed))
    return Panel(
        *LAGS,
        "Correlation coefficient of two recordings over lag, offsets in frequency removed, and the lag that the true "
        f"place would give with clocks that are right, of {_named(timed)}. The peak is off it by the clocks' errors, "
        f"noise and echoes.{missing}",
        f"Curves of {len(rows)} pairs of receivers with the true lag marked; highest values and lags are in the table.",
        ("transmission", "pair", "highest value", "at lag, us", "lag found, us", "true lag, us"),
        tuple(rows),
        drawn(
            lambda figure, axes: _draw_lags(figure, axes, timed, 1000 * lag_s),
            size,
            rows=len(timed),
            columns=RECEIVERS_SHOWN,
        ),
    )


def _draw_spectrograms(
    figure: Any, axes: Any, examples: Sequence[Recorded], band_hz: np.ndarray, frame_s: float
) -> None:
    top_db = max(float(one.mel_db_RML[one.strongest].max()) for one in examples)
    scale: dict[str, Any] = {
        "aspect": "auto",
        "origin": "lower",
        "interpolation": "nearest",
        "cmap": "Greys",  # loud stands out from the paper, also where the page turns lightness over
        "vmin": top_db - FAINTEST_DB,
        "vmax": top_db,
    }
    at, image = np.linspace(0, len(band_hz) - 1, TICKS_HZ).round().astype(int), None
    for row, one in zip(_grid_of(axes, len(examples)), examples, strict=True):
        for ax, number in _used(row, one.strongest):
            extent = (0, frame_s * one.mel_db_RML.shape[2], -0.5, len(band_hz) - 0.5)
            image = ax.imshow(one.mel_db_RML[number], extent=extent, **scale)
            ax.set_title(f"{one.receivers[number]}, {one.rss_db_R[number]:.0f} dB", fontsize=7)
            ax.set_yticks(at, [f"{band_hz[i] / 1000:.1f}" for i in at] if ax is row[0] else [""] * len(at))
            ax.tick_params(labelsize=7)
            ax.set_xlabel("seconds" if one is examples[-1] else "", fontsize=7)
        row[0].set_ylabel(f"{one.session_id}\nkHz", fontsize=7)
    bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.7, pad=0.02)
    bar.set_label("dB relative to full scale, in a mel band", fontsize=7)
    bar.ax.tick_params(labelsize=7)


def _draw_lags(figure: Any, axes: Any, examples: Sequence[Recorded], lag_ms: np.ndarray) -> None:
    handles = {}
    for row, one in zip(_grid_of(axes, len(examples)), examples, strict=True):
        for ax, (i, j) in _used(row, list(_pairs(one))):
            curve, true_s, found_s = _of_pair(one, i, j)
            ax.plot(lag_ms, curve, color=BLUE, linewidth=1, label="correlation")
            ax.axvline(1000 * true_s, color=GREEN, linewidth=2.5, alpha=0.7, label="lag of the true place")
            if found_s is not None:
                ax.axvline(1000 * found_s, color=ORANGE, linewidth=1, linestyle="--", label="lag found")
            ax.set_ylim(0, 1.05)
            ax.set_title(f"{one.receivers[i]}\nafter {one.receivers[j]}", fontsize=7)
            ax.tick_params(labelsize=7, labelleft=ax is row[0])
            ax.set_xlabel("lag, ms" if one is examples[-1] else "", fontsize=7)
            grid(ax)
            handles |= {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        row[0].set_ylabel(one.session_id, fontsize=7)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=7)


def _grid_of(axes: Any, rows: int) -> np.ndarray:
    """Axes (rows, columns): those of one row come without it."""
    return np.asarray(axes).reshape(rows, RECEIVERS_SHOWN)


def _used(row: np.ndarray, items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Axes of a row with what goes into each; those left over are hidden."""
    for ax in row[len(items) :]:
        ax.set_axis_off()
    yield from zip(row, items, strict=False)


def _none(what: str) -> str:
    return f"No figure: this data set holds received powers and no samples to make a {what} of."


def _named(examples: Sequence[Recorded]) -> str:
    return ", ".join(f"{one.session_id} ({spoken_m(one.error_m)} off)" for one in examples)


def _peak(one: Recorded, number: int, band_hz: np.ndarray) -> tuple[str, str]:
    """Where the mean over time is largest, and how large."""
    mean_db = 10 * np.log10(np.mean(10 ** (one.mel_db_RML[number].astype(np.float64) / 10), axis=1))
    loudest = int(mean_db.argmax())
    return f"{band_hz[loudest] / 1000:.2f}", f"{mean_db[loudest]:.1f}"


def _pairs(one: Recorded) -> Iterator[tuple[int, int]]:
    """Of the strongest receivers, those whose clocks are known."""
    assert one.lag_curve_RRK is not None
    known = [number for number in one.strongest if one.lag_curve_RRK[number].any()]
    yield from ((i, j) for at, i in enumerate(known) for j in known[at + 1 :])


def _of_pair(one: Recorded, i: int, j: int) -> tuple[np.ndarray, float, float | None]:
    """Curve, true lag, and the lag found, if any."""
    assert one.lag_curve_RRK is not None
    assert one.true_s_RR is not None
    assert one.tdoa_s_RR is not None
    assert one.timed_RR is not None
    found_s = float(one.tdoa_s_RR[i, j]) if one.timed_RR[i, j] else None
    return one.lag_curve_RRK[i, j], float(one.true_s_RR[i, j]), found_s


def _told_pair(one: Recorded, i: int, j: int, lag_s: np.ndarray) -> tuple[str, ...]:
    curve, true_s, found_s = _of_pair(one, i, j)
    highest = int(curve.argmax())
    found = "refused" if found_s is None else f"{1e6 * found_s:,.2f}"
    names = f"{one.receivers[i]} after {one.receivers[j]}"
    return names, f"{curve[highest]:.3f}", f"{1e6 * lag_s[highest]:,.0f}", found, f"{1e6 * true_s:,.2f}"
