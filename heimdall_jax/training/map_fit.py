"""A `RadioMapNet` learned: map and fingerprints from rows of known place, how far to trust each from rows left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from heimdall_jax.models.radio_map import RadioMapNet
from heimdall_jax.progress import counted
from heimdall_jax.propagation import NO_FLOOR_DB
from heimdall_jax.training.correlation import Kernels
from heimdall_jax.training.fingerprint_fit import INPUTS, learn_fingerprints
from heimdall_jax.training.losses import gaussian_nll
from heimdall_jax.training.radio_map import RadioMap, choose_kernels, fit_radio_map
from heimdall_jax.types import Sample

TRUTH = ("position_m", "position_error_m")
TEMPERATURES = tuple(2 ** (step / 2) for step in range(-4, 11))
"""What the log-likelihood may be divided by; 1 is right where the model is: readings err together."""
FACTORS = tuple(2 ** (step / 8) for step in range(-8, 15))
"""What the spreads may be multiplied by, while shares and temperature are judged: recalibration does so later."""
SHARES = ((1.0, 0.0), (1.0, 0.25), (1.0, 0.5), (1.0, 1.0), (0.5, 1.0), (0.35, 1.0), (0.2, 1.0), (0.1, 1.0))
"""Of map and fingerprints in the pooled log-likelihood."""
BATCH = 64


class HeldOut(NamedTuple):
    """Fixes before recalibration, each by a network that had not seen its row.

    Places and truths (N, E), lower Cholesky factors of covariances (N, E, E) in metres, who heard (N, R), and the
    number (N,) of the part that was left out.
    """

    position_m: Float[ndarray, "N 2"]
    scale_m: Float[ndarray, "N 2 2"]
    truth_m: Float[ndarray, "N 2"]
    heard: Bool[ndarray, "N R"]
    part: Int[ndarray, " N"]


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
    likeliest, at whichever of `FACTORS` serves them best.

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
    for part, left in enumerate(counted(held_out, len(held_out), "learning the radio map", "folds")):
        _fill(net, samples, ~left, kernels, group_N)
        said += _hear(net, {name: values[left & (samples["weight"] > 0)] for name, values in samples.items()}, part)
    judge, tried = _judge(net, said), SHARES if net.fingerprints is not None else SHARES[:1]
    nats_ST = np.stack([judge(shares) for shares in tried])
    best, step = np.unravel_index(np.argmin(nats_ST), nats_ST.shape)
    net.fill({"temperature": TEMPERATURES[step], "shares": tried[best]})
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
    part: np.ndarray


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


def _hear(net: RadioMapNet, held: Sample, part: int) -> list[_Said]:
    """In batches; the last one padded, for one compilation, and cut again."""
    graph, state = nnx.split(net)
    logs = jax.jit(lambda state, inputs: nnx.merge(graph, state).log_likelihoods(**inputs))
    said, count = [], len(held["weight"])
    for start in range(0, count, BATCH):
        rows = np.arange(start, min(start + BATCH, count))
        padded = np.resize(rows, BATCH)
        spoken = logs(state, {name: held[name][padded] for name in INPUTS})
        truth_m, error_m, heard = (held[name][rows] for name in (*TRUTH, "heard"))
        logs_BG = tuple(log_BG[: len(rows)] for log_BG in spoken)
        said.append(_Said(logs_BG, truth_m, error_m, heard, np.full(len(rows), part)))
    return said


def _answers(net: RadioMapNet, said: Sequence[_Said]) -> HeldOut:
    fixes = [net.answer(one.logs_BG) for one in said]
    rows = [(*fix, one.truth_m, one.heard, one.part) for fix, one in zip(fixes, said, strict=True)]
    return HeldOut(*(np.concatenate(values) for values in zip(*rows, strict=True)))


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
        "floor_db": np.full(count, NO_FLOOR_DB),
    }
    rows = np.flatnonzero(identity_R)
    fields = (radio_map.mean_db_GR.T, radio_map.own_db2_GR.T, radio_map.has_field_R)
    levels = (radio_map.about_law_db_R, radio_map.bias_db_R, radio_map.least_db_R, radio_map.floor_db_R)
    for name, values in zip(found, (*fields, *levels), strict=True):
        found[name][identity_R[rows]] = values[rows]
    return found | {"shared_db2": radio_map.shared_db2_G, "exponent": radio_map.exponent}


def _judge(net: RadioMapNet, said: Sequence[_Said]) -> Callable[[Sequence[float]], np.ndarray]:
    """Mean nats (T,) of the truths under shares at each of `TEMPERATURES`, with the best factor of each."""
    graph = nnx.graphdef(net)

    @jax.jit
    def nats(state: Any, logs_BG: tuple[jax.Array, ...], truth_m: jax.Array, truth_error_m: jax.Array) -> jax.Array:
        def at(temperature: jax.Array) -> jax.Array:
            answering = nnx.merge(graph, state, copy=True)
            answering.temperature[...] = temperature
            fix = answering.answer(logs_BG)
            return jax.vmap(lambda factor: gaussian_nll(fix.position_m, factor * fix.scale_m, truth_m, truth_error_m))(
                jnp.asarray(FACTORS, jnp.float32)
            )

        return jax.vmap(at)(jnp.asarray(TEMPERATURES, jnp.float32))

    def judge(shares: Sequence[float]) -> np.ndarray:
        net.fill({"shares": shares})
        state = nnx.state(net)
        nats_TFN = np.concatenate([np.asarray(nats(state, *one[:3])) for one in said], axis=-1)
        return nats_TFN.mean(axis=-1).min(axis=-1)

    return judge
