"""What a model is worth on data: its errors and regions beside baselines, controls and bound. Joins the rooms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from heimdall_jax.config import Config
from heimdall_jax.datasets import Data
from heimdall_jax.evaluation.baselines import BASELINES, SIMPLE, baseline_errors_m, possible
from heimdall_jax.evaluation.bayes import posterior_mean
from heimdall_jax.evaluation.bounds import bound_of_covariances, reference_of_covariances
from heimdall_jax.evaluation.calibration import fit_recalibration, recalibration_factor, squared_mahalanobis
from heimdall_jax.evaluation.conditions import Condition, by_clock
from heimdall_jax.evaluation.controls import no_radio
from heimdall_jax.evaluation.fixes import Fixes
from heimdall_jax.evaluation.law_bound import law_covariances
from heimdall_jax.evaluation.regions import doubt, doubt_above_m, isotropic_region, isotropic_sigma_m
from heimdall_jax.evaluation.summary import (
    Errors,
    bound_of_errors,
    error_summary,
    ground_error_m,
    nll_nats,
    rows_fingerprint,
    summarize,
)
from heimdall_jax.evaluation.world_bound import fused_covariances
from heimdall_jax.progress import counted, tell
from heimdall_jax.run import Run
from heimdall_jax.training.batches import evaluation_batches
from heimdall_jax.training.dataset import HeimdallDataset
from heimdall_jax.types import Sample


class Assessment(NamedTuple):
    """`metrics.json` of a model, and the fixes that it sums up."""

    metrics: dict[str, Any]
    fixes: Fixes


def measure(run: Run, data: Data, *, own: Data) -> dict[str, Any]:
    """`metrics.json` of a model on the test side, or on validation where the split has no test.

    `own` is what the model was trained on: the baselines are fitted on its training and validation rows.
    """
    return assess(run, data, own=own).metrics


def assess(run: Run, data: Data, *, own: Data) -> Assessment:
    """The same with every fix."""
    measured = measured_rows(data)
    columns, origin, real = measured.columns(), run.domain.origin_deg, data.world is None
    batches, each = batches_of(run.config, measured), run.config.training.batch_size
    answer = run.trainer.predict(run.state, counted(batches, len(measured), "predicting", "rows", each=each))
    tell("comparing with baselines, control and bound")
    which = possible(BASELINES if real else SIMPLE, columns)
    others = dict(baseline_errors_m(_fitting_rows(own), columns, which, origin_deg=origin))
    bound, best, bound_m2 = _reference(run, own, columns) if real else _bound(data, measured, origin)
    metrics = summarize(
        *answer,
        columns["position_m"],
        origin_deg=origin,
        dataset=data.name,
        split=data.split if data.test is not None else f"{data.split} (validation)",
        truth_error_m=columns["position_error_m"],
        start_time_s=measured.start_time_s if real else None,
        baselines={name: error_summary(error_m) for name, error_m in (others | best).items()},
        controls=_controls(run, measured, origin),
        bound=bound,
    )
    metrics["fingerprint"] = rows_fingerprint(measured.session_ids, columns["position_m"])
    metrics["rows"] = own.counts
    metrics["n_trained_on"] = len(_learned(run.config, own).intersection(measured.session_ids)) if real else 0
    if real:
        metrics["baseline_regions"] = _baseline_regions(own, others, columns, origin)
    if run.doubt_m < np.inf:
        metrics["doubt"] = doubt(ground_error_m(answer[0], columns["position_m"], origin), answer[1], run.doubt_m)
    if bound_m2 is not None and not real:
        condition = Condition.of(columns, answer, bound_m2, origin)
        usable = np.asarray(columns["timing_valid"].any(axis=(1, 2)))
        metrics["by_clock"] = by_clock(condition, columns["clock_sigma_s"], usable)
    metrics |= {"skipped": data.skipped, "notes": list(data.notes), "step": run.step}
    return Assessment(metrics, _fixes(run, measured, answer, own, others | best, bound_m2))


def _learned(config: Config, own: Data) -> set[str]:
    """Sessions that a run has learned: a cross-validated map validation's, too, where they are not what is measured."""
    refitted = config.model.name == "radio_map" and config.radio_map.cross_validate and own.test is not None
    sides = (own.train, own.validation if refitted else None)
    return {name for side in sides if side is not None for name in side.session_ids}


