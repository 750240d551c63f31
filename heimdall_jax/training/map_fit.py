"""A `RadioMapNet` learned: map and fingerprints from rows of known place, how far to trust each from rows left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from heimdall_jax.models.radio_map import RadioMapNet
from heimdall_jax.training.correlation import Kernels
from heimdall_jax.training.fingerprint_fit import INPUTS, learn_fingerprints
from heimdall_jax.training.losses import gaussian_nll
from heimdall_jax.training.radio_map import RadioMap, choose_kernels, fit_radio_map
from heimdall_jax.types import Sample

TRUTH = ("position_m", "position_error_m")
TEMPERATURES = tuple(2 ** (step / 2) for step in range(11))
"""What the log-likelihood may be divided by; 1 is right where the model is: readings err together."""
SHARES = ((1.0, 0.0), (1.0, 0.25), (1.0, 0.5), (1.0, 1.0), (0.5, 1.0), (0.35, 1.0), (0.2, 1.0), (0.1, 1.0))
"""Of map and fingerprints in the pooled log-likelihood."""
BATCH = 64


class HeldOut(NamedTuple):
    """Fixes before recalibration, each by a network that had not seen its row.

    Places and truths (N, E), lower Cholesky factors of covariances (N, E, E) in metres, and who heard (N, R).
    """

    position_m: Float[ndarray, "N 2"]
    scale_m: Float[ndarray, "N 2 2"]
    truth_m: Float[ndarray, "N 2"]
    heard: Bool[ndarray, "N R"]


def learn_map(
    net: RadioMapNet,
    samples: Sample,
    held_out: Sequence[Bool[ndarray, " N"]],
    group_N: Int[ndarray, " N"] | None = None,
    *,
    refit: bool,
) -> HeldOut:
    """Fill the network from stacked samples (N, ...).

    Each of `held_out` is left out in turn; shares and temperature are those under which the truths left out are
    likeliest. The temperature is raised from 1 as long as that grows, for each pair of shares.

    Args:
        net: Empty.
        samples: All that it may see.
        held_out: Which rows each fold leaves out; one or more.
        group_N: Groups to choose each receiver's spreads by, which is done once, on all samples; None: as the config
            says, and fingerprints are compared one by one.
        refit: Whether what was left out is learned at the end; else the network has not seen the last fold.

    Raises:
        DataError: Too few readings.
    """
    kernels = None if group_N is None else choose_kernels(samples, group_N)
    said: list[_Said] = []
    for left in held_out:
        _fill(net, samples, ~left, kernels, group_N)
        said += _hear(net, {name: values[left & (samples["weight"] > 0)] for name, values in samples.items()})
    judge, best = _judge(net, said), (np.inf, 1.0, SHARES[0])
    for shares in SHARES if net.fingerprints is not None else SHARES[:1]:
        least = np.inf
        for temperature in TEMPERATURES:
            judged = judge(temperature, shares)
            best = min(best, (judged, temperature, shares))
            if not judged < least:
                break
            least = judged
    net.fill({"temperature": best[1], "shares": best[2]})
    answered = _answers(net, said)
    if refit:
        _fill(net, samples, np.ones(len(samples["weight"]), bool), kernels, group_N)
    return answered


class _Said(NamedTuple):
    """What map and fingerprints say of every place, for one batch, and what is true."""

    logs_BG: tuple[jax.Array, ...]
    truth_m: np.ndarray
    truth_error_m: np.ndarray
    heard: np.ndarray


def _fill(
    net: RadioMapNet, samples: Sample, rows: np.ndarray, kernels: Kernels | None, group_N: np.ndarray | None
) -> None:
    """Tables from the samples of a mask."""
    seen = {name: values[rows] for name, values in samples.items()}
    places_m = np.asarray(net.places_m[...], np.float64)
    fitted = fit_radio_map(seen, net.config, kernels, places_m)
    net.fill(tables(fitted, samples["identity"][0], net.mean_db.shape[0]))
    if net.fingerprints is not None:
        area_m2 = len(places_m) * net.config.spacing_m**2
        learn_fingerprints(net.fingerprints, seen, None if group_N is None else group_N[rows], area_m2)


def _hear(net: RadioMapNet, held: Sample) -> list[_Said]:
    """In batches; the last one padded, for one compilation, and cut again."""
    graph, state = nnx.split(net)
    logs = jax.jit(lambda state, inputs: nnx.merge(graph, state).log_likelihoods(**inputs))
    said, count = [], len(held["weight"])
    for start in range(0, count, BATCH):
        rows = np.arange(start, min(start + BATCH, count))
        padded = np.resize(rows, BATCH)
        spoken = logs(state, {name: held[name][padded] for name in INPUTS})
        truth = (held[name][rows] for name in (*TRUTH, "heard"))
        said.append(_Said(tuple(log_BG[: len(rows)] for log_BG in spoken), *truth))
    return said


def _answers(net: RadioMapNet, said: Sequence[_Said]) -> HeldOut:
    fixes = [net.answer(one.logs_BG) for one in said]
    parts = [(fix.position_m, fix.scale_m, one.truth_m, one.heard) for fix, one in zip(fixes, said, strict=True)]
    return HeldOut(*(np.concatenate(values) for values in zip(*parts, strict=True)))


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


def _judge(net: RadioMapNet, said: Sequence[_Said]) -> Callable[[float, Sequence[float]], float]:
    """Mean nats of the truths at a temperature and shares."""
    graph = nnx.graphdef(net)

    @jax.jit
    def nats(state: Any, logs_BG: tuple[jax.Array, ...], truth_m: jax.Array, truth_error_m: jax.Array) -> jax.Array:
        fix = nnx.merge(graph, state).answer(logs_BG)
        return gaussian_nll(fix.position_m, fix.scale_m, truth_m, truth_error_m)

    def judge(temperature: float, shares: Sequence[float]) -> float:
        net.fill({"temperature": temperature, "shares": shares})
        state = nnx.state(net)
        return float(np.concatenate([np.asarray(nats(state, *one[:3])) for one in said]).mean())

    return judge
