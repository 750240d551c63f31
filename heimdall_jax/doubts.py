"""What the readings of a data set say of its receivers: notes on dead, frozen and stepping ones."""

from __future__ import annotations

import dataclasses

import numpy as np

from heimdall_jax.datasets import Data
from heimdall_jax.sources.stream_checks import Readings, doubtful_receivers


def with_doubts(data: Data) -> Data:
    """The data, with a note on each receiver in doubt over training and validation rows, or else over the test's.

    Nothing is masked; simulated receivers do not fail.
    """
    if data.world is not None:
        return data
    parts = [part for part in (data.train, data.validation) if part is not None]
    parts = parts or [part for part in (data.test,) if part is not None]
    rows = {
        key: np.concatenate([part.columns()[key] for part in parts])
        for key in ("rss_db", "heard", "present", "receiver_m", "position_m", "weight")
    }
    readings = Readings(
        names=parts[0].rows,
        time_s_N=np.concatenate([part.start_time_s for part in parts]),
        place_m_NE=np.where(rows["weight"][:, None] > 0, rows["position_m"], np.nan).astype(np.float64),
        receiver_m_NRE=rows["receiver_m"].astype(np.float64),
        present_NR=rows["present"],
        heard_NR=rows["heard"],
        rss_db_NR=rows["rss_db"].astype(np.float64),
    )
    return dataclasses.replace(data, notes=(*data.notes, *doubtful_receivers(readings)))
