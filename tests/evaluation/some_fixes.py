"""Made-up fixes whose errors are what their covariances promise, and the metrics that go with them."""

from typing import Any

import numpy as np

from heimdall_jax.evaluation.fixes import Fixes
from heimdall_jax.evaluation.summary import bound_of_errors, error_summary, ground_error_m, nll_nats, summarize

ORIGIN = (40.765, -111.845)


def some_fixes(count: int = 400, **changes: Any) -> Fixes:
    """Sigmas of 20 to 500 m; two receivers that stand, one that moves and one that took no part."""
    rng = np.random.default_rng(5)
    sigma_m = np.exp(rng.uniform(np.log(20), np.log(500), count))
    truth_m = rng.uniform(-1000, 1000, (count, 2))
    position_m = truth_m + sigma_m[:, None] * rng.normal(size=(count, 2))
    error_m = ground_error_m(position_m, truth_m, ORIGIN)
    places_m = np.stack([np.tile(place, (count, 1)) for place in ([-900.0, 0.0], [800.0, 5.0])], axis=1)
    bus_m = np.stack([np.linspace(-500, 500, count), np.zeros(count)], axis=1)[:, None]
    present = np.tile([True, True, True, False], (count, 1))
    heard = present & (rng.random((count, 4)) < 0.8)
    whole: dict[str, Any] = {
        "session_ids": tuple(f"session-{number}" for number in range(count)),
        "truth_m_NE": truth_m,
        "position_m_NE": position_m,
        "covariance_m2_NEE": sigma_m[:, None, None] ** 2 * np.eye(2),
        "error_m_N": error_m,
        "nll_N": nll_nats(truth_m - position_m, sigma_m[:, None, None] ** 2 * np.eye(2)),
        "origin_deg": ORIGIN,
        "heard_NR": heard,
        "present_NR": present,
        "receiver_m_NRE": np.concatenate([places_m, bus_m, 0 * bus_m], axis=1),
        "other_error_m": {"knn5": 2 * error_m, "prior_mean": 5 * error_m},
        "trained_m_ME": rng.uniform(-1000, 1000, (50, 2)),
    }
    return Fixes(**(whole | changes))


def metrics_of(fixes: Fixes, **changes: Any) -> dict[str, Any]:
    """Their `metrics.json`."""
    metrics = summarize(
        fixes.position_m_NE,
        fixes.covariance_m2_NEE,
        fixes.truth_m_NE,
        origin_deg=ORIGIN,
        dataset="made up",
        split="time",
        baselines={name: error_summary(error_m) for name, error_m in fixes.other_error_m.items()},
        bound=None if fixes.bound_m2_NEE is None else bound_of_errors("Cramér-Rao", np.ones(3)),
    )
    return metrics | {"n_trained_on": 0, "skipped": {}, "notes": [], "step": 7} | changes
