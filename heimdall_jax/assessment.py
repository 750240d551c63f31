"""What a model is worth on data: its errors and regions beside baselines, controls and bound. Joins the rooms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from heimdall_jax.config import Config
from heimdall_jax.datasets import Data
from heimdall_jax.evaluation.baselines import BASELINES, SIMPLE, evaluate_baselines, possible
from heimdall_jax.evaluation.bayes import posterior_mean
from heimdall_jax.evaluation.bounds import bound_of_covariances
from heimdall_jax.evaluation.calibration import fit_recalibration, squared_mahalanobis
from heimdall_jax.evaluation.conditions import Condition, by_clock
from heimdall_jax.evaluation.controls import no_radio
from heimdall_jax.evaluation.summary import Errors, bound_of_errors, error_summary, ground_error_m, summarize
from heimdall_jax.evaluation.world_bound import fused_covariances
from heimdall_jax.run import Run
from heimdall_jax.training.batches import evaluation_batches
from heimdall_jax.training.dataset import HeimdallDataset
from heimdall_jax.types import Sample


def measure(run: Run, data: Data, *, own: Data) -> dict[str, Any]:
    """`metrics.json` of a model on the test side, or on validation where the split has no test.

    `own` is what the model was trained on: the baselines are fitted on its training and validation rows.
    """
    side = data.test or data.validation
    assert side is not None
    measured = side.subset(np.flatnonzero(side.columns()["weight"] > 0))
    trainer, origin = run.trainer, run.domain.origin_deg
    columns = measured.columns()
    position_m, covariance_m2 = trainer.predict(run.state, batches_of(run.config, measured))
    controls = {}
    if "rss_db" in trainer.inputs:
        silent = (no_radio(batch, run.domain.feature_mean) for batch in batches_of(run.config, measured))
        blind_m, _ = trainer.predict(run.state, silent)
        controls["no_radio"] = error_summary(ground_error_m(blind_m, columns["position_m"], origin))
    which = possible(SIMPLE if data.world is not None else BASELINES, columns)
    baselines = dict(evaluate_baselines(_fitting_rows(own), columns, which, origin_deg=origin))
    bound, best, bound_m2 = _bound(data, measured, origin)
    baselines |= best
    metrics = summarize(
        position_m,
        covariance_m2,
        columns["position_m"],
        origin_deg=origin,
        dataset=data.name,
        split=data.split if data.test is not None else f"{data.split} (validation)",
        truth_error_m=columns["position_error_m"],
        start_time_s=measured.start_time_s if data.world is None else None,
        baselines=baselines,
        controls=controls,
        bound=bound,
    )
    seen = set() if data.world is not None or own.train is None else set(own.train.session_ids)
    metrics["n_trained_on"] = len(seen.intersection(measured.session_ids))
    if bound_m2 is not None:
        condition = Condition.of(columns, (position_m, covariance_m2), bound_m2, origin)
        usable = np.asarray(columns["timing_valid"].any(axis=(1, 2)))
        metrics["by_clock"] = by_clock(condition, columns["clock_sigma_s"], usable)
    return metrics | {"skipped": data.skipped, "notes": list(data.notes), "step": run.step}


def recalibration(run: Run, validation: HeimdallDataset) -> list[float]:
    """Coefficients of `models.recalibration` from the validation rows of a run whose regions are the network's own."""
    counted = validation.subset(np.flatnonzero(validation.columns()["weight"] > 0))
    position_m, covariance_m2 = run.trainer.predict(run.state, batches_of(run.config, counted))
    off_m = counted.columns()["position_m"].astype(np.float64) - position_m
    spread_m = np.linalg.det(covariance_m2) ** 0.25
    return fit_recalibration(squared_mahalanobis(off_m, covariance_m2), spread_m).tolist()


def _fitting_rows(own: Data) -> Sample:
    """All rows that are not test: what a classical estimator, which needs no validation, may be fitted on."""
    assert own.train is not None
    assert own.validation is not None
    train, validation = own.train.columns(), own.validation.columns()
    return {key: np.concatenate([value, validation[key]]) for key, value in train.items()}


def _bound(
    data: Data, measured: HeimdallDataset, origin: tuple[float, float]
) -> tuple[dict[str, Any] | None, dict[str, Errors], np.ndarray | None]:
    """The bound of a simulated world, the estimator that is it, and each fix's covariance, where there are such.

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
    return bound_of_errors("posterior mean", errors), {"posterior_mean": error_summary(errors)}, None


def batches_of(config: Config, side: HeimdallDataset) -> Iterator[Sample]:
    """Every sample of a side once, as the configured network takes it."""
    return evaluation_batches(side, config.training.batch_size, close_ranks=takes_any_order(config))


def takes_any_order(config: Config) -> bool:
    """Whether the configured network takes receivers in any order and number."""
    return config.model.name in ("receiver_set", "radio_map")
