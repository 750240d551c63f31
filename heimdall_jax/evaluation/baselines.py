"""Classical estimators to beat, fitted on training samples only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from heimdall_jax.errors import ConfigError, DataError, explain
from heimdall_jax.evaluation.path_loss import fit_path_loss, likeliest_place
from heimdall_jax.evaluation.summary import ground_error_m
from heimdall_jax.evaluation.tdoa_fix import pose
from heimdall_jax.evaluation.tdoa_solver import solve
from heimdall_jax.types import Sample

ALPHAS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
"""Exponents the power-weighted centroid tries: 1 weighs by power, 1/n by inverse distance at path-loss exponent n."""
NEIGHBOURS = 5
TREES = 200
MIDDLE_DEG = (45.0, 0.0)
"""Where the ground is taken to curve: within 0.5 % of any latitude's, which is 0.12 m of distance within 150 km."""
FAR_M = 1e6
"""Stands for the place of an absent receiver in the trees' input: one split sets it apart."""


def baseline_errors_m(
    train: Sample, test: Sample, which: Sequence[str], *, origin_deg: tuple[float, float]
) -> dict[str, Float64[ndarray, " N"]]:
    """Errors (N,) in metres of the named baselines on the N test samples whose truth is known.

    Args:
        train: Stacked training samples (M, ...).
        test: Stacked test samples.
        which: Names out of `BASELINES`.
        origin_deg: Latitude, longitude of the local frame's origin.

    Raises:
        ConfigError: A name is unknown.
        DataError: No training or test sample with known truth, or no known receiver.
    """
    labelled = {key: value[test["weight"] > 0] for key, value in test.items()}
    truth_m = labelled["position_m"]
    return {name: ground_error_m(predict(name, train, labelled), truth_m, origin_deg) for name in which}


def predict(name: str, train: Sample, test: Sample) -> Float64[ndarray, "N 2"]:
    """East, north (N, E) in metres of the test samples, as the named baseline places them."""
    if name not in BASELINES:
        cure = "Choose from these."
        raise ConfigError(explain("baseline", got=repr(name), allowed=", ".join(BASELINES), cure=cure))
    labelled = {key: value[train["weight"] > 0] for key, value in train.items()}
    if len(labelled["weight"]) == 0:
        cure = "Baselines are fitted on training rows; give some."
        raise DataError(explain("training samples", got="none with known truth", allowed="at least one", cure=cure))
    return np.asarray(BASELINES[name](labelled, test), np.float64)


def prior_mean(train: Sample, test: Sample) -> np.ndarray:
    """The mean of the training truths, for every sample."""
    mean_m = train["position_m"].astype(np.float64).mean(axis=0)
    return np.tile(mean_m, (len(test["weight"]), 1))


def weighted_centroid(train: Sample, test: Sample) -> np.ndarray:
    """Centroid of the receivers that heard, with weights 10^(alpha P / 10), P in dB.

    Alpha is the one of `ALPHAS` with the least mean error on the training samples. Where none heard: the prior mean.
    """
    truth_m, prior_m = train["position_m"], prior_mean(train, train)[0]

    def training_error(alpha: float) -> float:
        return float(np.linalg.norm(_centroid(train, alpha, prior_m) - truth_m, axis=-1).mean())

    return _centroid(test, min(ALPHAS, key=training_error), prior_m)


def nearest_neighbours(train: Sample, test: Sample) -> np.ndarray:
    """Mean place of the 5 training samples with the nearest powers, weighted by inverse distance in dB."""
    from sklearn.neighbors import KNeighborsRegressor  # slow to import, and only runs that ask for it need it

    train_power, test_power = _powers(train, test)
    model = KNeighborsRegressor(min(NEIGHBOURS, len(train_power)), weights="distance")
    return model.fit(train_power, train["position_m"].astype(np.float64)).predict(test_power)


def trees_on_power(train: Sample, test: Sample) -> np.ndarray:
    """Extremely randomised trees (Geurts et al. 2006) on the powers."""
    train_power, test_power = _powers(train, test)
    return _trees(train_power, test_power, train["position_m"])


def trees_on_power_and_positions(train: Sample, test: Sample) -> np.ndarray:
    """The same on the powers and the receivers' places."""
    train_power, test_power = _powers(train, test)
    train_both = np.concatenate([train_power, _places(train, train)], axis=1)
    test_both = np.concatenate([test_power, _places(train, test)], axis=1)
    return _trees(train_both, test_both, train["position_m"])


def log_distance_likelihood(train: Sample, test: Sample) -> np.ndarray:
    """The likeliest place by the log-distance law with censoring (`path_loss.py`), fitted on the training samples."""
    return likeliest_place(fit_path_loss(train), test)


