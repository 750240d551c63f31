"""A `RadioMapNet` learned: its map from training rows, how far to trust it from validation rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from heimdall_jax.models.radio_map import RadioMapNet
from heimdall_jax.training.losses import gaussian_nll
from heimdall_jax.training.radio_map import RadioMap, fit_radio_map
from heimdall_jax.types import Sample

INPUTS = ("rss_db", "receiver_m", "heard", "present", "identity")
TEMPERATURES = tuple(2 ** (step / 2) for step in range(1, 11))
"""What the log-likelihood may be divided by beyond 1, which is right where the model is: readings err together."""
SHARE = 0.68


class Judged(NamedTuple):
    """Validation rows under a temperature: mean likelihood in nats, and squared Mahalanobis distances (N,)."""

    nll: float
    squared: np.ndarray


def learn_map(net: RadioMapNet, train: Sample, validation: Callable[[], Iterator[Sample]]) -> None:
    """Fill the network from stacked training samples; temperature and stretch from batches of validation ones.

    The temperature is raised from 1 as long as the likelihood of the validation truths grows. The stretch then makes
    the regions hold what they say at 68 %: a posterior is no Gaussian, and the ellipse of its own covariance, which
    has the best likelihood, holds too many there.

    Raises:
        DataError: Too few readings.
    """
    net.fill(tables(fit_radio_map(train, net.config), train["identity"][0], net.mean_db.shape[0]))
    judge = _judge(net)
    chosen, best = 1.0, judge(1.0, validation())
    for temperature in TEMPERATURES:
        judged = judge(temperature, validation())
        if not judged.nll < best.nll:
            break
        chosen, best = temperature, judged
    net.fill({"temperature": chosen, "stretch": stretch(best.squared)})


def tables(radio_map: RadioMap, identity_R: np.ndarray, count: int) -> dict[str, np.ndarray | float]:
    """The map by identity (count, ...), as `RadioMapNet.fill` takes it; row 0 is any receiver that is not known."""
    places = len(radio_map.places_m)
    found: dict[str, np.ndarray] = {
        "mean_db": np.zeros((count, places)),
        "own_db2": np.ones((count, places)),
        "mapped": np.zeros(count),
        "bias_db": np.full(count, radio_map.bias_db_R.mean()),
        "least_db": np.full(count, radio_map.least_db_R.min()),
    }
    rows = np.flatnonzero(identity_R)
    by_row = (radio_map.mean_db_GR.T, radio_map.own_db2_GR.T, radio_map.has_field_R)
    for name, values in zip(found, (*by_row, radio_map.bias_db_R, radio_map.least_db_R), strict=True):
        found[name][identity_R[rows]] = values[rows]
    return found | {"shared_db2": radio_map.shared_db2_G, "exponent": radio_map.exponent}


def stretch(squared: np.ndarray) -> float:
    """Factor on standard deviations after which 68 % of squared Mahalanobis distances (N,) lie in their region."""
    return float(np.sqrt(np.quantile(squared, SHARE) / (-2 * math.log(1 - SHARE))))


def _judge(net: RadioMapNet) -> Callable[[float, Iterator[Sample]], Judged]:
    """How the network does on batches at a temperature; compiled once."""
    graph = nnx.graphdef(net)

    @jax.jit
    def locate(state: Any, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        fix = nnx.merge(graph, state)(**{name: batch[name] for name in INPUTS})
        nll_B = gaussian_nll(fix.position_m, fix.scale_m, batch["position_m"], batch["position_error_m"])
        off_m = (batch["position_m"] - fix.position_m)[..., None]
        white = jax.lax.linalg.triangular_solve(fix.scale_m, off_m, left_side=True, lower=True)
        return nll_B, jnp.sum(white * white, axis=(1, 2))

    def judge(temperature: float, batches: Iterator[Sample]) -> Judged:
        net.fill({"temperature": temperature})
        state = nnx.state(net)
        found = []
        for batch in batches:
            wanted = {name: batch[name] for name in (*INPUTS, "position_m", "position_error_m")}
            found.append(np.stack(locate(state, wanted))[:, batch["weight"] > 0])
        nll, squared = np.concatenate(found, axis=1)
        return Judged(float(nll.mean()), squared)

    return judge
