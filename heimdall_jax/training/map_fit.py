"""A `RadioMapNet` learned: map and fingerprints from training rows, how far to trust each from validation rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from heimdall_jax.models.radio_map import RadioMapNet
from heimdall_jax.training.fingerprint_fit import INPUTS, learn_fingerprints
from heimdall_jax.training.losses import gaussian_nll
from heimdall_jax.training.radio_map import RadioMap, fit_radio_map
from heimdall_jax.types import Sample

TRUTH = ("position_m", "position_error_m", "weight")
TEMPERATURES = tuple(2 ** (step / 2) for step in range(11))
"""What the log-likelihood may be divided by; 1 is right where the model is: readings err together."""
SHARES = ((1.0, 0.0), (1.0, 0.25), (1.0, 0.5), (1.0, 1.0), (0.5, 1.0), (0.35, 1.0), (0.2, 1.0), (0.1, 1.0))
"""Of map and fingerprints in the pooled log-likelihood."""


def learn_map(
    net: RadioMapNet, train: Sample, validation: Callable[[], Iterator[Sample]], group_N: np.ndarray | None = None
) -> None:
    """Fill the network from stacked training samples (N, ...); shares and temperature from batches of validation ones.

    The temperature is raised from 1 as long as the likelihood of the validation truths grows, for each pair of shares.
    `fit_radio_map` tells of groups.

    Raises:
        DataError: Too few readings.
    """
    fitted = fit_radio_map(train, net.config, group_N)
    net.fill(tables(fitted, train["identity"][0], net.mean_db.shape[0]))
    if net.fingerprints is not None:
        area_m2 = len(fitted.places_m) * net.config.spacing_m**2
        learn_fingerprints(net.fingerprints, train, group_N, area_m2)
    judge, best = _judge(net, validation()), (np.inf, 1.0, SHARES[0])
    for shares in SHARES if net.fingerprints is not None else SHARES[:1]:
        least = np.inf
        for temperature in TEMPERATURES:
            judged = judge(temperature, shares)
            best = min(best, (judged, temperature, shares))
            if not judged < least:
                break
            least = judged
    net.fill({"temperature": best[1], "shares": best[2]})


def tables(radio_map: RadioMap, identity_R: np.ndarray, count: int) -> dict[str, np.ndarray | float]:
    """The map by identity (count, ...), as `RadioMapNet.fill` takes it; row 0 is any receiver that is not known."""
    places = len(radio_map.places_m)
    found: dict[str, np.ndarray] = {
        "mean_db": np.zeros((count, places)),
        "own_db2": np.ones((count, places)),
        "mapped": np.zeros(count),
        "about_law_db": np.full(count, radio_map.config.moving_std_db),
        "bias_db": np.full(count, radio_map.bias_db_R.mean()),
        "least_db": np.full(count, radio_map.least_db_R.min()),
    }
    rows = np.flatnonzero(identity_R)
    fields = (radio_map.mean_db_GR.T, radio_map.own_db2_GR.T, radio_map.has_field_R)
    levels = (radio_map.about_law_db_R, radio_map.bias_db_R, radio_map.least_db_R)
    for name, values in zip(found, (*fields, *levels), strict=True):
        found[name][identity_R[rows]] = values[rows]
    return found | {"shared_db2": radio_map.shared_db2_G, "exponent": radio_map.exponent}


def _judge(net: RadioMapNet, batches: Iterator[Sample]) -> Callable[[float, Sequence[float]], float]:
    """Mean nats of the truths of batches at a temperature and shares; what each says of every place is kept."""
    graph = nnx.graphdef(net)

    @jax.jit
    def logs(state: Any, inputs: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
        return nnx.merge(graph, state).log_likelihoods(**inputs)

    @jax.jit
    def nats(state: Any, logs_BG: tuple[jax.Array, ...], truth_m: jax.Array, truth_error_m: jax.Array) -> jax.Array:
        fix = nnx.merge(graph, state).answer(logs_BG)
        return gaussian_nll(fix.position_m, fix.scale_m, truth_m, truth_error_m)

    state = nnx.state(net)
    said = [
        (logs(state, {name: batch[name] for name in INPUTS}), *(batch[name] for name in TRUTH)) for batch in batches
    ]

    def judge(temperature: float, shares: Sequence[float]) -> float:
        net.fill({"temperature": temperature, "shares": shares})
        state = nnx.state(net)
        found = [np.asarray(nats(state, *given))[weight > 0] for *given, weight in said]
        return float(np.concatenate(found).mean())

    return judge