def measured_rows(data: Data) -> HeimdallDataset:
    """The test rows with a known truth, or validation's where the split has no test."""
    side = data.test or data.validation
    assert side is not None
    return side.subset(np.flatnonzero(side.columns()["weight"] > 0))


def _controls(run: Run, measured: HeimdallDataset, origin: tuple[float, float]) -> dict[str, Errors]:
    """Errors of the model with what it should need taken away."""
    if "rss_db" not in run.trainer.inputs:
        return {}
    silent = (no_radio(batch, run.domain.feature_mean) for batch in batches_of(run.config, measured))
    blind_m, _ = run.trainer.predict(run.state, silent)
    return {"no_radio": error_summary(ground_error_m(blind_m, measured.columns()["position_m"], origin))}


def _baseline_regions(
    own: Data, others: Mapping[str, np.ndarray], columns: Sample, origin: tuple[float, float]
) -> dict[str, dict[str, Any]]:
    """The circle of each baseline: as large as its errors on validation say when it is fitted on training alone."""
    assert own.train is not None
    assert own.validation is not None
    held_out = own.validation.columns()
    scatter_m = held_out["position_error_m"][held_out["weight"] > 0]
    missed_m = baseline_errors_m(own.train.columns(), held_out, list(others), origin_deg=origin)
    sigma_m = {name: isotropic_sigma_m(error_m, scatter_m) for name, error_m in missed_m.items()}
    truth_error_m = columns["position_error_m"]
    return {name: isotropic_region(error_m, truth_error_m, sigma_m[name]) for name, error_m in others.items()}


def _fixes(
    run: Run,
    measured: HeimdallDataset,
    answer: tuple[np.ndarray, np.ndarray],
    own: Data,
    others: Mapping[str, np.ndarray],
    bound_m2: np.ndarray | None,
) -> Fixes:
    columns, trained = measured.columns(), None
    if own.train is not None and not (own.world is not None and own.world.config.endless):
        rows = own.train.columns()
        trained = rows["position_m"][rows["weight"] > 0].astype(np.float64)
    truth_m, position_m = (np.asarray(place, np.float64) for place in (columns["position_m"], answer[0]))
    covariance_m2 = np.asarray(answer[1], np.float64)
    return Fixes(
        session_ids=tuple(measured.session_ids),
        truth_m_NE=truth_m,
        position_m_NE=position_m,
        covariance_m2_NEE=covariance_m2,
        error_m_N=ground_error_m(position_m, truth_m, run.domain.origin_deg),
        nll_N=nll_nats(truth_m - position_m, covariance_m2, columns["position_error_m"]),
        origin_deg=run.domain.origin_deg,
        heard_NR=columns["heard"],
        present_NR=columns["present"],
        receiver_m_NRE=columns["receiver_m"].astype(np.float64),
        other_error_m=others,
        bound_m2_NEE=bound_m2,
        start_time_s_N=measured.start_time_s.astype(np.float64) if own.world is None else None,
        trained_m_ME=trained,
    )


class Correction(NamedTuple):
    """Coefficients of `models.recalibration`, and the 68 % radius in metres above which a fix is in doubt."""

    coefficients: list[float]
    doubt_m: float


def correction(run: Run, validation: HeimdallDataset) -> Correction:
    """From the validation rows of a run whose regions are the network's own."""
    real = run.config.data.source != "simulation"
    counted = validation.subset(np.flatnonzero(validation.columns()["weight"] > 0))
    position_m, covariance_m2 = run.trainer.predict(run.state, batches_of(run.config, counted))
    columns = counted.columns()
    used = columns["timing_valid"].any(axis=2) if "timing_valid" in run.trainer.inputs else columns["heard"]
    return correction_of(position_m, covariance_m2, columns["position_m"], np.asarray(used), real=real)


