"""The figures of a report that tell how training went: learning curves, learning rate and gradients, speed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from heimdall_jax.evaluation.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    Panel,
    drawn,
    grid,
    in_metres,
    in_percent,
)
from heimdall_jax.evaluation.table import spoken_m
from heimdall_jax.history import History, Steps, Validated

LEARNING = "learning_curves", "How did it learn?"
STEPS = "training_steps", "How large were its steps?"
SPEED = "throughput", "How fast did it train?"
"""Name and title of each."""
ROWS_TOLD = 40
"""Of each table: a longer one is in `history.jsonl`."""


def training_panels(history: History | None, best: int) -> list[Panel]:
    """Learning curves, what steps were like, and their speed; each with a picture, or a sentence that says why not.

    Args:
        history: Of the run; None where its folder has none.
        best: Step of the checkpoint that the run's model is.
    """
    if history is None:
        why = "No figure: the run folder holds no history of its training."
    elif not history.steps or not history.validated:
        why = "No figure: this model was fitted at once, not trained in steps."
    else:
        return [_learning_curves(history, best), _training_steps(history), _throughput(history)]
    return [Panel(name, title, why) for name, title in (LEARNING, STEPS, SPEED)]


def _learning_curves(history: History, best: int) -> Panel:
    first, last = history.validated[0], history.validated[-1]
    at_best = next((row for row in history.validated if row.step == best), None)
    told = "" if at_best is None else f" The best checkpoint is of step {best:,}, with {at_best.loss:.3f} nats."
    rows = _evaluations(history, best)
    cut = "" if len(rows) == len(history.validated) else f" The table holds {len(rows)} of the evaluations."
    return Panel(
        *LEARNING,
        "Loss and mean error of the training batches, augmented and with dropout, and of the validation split."
        f"{told}{_breaks(history)}{cut}",
        f"Validation loss goes from {first.loss:.3f} at step {first.step:,} to {last.loss:.3f} at step {last.step:,}, "
        f"the mean error from {spoken_m(first.error_m)} to {spoken_m(last.error_m)}.{told}",
        ("step", "epoch", "training loss", "training error", "validation loss", "validation error", ""),
        rows,
        drawn(lambda figure, axes: _draw_curves(figure, axes, history, at_best), (4.8, 5.6), rows=2),
    )


def _draw_curves(figure: Any, axes: Any, history: History, at_best: Validated | None) -> None:
    ends = [row.step for row in history.validated]
    trained = _between_evaluations(history)
    for ax, name in zip(axes, ("loss", "error_m"), strict=True):
        values = [getattr(row, name) for row in history.steps]
        ax.plot(_middles(history.steps), values, color=BLUE, alpha=0.3, linewidth=0.8, label="training, by step")
        means = [math.nan if row is None else getattr(row, name) for row in trained]
        ax.plot(ends, means, color=BLUE, linewidth=1.8, label="training, mean since the last evaluation")
        found = [getattr(row, name) for row in history.validated]
        ax.plot(ends, found, "o-", color=ORANGE, markersize=3, label="validation")
        if at_best is not None:
            style: dict[str, Any] = {"color": GREEN, "markersize": 13, "mec": "white", "zorder": 5}
            ax.plot(at_best.step, getattr(at_best, name), "*", label=f"best checkpoint, step {at_best.step:,}", **style)
        _mark_breaks(ax, history)
        grid(ax)
    axes[0].set_ylabel("loss, nats per fix")
    axes[0].set_ylim(*_without_spikes([row.loss for row in (*history.steps, *history.validated)]))
    axes[1].set_yscale("log")
    in_metres(axes[1].yaxis, "mean error")
    axes[1].set_xlabel("step")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=1, fontsize=8)


def _evaluations(history: History, best: int) -> tuple[tuple[str, ...], ...]:
    """Rows of the table: some of the evaluations, the first, the last and the best among them."""
    rows, count = [], len(history.validated)
    trained = _between_evaluations(history)
    kept = {at for at, row in enumerate(history.validated) if row.step == best}
    for at in sorted({*np.linspace(0, count - 1, min(count, ROWS_TOLD)).round().astype(int).tolist(), *kept}):
        before, row = trained[at], history.validated[at]
        learned = ("", "") if before is None else (f"{before.loss:.3f}", spoken_m(before.error_m))
        found = (f"{row.loss:.3f}", spoken_m(row.error_m), "best" if at in kept else "")
        rows.append((f"{row.step:,}", f"{row.step / history.steps_per_epoch:.1f}", *learned, *found))
    return tuple(rows)


def _training_steps(history: History) -> Panel:
    steps = history.steps

    def draw(figure: Any, axes: Any) -> None:
        middle = _middles(steps)
        axes[0].plot(middle, [row.learning_rate for row in steps], color=BLUE)
        axes[0].set_ylabel("learning rate")
        axes[0].ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        axes[1].plot(middle, [row.gradient_norm for row in steps], color=ORANGE, linewidth=0.9)
        axes[1].set_yscale("log")
        axes[1].set_ylabel("gradient norm")
        axes[1].set_xlabel("step")
        for ax in axes:
            _mark_breaks(ax, history)
            grid(ax)

    groups = _groups(steps)
    norms = np.array([row.gradient_norm for row in steps])
    several = " Where a point sums up several steps it is the largest of them." if _in_rows(steps) else ""
    rows = [
        (
            _named(group),
            f"{np.mean([row.learning_rate for row in group]):.2e}",
            f"{np.median([row.gradient_norm for row in group]):.3g}",
            f"{max(row.gradient_norm for row in group):.3g}",
        )
        for group in groups
    ]
    rates = [row.learning_rate for row in steps]
    return Panel(
        *STEPS,
        f"The learning rate, and the Euclidean norm of the gradients before they are clipped.{several}"
        f"{_breaks(history)}",
        f"The learning rate rises to {max(rates):.2e} and ends at {rates[-1]:.2e}; gradient norms have the median "
        f"{np.nanmedian(norms):.3g} and the maximum {np.nanmax(norms):.3g}.",
        ("steps", "learning rate", "median norm", "largest norm"),
        tuple(rows),
        drawn(draw, (4.8, 4.8), rows=2),
    )


def _throughput(history: History) -> Panel:
    timed = [row for row in history.steps if row.samples_per_s == row.samples_per_s]
    if not timed:
        return Panel(*SPEED, "No figure: too few steps followed one another to be timed.")
    counted = [row for row in timed if row.share_of_peak == row.share_of_peak]
    rate = np.array([row.samples_per_s for row in timed])

    def draw(figure: Any, axes: Any) -> None:
        axes[0].plot(_middles(timed), rate, color=BLUE, linewidth=0.9)
        axes[0].set_ylim(0, 1.15 * float(np.quantile(rate, 0.99)))
        axes[0].set_ylabel("samples a second")
        axes[1].plot(_middles(counted), [row.share_of_peak for row in counted], color=ORANGE, linewidth=0.9)
        axes[1].set_ylim(bottom=0)
        in_percent(axes[1].yaxis, "share of the devices' peak")
        axes[1].set_xlabel("step")
        for ax in axes:
            grid(ax)

    def cells(group: Sequence[Steps]) -> tuple[str, ...]:
        speed, done, share = np.median([row[6:9] for row in group], axis=0)
        if done != done:
            return (f"{speed:,.0f}", "", "")
        return (f"{speed:,.0f}", f"{done / 1e9:,.2f}", f"{share:.1%}")

    speed, done, share = cells(timed)
    used = f", {done} GFLOP/s, {share} of the peak" if done else ""
    return Panel(
        *SPEED,
        "Training samples in a second, and the share of the devices' peak arithmetic that this uses: operations of a "
        "step by XLA's count, over the peak as a large matrix product measures it, or the maker's for an accelerator. "
        "Evaluations, checkpoints and compiling are left out.",
        f"Speed over steps: in the median {speed} samples a second{used}.",
        ("steps", "samples/s", "GFLOP/s", "share of peak"),
        tuple((_named(group), *cells(group)) for group in _groups(timed)),
        drawn(draw, (4.8, 4.8), rows=2),
    )


def _between_evaluations(history: History) -> list[Steps | None]:
    """Of the steps between each evaluation and the one before it: means, weighted by their number."""
    found, since = [], 0
    for row in history.validated:
        some = [steps for steps in history.steps if since <= steps.first and steps.end <= row.step]
        since = row.step
        if not some:
            found.append(None)
            continue
        weights = [steps.end - steps.first for steps in some]
        means = np.average(np.array([steps[2:] for steps in some]), axis=0, weights=weights)
        found.append(Steps._make((some[0].first, some[-1].end, *means.tolist())))
    return found


def _middles(steps: Sequence[Steps]) -> np.ndarray:
    return np.array([(row.first + row.end - 1) / 2 for row in steps])


def _groups(steps: Sequence[Steps]) -> list[Sequence[Steps]]:
    """At most `ROWS_TOLD` groups of rows that follow one another."""
    edges = np.linspace(0, len(steps), min(len(steps), ROWS_TOLD) + 1).round().astype(int)
    return [steps[low:high] for low, high in itertools.pairwise(edges.tolist())]


def _named(group: Sequence[Steps]) -> str:
    first, last = group[0].first, group[-1].end - 1
    return f"{first:,}" if first == last else f"{first:,} to {last:,}"


def _in_rows(steps: Sequence[Steps]) -> bool:
    return any(row.end - row.first > 1 for row in steps)


def _without_spikes(values: Sequence[float]) -> tuple[float, float]:
    """Limits of an axis that a few huge values do not flatten."""
    finite = np.array([value for value in values if math.isfinite(value)])
    if not len(finite):
        return 0.0, 1.0
    low, high = float(finite.min()), float(np.quantile(finite, 0.98))
    return low - 0.05 * (high - low) - 1e-3, high + 0.1 * (high - low) + 1e-3


def _mark_breaks(axes: Any, history: History) -> None:
    """Where training went back, and where another process went on."""
    for at, (step, _) in enumerate(history.rolled_back):
        axes.axvline(step, color="k", linestyle="--", linewidth=1, label="rolled back" if at == 0 else None)
    for at, step in enumerate(history.resumed):
        axes.axvline(step, color=GREY, linestyle=":", linewidth=1, label="resumed" if at == 0 else None)


def _breaks(history: History) -> str:
    """The same in words."""
    back = "; ".join(f"at step {step:,} to {to:,}" for step, to in history.rolled_back[:ROWS_TOLD])
    told = f" Training went back {back}." if back else ""
    resumed = ", ".join(f"{step:,}" for step in history.resumed[:ROWS_TOLD])
    return told + (f" It was stopped and resumed from step {resumed}." if resumed else "")
