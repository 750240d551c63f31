"""A `RadioMapNet` learned: its map from training rows, how far to trust it from validation rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from flax import nnx

from heimdall_jax.models.radio_map import RadioMapNet
from heimdall_jax.training.losses import gaussian_nll
from heimdall_jax.training.radio_map import RadioMap, fit_radio_map
from heimdall_jax.types import Sample

INPUTS = ("rss_db", "receiver_m", "heard", "present", "identity")
TEMPERATURES = tuple(2 ** (step / 2) for step in range(1, 11))
"""What the log-likelihood may be divided by beyond 1, which is right where the model is: readings err together."""


def learn_map(
    net: RadioMapNet, train: Sample, validation: Callable[[], Iterator[Sample]], group_N: np.ndarray | None = None
) -> None:
    """Fill the network from stacked training samples (N, ...); the temperature from batches of validation ones.

    It is raised from 1 as long as the likelihood of the validation truths grows. `fit_radio_map` tells of groups.

    Raises:
        DataError: Too few readings.
    """
    net.fill(tables(fit_radio_map(train, net.config, group_N), train["identity"][0], net.mean_db.shape[0]))
    judge = _judge(net)
    chosen, best = 1.0, judge(1.0, validation())
    for temperature in TEMPERATURES:
        judged = judge(temperature, validation())
        if not judged < best:
            break
        chosen, best = temperature, judged
    net.fill({"temperature": chosen})


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


def _judge(net: RadioMapNet) -> Callable[[float, Iterator[Sample]], float]:
    """Mean nats of the truths of batches at a temperature; compiled once."""
    graph = nnx.graphdef(net)

    @jax.jit
    def nats(state: Any, batch: dict[str, jax.Array]) -> jax.Array:
        fix = nnx.merge(graph, state)(**{name: batch[name] for name in INPUTS})
        return gaussian_nll(fix.position_m, fix.scale_m, batch["position_m"], batch["position_error_m"])

    def judge(temperature: float, batches: Iterator[Sample]) -> float:
        net.fill({"temperature": temperature})
        state = nnx.state(net)
        found = []
        for batch in batches:
            wanted = {name: batch[name] for name in (*INPUTS, "position_m", "position_error_m")}
            found.append(np.asarray(nats(state, wanted))[batch["weight"] > 0])
        return float(np.concatenate(found).mean())

    return judge
