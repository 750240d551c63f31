"""What one failing receiver costs a run that locates by a radio map, with and without a watch on receivers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from heimdall_jax.assessment import measured_rows, takes_any_order
from heimdall_jax.config import Config
from heimdall_jax.datasets import Data
from heimdall_jax.errors import ConfigError, explain
from heimdall_jax.evaluation.faults import KINDS, inject, partner_of, without
from heimdall_jax.evaluation.monitor import FEWEST, LEAST_NATS, SHIFTED_DB, Finding, MapTables, cured, watch
from heimdall_jax.evaluation.summary import ground_error_m
from heimdall_jax.models.radio_map import RadioMapNet
from heimdall_jax.run import Run
from heimdall_jax.training.batches import closed_ranks
from heimdall_jax.training.dataset import Progress
from heimdall_jax.types import Sample

WINDOW = 160
"""Recordings watched, spread evenly over those measured: on fewer in a row, along one walk, the map errs alike."""
SHORTER = (10, 20, 40, 80)
"""Recordings in a row after which a fault may be found already."""


def measure_faults(run: Run, data: Data, *, progress: Progress = lambda done, total: None) -> dict[str, Any]:
    """`faults.json`: every fault of `evaluation.faults.KINDS` in each receiver in turn, in every recording measured.

    Args:
        run: Whose model is a radio map.
        data: Its test side is measured, or validation where the split has no test.
        progress: Called with (done, total) receivers.

    Returns:
        `clean`: median errors in metres without a fault, and what the watch finds there. `false_flags`: share of clean
        windows, of so many recordings in a row, in which it finds anything. `rows`: one for each fault and receiver.
        `worst`: of each kind the rows whose medians moved most, without and with the watch.

    Raises:
        ConfigError: The model is no radio map.
    """
    subject = _Subject(run, data)
    samples, rows = subject.samples, []
    clean_m, watched = subject.median_m(samples), subject.watch(samples)
    receivers = [int(receiver) for receiver in np.flatnonzero(samples["heard"].any(axis=0))]
    for done, receiver in enumerate(receivers):
        only = np.arange(samples["heard"].shape[1]) == receiver
        absent = subject.median_m(without(samples, only)) / clean_m - 1
        rows += [subject.row(kind, receiver, clean_m) | {"absent": absent} for kind in KINDS]
        progress(done + 1, len(receivers))
    watched_m = subject.median_m(cured(samples, watched))
    return {
        "dataset": data.name,
        "split": data.split if data.test is not None else f"{data.split} (validation)",
        "n": len(samples["heard"]),
        "watch": {"window": len(subject.window), "fewest": FEWEST, "shifted_db": SHIFTED_DB, "least_nats": LEAST_NATS},
        "clean": {"median_m": clean_m, "watched_m": watched_m, "found": subject.told(watched)},
        "false_flags": {str(size): subject.false_flags(size) for size in SHORTER if size <= len(samples["heard"])},
        "worst": {kind: worst([row for row in rows if row["kind"] == kind]) for kind in KINDS},
        "rows": rows,
    }


def worst(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of rows of one kind: those whose medians moved most, and how many were found and how many falsely flagged."""
    return {
        "unwatched": max(rows, key=lambda row: row["moved"]),
        "watched": max(rows, key=lambda row: row["watched_moved"]),
        "found": sum(row["found"] for row in rows),
        "receivers": len(rows),
        "with_false_flags": sum(bool(row["false_flags"]) for row in rows),
    }