def arrival_times(train: Sample, test: Sample) -> np.ndarray:
    """Robust Gauss-Newton on arrival times (`tdoa_solver.py`), searched where the training truths lie.

    Needs the keys of `TIMING_KEYS`: `tdoa_s` (N, R, R), arrival at i less at j, where `timing_valid` (N, R, R);
    `arrival_precision_per_s2` (N, R), 1 / variance of each arrival from noise alone; `clock_sigma_s` (N, R), infinite
    where unknown; `receiver_up_m` (N, R).
    """
    with np.errstate(divide="ignore"):
        variance = 1 / test["arrival_precision_per_s2"].astype(np.float64)
    precision = np.where(test["timing_valid"], 1 / (variance[:, :, None] + variance[:, None, :]), 0.0)
    place_m = np.concatenate([test["receiver_m"], test["receiver_up_m"][..., None]], axis=-1).astype(np.float64)
    problem = pose(
        test["tdoa_s"].astype(np.float64),
        precision,
        clock_sigma_s_NR=np.where(test["heard"], test["clock_sigma_s"], np.inf).astype(np.float64),
        extra_sigma_s=0.0,
        receiver_m_NRX=np.where(test["present"][..., None], place_m, place_m[:, :1]),
    )
    centre_m = prior_mean(train, test)
    reach_m = np.full(len(centre_m), np.abs(train["position_m"] - centre_m[0]).max())
    problem = problem._replace(centre_m_NE=centre_m, reach_m_N=reach_m)
    return solve(problem, origin_deg=MIDDLE_DEG).position_m_NE


TIMING_KEYS = ("tdoa_s", "timing_valid", "arrival_precision_per_s2", "clock_sigma_s", "receiver_up_m")

BASELINES: dict[str, Callable[[Sample, Sample], np.ndarray]] = {
    "prior_mean": prior_mean,
    "weighted_centroid": weighted_centroid,
    "knn5": nearest_neighbours,
    "log_distance": log_distance_likelihood,
    "tdoa": arrival_times,
    "extra_trees_power": trees_on_power,
    "extra_trees_power_and_positions": trees_on_power_and_positions,
}
"""By name; each takes training and test samples and gives east, north (N, E) of the test samples in metres."""

SIMPLE = ("prior_mean", "weighted_centroid", "knn5", "log_distance", "tdoa")
"""Those without trees."""


def possible(names: Iterable[str], samples: Sample) -> tuple[str, ...]:
    """Those of the names whose inputs are among the samples: `tdoa` needs times."""
    timed = all(key in samples for key in TIMING_KEYS)
    return tuple(name for name in names if timed or name != "tdoa")


def _centroid(samples: Sample, alpha: float, prior_m: np.ndarray) -> np.ndarray:
    heard = samples["heard"]
    exponent = np.where(heard, samples["rss_db"].astype(np.float64) * alpha / 10, -np.inf)
    strongest = np.max(exponent, axis=1, keepdims=True)
    # Relative to the strongest, so that no weight underflows where the data set's decibels are far below zero.
    weight = 10 ** (exponent - np.where(np.isfinite(strongest), strongest, 0.0))
    total = weight.sum(axis=1)
    sums_m = np.einsum("nr,nre->ne", weight, np.where(heard[..., None], samples["receiver_m"], 0.0))
    none = total == 0
    return np.where(none[:, None], prior_m, sums_m / np.where(none, 1.0, total)[:, None])


def _known(train: Sample) -> int:
    """How many known receivers the training samples name: identities 1 to this."""
    known = int(train["identity"].max(initial=0))
    if known == 0:
        cure = "Baselines on power vectors need receivers that stay the same; name them in the data."
        raise DataError(explain("receivers", got="no known identity", allowed="at least one", cure=cure))
    return known


def _powers(train: Sample, test: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Powers (N, known receivers) of both, dB; what was not heard is 1 dB below the weakest heard in training.

    Only these classical estimators are given a fill value, as the published reference points are.
    """
    heard = train["heard"] & (train["identity"] > 0)
    fill = float(train["rss_db"][heard].min()) - 1.0 if heard.any() else 0.0
    known = _known(train)

    def table(samples: Sample) -> np.ndarray:
        return _by_identity(samples, samples["heard"], samples["rss_db"], np.full((1, known), fill))

    return table(train), table(test)


def _places(train: Sample, samples: Sample) -> np.ndarray:
    """Places (N, 2 x known receivers) in metres; `FAR_M` where absent."""
    absent = np.full((1, _known(train), 2), FAR_M)
    return _by_identity(samples, samples["present"], samples["receiver_m"], absent).reshape(len(samples["weight"]), -1)


def _by_identity(samples: Sample, mask: np.ndarray, values: np.ndarray, fill: np.ndarray) -> np.ndarray:
    """`values` (N, R, ...) where `mask` (N, R), put in the column of their receiver's identity; else `fill`."""
    columns = np.repeat(fill, len(values), axis=0)
    sample, row = np.nonzero(mask & (samples["identity"] > 0) & (samples["identity"] <= fill.shape[1]))
    columns[sample, samples["identity"][sample, row] - 1] = values[sample, row]
    return columns


def _trees(train_x: np.ndarray, test_x: np.ndarray, truth_m: np.ndarray) -> np.ndarray:
    from sklearn.ensemble import ExtraTreesRegressor  # slow to import, and only runs that ask for it need it

    model = ExtraTreesRegressor(TREES, n_jobs=2, random_state=0)
    return model.fit(train_x, truth_m.astype(np.float64)).predict(test_x)
