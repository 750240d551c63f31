"""Receivers that fail, put into recordings that are sound: shifted, frozen, or swapped with another."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from heimdall_jax.types import Sample

SHIFT_DB = 20.0
KINDS = ("20 dB up", "20 dB down", "frozen", "swapped")
"""Of faults, as reports name them."""


def inject(samples: Sample, kind: str, receiver: int) -> Sample:
    """Stacked samples (N, R, ...) with one fault in all of them, the given ones left as they are.

    Args:
        samples: `rss_db`, `heard` and `present` (N, R) among them.
        kind: Of `KINDS`. Frozen: at its median reading. Swapped: with `partner_of` it.
        receiver: Which column fails; it must have heard in one sample or more.
    """
    heard, rss_db = samples["heard"][:, receiver], samples["rss_db"].copy()
    if kind == "swapped":
        return exchanged(samples, receiver, partner_of(samples["heard"], receiver))
    if kind == "frozen":
        rss_db[heard, receiver] = np.median(rss_db[heard, receiver])
    else:
        rss_db[heard, receiver] += SHIFT_DB if kind == "20 dB up" else -SHIFT_DB
    return samples | {"rss_db": rss_db}


def exchanged(samples: Sample, one: int, other: int) -> Sample:
    """What two receivers read, and whether they heard, changed over where both were present."""
    both, changed = samples["present"][:, one] & samples["present"][:, other], {}
    for key in ("rss_db", "heard"):
        values = samples[key].copy()
        values[both, one], values[both, other] = samples[key][both, other], samples[key][both, one]
        changed[key] = values
    return samples | changed


def without(samples: Sample, receivers: Bool[ndarray, " R"]) -> Sample:
    """The samples as if these receivers had taken no part."""
    return samples | {key: samples[key] & ~receivers for key in ("heard", "present")}


def partner_of(heard_NR: Bool[ndarray, "N R"], receiver: int) -> int:
    """The receiver that shares most recordings with one; of several the next in order, the first after the last."""
    count = heard_NR.shape[1]
    shared = (heard_NR & heard_NR[:, [receiver]]).sum(axis=0)
    others = [(receiver + step) % count for step in range(1, count)]
    return max(others, key=lambda other: shared[other])
