"""`Fingerprints` learned: recordings of the training side, and how sharply to compare by leaving groups of them out."""

from __future__ import annotations

from itertools import product

import jax
import numpy as np
import scipy
from flax import nnx

from heimdall_jax.models.fingerprints import LIKE_ONE, Fingerprints
from heimdall_jax.types import Sample

INPUTS = ("rss_db", "receiver_m", "heard", "present", "identity")
TEMPERATURES = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 4.0)
SPREADS_M = (15.0, 25.0, 40.0, 60.0, 100.0, 160.0, 250.0, 400.0)
MOST = 1000
"""Recordings judged by the others, drawn at random where there are more."""
BATCH = 100


def learn_fingerprints(net: Fingerprints, train: Sample, group_N: np.ndarray | None, area_m2: float) -> None:
    """Fill it with stacked training samples (N, ...), as many as it has room for.

    Temperature and spread are those under which recordings of one group are likeliest, given those of all other groups.

    Args:
        net: Empty.
        train: The samples; those without weight are left out.
        group_N: Group number of each sample; None: each is its own.
        area_m2: Where a recording may be that is like no other.
    """
    rng, room = np.random.default_rng(0), len(net.counts[...])
    rows = np.flatnonzero(train["weight"] > 0)
    rows = np.sort(rng.permutation(rows)[:room])
    kept = {name: train[name][rows] for name in (*INPUTS, "position_m")}
    net.fill(_tables(kept, net.rss_db.shape[0], room))
    group = np.arange(len(rows)) if group_N is None else group_N[rows]
    judged = np.sort(rng.permutation(len(rows))[:MOST])
    temperature, spread_m = _likeliest(_mismatch(net, kept, judged), kept["position_m"], judged, group, area_m2)
    net.fill({"temperature": temperature, "spread_m": spread_m})


def _tables(kept: Sample, known: int, room: int) -> dict[str, np.ndarray]:
    """Recordings (n, R) by receiver (known, room), as `Fingerprints.fill` takes them."""
    recording, row = np.nonzero(kept["present"] & (kept["identity"] > 0))
    receiver = kept["identity"][recording, row] - 1
    heard = kept["heard"][recording, row]
    values = {
        "rss_db": np.where(heard, kept["rss_db"][recording, row], 0.0),
        "heard": heard,
        "present": np.ones(len(row)),
        "east_m": kept["receiver_m"][recording, row, 0],
        "north_m": kept["receiver_m"][recording, row, 1],
    }
    found = {name: np.zeros((known, room), np.float32) for name in values}
    for name, value in values.items():
        found[name][receiver, recording] = value
    count = len(kept["position_m"])
    place_m = np.zeros((room, 2), np.float32)
    place_m[:count] = kept["position_m"]
    return found | {"place_m": place_m, "counts": (np.arange(room) < count).astype(np.float32)}


def _mismatch(net: Fingerprints, kept: Sample, judged: np.ndarray) -> np.ndarray:
    """Of the recordings judged with all that are kept (J, n)."""
    graph, state = nnx.split(net)
    measure = jax.jit(lambda state, *inputs: nnx.merge(graph, state).mismatch(*inputs))
    parts = np.array_split(judged, -(-len(judged) // BATCH))
    found = [np.asarray(measure(state, *(kept[name][part] for name in INPUTS))) for part in parts]
    return np.concatenate(found)[:, : len(kept["position_m"])]


def _likeliest(
    mismatch: np.ndarray, place_m: np.ndarray, judged: np.ndarray, group: np.ndarray, area_m2: float
) -> tuple[float, float]:
    """Temperature and spread by the mismatch (J, n) of recordings `judged` (J,); places and groups (n,) are of all."""
    same = group[judged][:, None] == group
    if same.all():  # no other group to judge by
        same = judged[:, None] == np.arange(len(group))
    squared_m2 = ((place_m[judged][:, None].astype(np.float64) - place_m) ** 2).sum(axis=-1)
    anywhere = np.log((1 - LIKE_ONE) / area_m2)
    nats = {}
    for temperature, spread_m in product(TEMPERATURES, SPREADS_M):
        weight = np.where(same, -np.inf, -0.5 * mismatch / temperature)
        near = -0.5 * squared_m2 / spread_m**2 - np.log(2 * np.pi * spread_m**2)
        density = scipy.special.logsumexp(weight + near, axis=1) - scipy.special.logsumexp(weight, axis=1)
        nats[temperature, spread_m] = -np.logaddexp(density + np.log(LIKE_ONE), anywhere).mean()
    return min(nats, key=lambda which: nats[which])
