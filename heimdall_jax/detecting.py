"""Recordings of two transmitters and of none beside a run's data: are they told from single ones? Joins the rooms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from heimdall_jax.assessment import measured_rows
from heimdall_jax.config import Config
from heimdall_jax.datasets import Data
from heimdall_jax.evaluation.calibration import chunks
from heimdall_jax.evaluation.detection import detection
from heimdall_jax.evaluation.not_one import (
    FEWEST_RECEIVERS,
    NotOne,
    Powers,
    day_of,
    floors_db,
    learn_not_one,
    summed,
    together,
)
from heimdall_jax.models.radio_map import RadioMapNet
from heimdall_jax.progress import tell
from heimdall_jax.run import Run
from heimdall_jax.sources.powder import file_with, read_powder
from heimdall_jax.sources.splits import folds
from heimdall_jax.training.dataset import HeimdallDataset

FALSE_ALARMS = 0.05
"""Share of single recordings, left out of what is learned, above the threshold at which a recording is refused."""
FOLDS = 5
"""Of the recordings that the threshold is of."""
COUNTS = {"two": 2, "none": 0}
"""Transmitters at once, by the name of their score."""


def measure_detection(run: Run, asked: Config, data: Data, *, own: Data) -> dict[str, Any]:
    """`detection` of `metrics.json`, where a radio map is measured on POWDER with files of other counts; else nothing.

    Args:
        run: The model; the receivers that it has a map of are the judges.
        asked: What it is measured on.
        data: That data: its measured rows are the usual recordings.
        own: What the model was trained on, and here the judge.
    """
    if not isinstance(run.model, RadioMapNet) or asked.data.source != "powder":
        return {}
    files = {name: file_with(asked.data.path, count) for name, count in COUNTS.items()}
    singles, place_m, identities, floor_db = _singles(run.model, own)
    if not any(files.values()) or len(identities) < FEWEST_RECEIVERS or not len(summed(singles, floor_db).day_N):
        return {}
    tell("detecting noise and second transmitters")
    every = {"usual": _powers(measured_rows(data), identities)}
    for name, file in files.items():
        if file is not None:
            source = read_powder(file, min_receivers=asked.data.min_receivers, transmitters=COUNTS[name])
            place = {"origin_deg": run.domain.origin_deg, "rows": source.receivers, "known": run.domain.receivers}
            every[name] = _powers(HeimdallDataset(source, **place), identities)
    judged, threshold = _judged(learn_not_one(singles, floor_db), every), _threshold(singles, place_m, floor_db)
    if threshold is None or not len(judged["usual"].day):
        return {}
    above = {name: float((each.odds.either_N > threshold).mean()) for name, each in judged.items() if len(each.day)}
    left_out = sum(len(every[name].day_N) - len(each.day) for name, each in judged.items())
    told: dict[str, Any] = {"refused": above.pop("usual"), "left_out": left_out}
    for name, caught in above.items():
        told[name] = _detected(name, judged[name], judged["usual"]) | {"caught": caught}
    return {"detection": told}


class _Judged(NamedTuple):
    """What is said of the recordings that enough receivers heard, log odds of two of each alone, and when they were."""

    odds: NotOne
    alone_N: np.ndarray
    start_time_s: np.ndarray

    @property
    def day(self) -> np.ndarray:
        """Number (N,) of each one's day."""
        return day_of(self.start_time_s)


def _judged(judge: Callable[[Powers], NotOne], every: dict[str, Powers]) -> dict[str, _Judged]:
    """Recordings of all kinds, as they follow each other in time."""
    kinds = {name: powers[powers.enough_N] for name, powers in every.items()}
    odds = {name: judge(powers) for name, powers in kinds.items()}
    time_s = np.concatenate([powers.start_time_s_N for powers in kinds.values()])
    two_N = together(np.concatenate([each.two_N for each in odds.values()]), time_s)
    ends = np.cumsum([len(each.two_N) for each in odds.values()])
    parts = zip(kinds, np.split(two_N, ends[:-1]), strict=True)
    return {
        name: _Judged(odds[name]._replace(two_N=part), odds[name].two_N, kinds[name].start_time_s_N)
        for name, part in parts
    }


def _detected(name: str, found: _Judged, usual: _Judged) -> dict[str, Any]:
    """How well the score of that name detects, against single recordings of the same days, or all if there are none."""
    same = np.isin(usual.day, found.day)
    beside = same if same.any() else np.ones(len(same), bool)
    groups = chunks(found.start_time_s), chunks(usual.start_time_s)[beside]
    scores = [getattr(judged.odds, f"{name}_N") for judged in (found, usual)]
    result = detection(scores[0], scores[1][beside], *groups)
    interval = None if result.interval is None else list(result.interval)
    told = asdict(result) | {"interval": interval, "same_days": bool(same.any())}
    if name == "two":
        told["auroc_alone"] = detection(found.alone_N, usual.alone_N[beside], *groups).auroc
    return told


def _threshold(singles: Powers, place_m: np.ndarray, floor_db: np.ndarray) -> float | None:
    """Log odds of either that `FALSE_ALARMS` of the single recordings exceed, each judged without its chunk.

    None: without the chunk of any there are no sums.
    """
    either = [np.zeros(0)]
    for left in folds(singles.start_time_s_N, place_m, "time", count=FOLDS):
        if left.any() and len(summed(singles[~left], floor_db).day_N):
            (held,) = _judged(learn_not_one(singles[~left], floor_db), {"held": singles[left]}).values()
            either.append(held.odds.either_N)
    either_N = np.concatenate(either)
    return float(np.quantile(either_N, 1 - FALSE_ALARMS)) if len(either_N) else None


def _singles(net: RadioMapNet, own: Data) -> tuple[Powers, np.ndarray, np.ndarray, np.ndarray]:
    """Rows that the map learned and where they were sent, the receivers that have a map and a floor, their floors."""
    sides = [side for side in (own.train, own.validation if own.test is not None else None) if side is not None]
    mapped = np.flatnonzero(np.asarray(net.mapped[...]) > 0.5)
    powers = Powers.joined([_powers(side, mapped) for side in sides])
    floor_db, place_m = floors_db(powers), np.concatenate([side.columns()["position_m"] for side in sides])
    known = np.isfinite(floor_db)
    return powers.of(known), place_m, mapped[known], floor_db[known]


def _powers(side: HeimdallDataset, identities: np.ndarray) -> Powers:
    """Of the receivers of these identities."""
    columns, count = side.columns(), int(identities.max(initial=0)) + 1
    rss_db, heard = np.zeros((len(side), count)), np.zeros((len(side), count), bool)
    identity_R = columns["identity"][0]
    rows = np.flatnonzero((identity_R > 0) & (identity_R < count))
    rss_db[:, identity_R[rows]], heard[:, identity_R[rows]] = columns["rss_db"][:, rows], columns["heard"][:, rows]
    return Powers(rss_db[:, identities], heard[:, identities], np.asarray(side.start_time_s, np.float64))