class _Subject:
    """A run and the recordings it is tried on: `samples` (N, R, ...), of which `window` are watched."""

    def __init__(self, run: Run, data: Data) -> None:
        self._tables, self._run = _tables(run), run
        measured = measured_rows(data)
        self.samples, self._names = measured.gather(np.arange(len(measured))), measured.rows
        self.window = np.unique(np.linspace(0, len(measured) - 1, WINDOW).astype(int))
        self._error_m = self._errors_m(self.samples)

    def row(self, kind: str, receiver: int, clean_m: float) -> dict[str, Any]:
        """What a fault does to the median error, and what the watch makes of it."""
        failing, heard = inject(self.samples, kind, receiver), self.samples["heard"]
        partner = partner_of(heard, receiver) if kind == "swapped" else receiver
        findings, wanted = self.watch(failing), {receiver, partner}
        median_m, watched_m = self.median_m(failing), self.median_m(cured(failing, findings))
        told = {"kind": kind, "receiver": self._names[receiver], "recordings": int(heard[:, receiver].sum())}
        return told | {
            "partner": self._names[partner] if kind == "swapped" else None,
            "median_m": median_m,
            "watched_m": watched_m,
            "moved": median_m / clean_m - 1,
            "watched_moved": watched_m / clean_m - 1,
            "findings": self.told(findings),
            "found": wanted <= _flagged(findings),
            "false_flags": [self._names[other] for other in sorted(_flagged(findings) - wanted)],
            "found_after": self._delay(failing, receiver, wanted),
        }

    def watch(self, samples: Sample) -> list[Finding]:
        """Findings in the window of samples as many as the subject's."""
        return watch(_at(samples, self.window), self._tables)

    def told(self, findings: list[Finding]) -> list[str]:
        """In words."""
        words = []
        for finding in findings:
            more = {"swapped": f" with {self._names[finding.partner]}", "shifted": f" by {finding.level_db:+.1f} dB"}
            words.append(f"{self._names[finding.receiver]} {finding.kind}{more.get(finding.kind, '')}")
        return words

    def false_flags(self, size: int) -> float:
        """Share of clean windows of so many recordings in a row in which anything is found."""
        starts = range(0, len(self.samples["heard"]) - size + 1, size)
        found = [bool(watch(_at(self.samples, np.arange(start, start + size)), self._tables)) for start in starts]
        return float(np.mean(found))

    def median_m(self, samples: Sample) -> float:
        """Median error in metres; only what differs from the subject's samples is located anew."""
        differs = np.zeros(len(self._error_m), bool)
        for key in ("rss_db", "heard", "present"):
            differs |= (samples[key] != self.samples[key]).any(axis=1)
        error_m = self._error_m.copy()
        if differs.any():
            error_m[differs] = self._errors_m(_at(samples, np.flatnonzero(differs)))
        return float(np.median(error_m))

    def _errors_m(self, samples: Sample) -> np.ndarray:
        rows = int(self.samples["present"].sum(axis=1).max())
        answer_m, _ = self._run.trainer.predict(self._run.state, _batches(self._run.config, samples, rows))
        return ground_error_m(answer_m, samples["position_m"], self._run.domain.origin_deg)

    def _delay(self, failing: Sample, receiver: int, wanted: set[int]) -> int | None:
        """The first recordings that the receiver heard after which it is found: how many; None if not by then."""
        heard = np.flatnonzero(failing["heard"][:, receiver])
        for size in (size for size in SHORTER if size <= len(heard)):
            if wanted <= _flagged(watch(_at(failing, heard[:size]), self._tables)):
                return size
        return None


def _tables(run: Run) -> MapTables:
    """The map of a run."""
    net = run.model
    if not isinstance(net, RadioMapNet):
        cure = "Give a run of --config powder_map, or of --model.name radio_map."
        raise ConfigError(explain("--faults", got=run.config.model.name, allowed="a radio_map run", cure=cure))
    shared_db2 = np.asarray(net.shared_db2[...]) + np.float32(net.config.offset_db**2)
    return MapTables(
        places_m=np.asarray(net.places_m[...]),
        mean_db=np.asarray(net.mean_db[...]),
        own_db2=np.asarray(net.own_db2[...]),
        mapped=np.asarray(net.mapped[...]) > 0.5,
        about_law_db=np.asarray(net.about_law_db[...]),
        bias_db=np.asarray(net.bias_db[...]),
        floor_db=np.asarray(net.floor_db[...]),
        exponent=float(net.exponent[...]),
        shared_db2=shared_db2,
        temperature=float(net.temperature[...] / net.shares[0]),
    )


def _batches(config: Config, samples: Sample, rows: int) -> Iterator[Sample]:
    """Stacked samples as the network takes them, padded with ones of index -1; `rows` receivers of each."""
    count, size = len(samples["index"]), config.training.batch_size
    for start in range(0, count, size):
        chosen = np.arange(start, start + size)
        batch = _at(samples, np.minimum(chosen, count - 1))
        batch["index"] = np.where(chosen < count, batch["index"], -1)
        yield closed_ranks(batch, rows) if takes_any_order(config) else batch


def _at(samples: Sample, chosen: np.ndarray) -> Sample:
    return {key: values[chosen] for key, values in samples.items()}


def _flagged(findings: list[Finding]) -> set[int]:
    return {column for finding in findings for column in (finding.receiver, finding.partner)}