def correction_of(
    position_m: np.ndarray,
    covariance_m2: np.ndarray,
    truth_m: np.ndarray,
    used: np.ndarray,
    part: np.ndarray | None = None,
    *,
    real: bool,
) -> Correction:
    """From fixes (N, E), covariances (N, E, E) and truths (N, E) of rows that were not learned, and who was used.

    The regions hold enough in each part (N,) of rows left out together, so that they may in the next. Real recordings
    are neighbours of one another: too few independent ones for slopes.
    """
    squared = squared_mahalanobis(truth_m.astype(np.float64) - position_m, covariance_m2)
    spread_m, count = np.linalg.det(covariance_m2) ** 0.25, used.sum(axis=1)
    coefficients = fit_recalibration(squared, spread_m, count, slopes=not real, part=part)
    factor = recalibration_factor(coefficients, spread_m, count)
    return Correction(coefficients, doubt_above_m(covariance_m2 * factor[:, None, None] ** 2))


def _fitting_rows(own: Data) -> Sample:
    """All rows that are not test: what a classical estimator, which needs no validation, may be fitted on."""
    assert own.train is not None
    assert own.validation is not None
    train, validation = own.train.columns(), own.validation.columns()
    return {key: np.concatenate([value, validation[key]]) for key, value in train.items()}


def _reference(
    run: Run, own: Data, columns: Sample
) -> tuple[dict[str, Any] | None, dict[str, np.ndarray], np.ndarray | None]:
    """As `_bound`, of real data: Cramér-Rao for powers on the training rows' law, where powers alone are read."""
    assert own.train is not None
    if "rss_db" not in run.trainer.inputs or "tdoa_s" in columns:
        return None, {}, None
    rows = own.train.columns()
    known = {key: value[rows["weight"] > 0] for key, value in rows.items()}
    covariance_m2 = law_covariances(known, columns, origin_deg=run.domain.origin_deg)
    kind = "Cramér-Rao, powers, independent shadowing"
    reference = reference_of_covariances(kind, covariance_m2, np.random.default_rng(0))
    return reference, {}, covariance_m2 if reference else None


def _bound(
    data: Data, measured: HeimdallDataset, origin: tuple[float, float]
) -> tuple[dict[str, Any] | None, dict[str, np.ndarray], np.ndarray | None]:
    """The bound of a simulated world, errors of the estimator that is it, and each fix's covariance, where there are.

    Where arrival times are read: Cramér-Rao for times and powers. In a fixed world of powers: the posterior mean.
    """
    world, sessions, columns = data.world, data.test_sessions, measured.columns()
    if world is None or sessions is None:
        return None, {}, None
    if "tdoa_s" in columns:
        sent = sessions.transmissions(measured.source_indices.tolist())
        rate_hz = world.sample_rate_hz
        covariance_m2 = fused_covariances(world.config, columns, sent, origin_deg=origin, sample_rate_hz=rate_hz)
        kind = "Cramér-Rao, times and powers"
        return bound_of_covariances(kind, covariance_m2, np.random.default_rng(0)), {}, covariance_m2
    if world.shadowing is None or world.config.echoes or len(world.config.frequencies_hz) > 1:
        return None, {}, None
    sent = sessions.transmissions(measured.source_indices.tolist())
    best_m, _ = posterior_mean(world, np.asarray(sent.received_power_dbm_R), np.asarray(sent.heard_R))
    errors = ground_error_m(best_m, columns["position_m"], origin)
    return bound_of_errors("posterior mean", errors), {"posterior_mean": errors}, None


def batches_of(config: Config, side: HeimdallDataset, rows: np.ndarray | None = None) -> Iterator[Sample]:
    """Every sample of a side once, as the configured network takes it; of each batch only `rows`, where given."""
    return evaluation_batches(side, config.training.batch_size, close_ranks=takes_any_order(config), rows=rows)


def takes_any_order(config: Config) -> bool:
    """Whether the configured network takes receivers in any order and number."""
    return config.model.name in ("receiver_set", "radio_map")
