"""Recordings of two transmitters and of none beside a run's data: are they told from single ones? Joins the rooms."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from heimdall_jax.assessment import measured_rows
from heimdall_jax.config import Config
from heimdall_jax.datasets import Data
from heimdall_jax.evaluation.calibration import chunks
from heimdall_jax.evaluation.detection import detection
from heimdall_jax.evaluation.not_one import FEWEST_RECEIVERS, NotOne, PowerMaps, floors_db, not_one
from heimdall_jax.models.radio_map import RadioMapNet
from heimdall_jax.progress import tell
from heimdall_jax.run import Run
from heimdall_jax.sources.powder import file_with, read_powder
from heimdall_jax.training.dataset import HeimdallDataset

FALSE_ALARMS = 0.05
"""Share of validation's single recordings above the threshold at which a recording is refused."""
COUNTS = {"two": 2, "none": 0}
"""Transmitters at once, by the name of their score."""
DAY_S = 86_400.0


class _Judged(NamedTuple):
    """Log odds and times (N,) of the recordings that enough mapped receivers heard, and how many others there were."""

    odds: NotOne
    start_time_s: np.ndarray
    left_out: int

    @property
    def day(self) -> np.ndarray:
        """Number (N,) of each one's day."""
        return np.floor(self.start_time_s / DAY_S)


class _Judge(NamedTuple):
    """A run's maps, and the identities of the receivers that they are of."""

    maps: PowerMaps
    identities: np.ndarray

    def __call__(self, side: HeimdallDataset) -> _Judged:
        """Judge all recordings of a side."""
        rss_db, heard = _by_identity(side, int(self.identities.max(initial=0)) + 1)
        rss_db, heard = rss_db[:, self.identities], heard[:, self.identities]
        enough = heard.sum(axis=1) >= FEWEST_RECEIVERS
        odds = not_one(rss_db[enough], heard[enough], self.maps)
        return _Judged(odds, side.start_time_s[enough], int((~enough).sum()))


def measure_detection(run: Run, asked: Config, data: Data, *, own: Data) -> dict[str, Any]:
    """`detection` of `metrics.json`, where a radio map is measured on POWDER with files of other counts; else nothing.

    Args:
        run: The model.
        asked: What it is measured on.
        data: That data: its measured rows are the usual recordings.
        own: What the model was trained on: floors are of its training rows, the threshold of its validation rows.
    """
    if not isinstance(run.model, RadioMapNet) or asked.data.source != "powder":
        return {}
    files = {name: file_with(asked.data.path, count) for name, count in COUNTS.items()}
    tell("detecting noise and second transmitters")
    judge = _judge(run.model, own)
    if not any(files.values()) or len(judge.identities) < FEWEST_RECEIVERS:
        return {}
    assert own.validation is not None
    usual, validation = judge(measured_rows(data)), judge(own.validation)
    if not len(usual.day) or not len(validation.day):
        return {}
    threshold = float(np.quantile(validation.odds.either_N, 1 - FALSE_ALARMS))
    refused = float((usual.odds.either_N > threshold).mean())
    told: dict[str, Any] = {"refused": refused, "left_out": usual.left_out}
    for name, file in files.items():
        if file is None:
            continue
        source = read_powder(file, min_receivers=asked.data.min_receivers, transmitters=COUNTS[name])
        place = {"origin_deg": run.domain.origin_deg, "rows": source.receivers, "known": run.domain.receivers}
        found = judge(HeimdallDataset(source, **place))
        told["left_out"] += found.left_out
        if len(found.day):
            told[name] = _detected(name, found, usual) | {"caught": float((found.odds.either_N > threshold).mean())}
    return {"detection": told}


def _detected(name: str, found: _Judged, usual: _Judged) -> dict[str, Any]:
    """How well the score of that name detects, against single recordings of the same days, or all if there are none."""
    same = np.isin(usual.day, found.day)
    beside = same if same.any() else np.ones(len(same), bool)
    scores = [getattr(judged.odds, f"{name}_N") for judged in (found, usual)]
    groups = [chunks(judged.start_time_s) for judged in (found, usual)]
    result = detection(scores[0], scores[1][beside], groups[0], groups[1][beside])
    interval = None if result.interval is None else list(result.interval)
    return asdict(result) | {"interval": interval, "same_days": bool(same.any())}


def _judge(net: RadioMapNet, own: Data) -> _Judge:
    """The maps of the receivers that have one and a floor."""
    assert own.train is not None
    mean_db, variance_db2 = (np.asarray(table[...], np.float64) for table in (net.mean_db, net.own_db2))
    floor_db = floors_db(*_by_identity(own.train, len(mean_db)))
    mapped = (np.asarray(net.mapped[...]) > 0.5) & np.isfinite(floor_db)
    identities = np.flatnonzero(mapped)
    return _Judge(PowerMaps(mean_db[identities], variance_db2[identities], floor_db[identities]), identities)


def _by_identity(side: HeimdallDataset, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Powers in dB and who heard (N, count) by identity, of which 0 stands for no receiver in particular."""
    columns = side.columns()
    rss_db, heard = np.zeros((len(side), count)), np.zeros((len(side), count), bool)
    identity_R = columns["identity"][0]
    rows = np.flatnonzero((identity_R > 0) & (identity_R < count))
    rss_db[:, identity_R[rows]], heard[:, identity_R[rows]] = columns["rss_db"][:, rows], columns["heard"][:, rows]
    return rss_db, heard
