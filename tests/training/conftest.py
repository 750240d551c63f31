"""Small data sets with known truth."""

from collections.abc import Sequence

import numpy as np
import pytest

from heimdall_jax.geodesy import local_to_degrees
from heimdall_jax.training.dataset import HeimdallDataset
from heimdall_jax.training.step import Trainer
from heimdall_jax.types import Session

ORIGIN = (45.0, 8.0)
RECEIVERS = ("a", "b", "c", "d", "e")
PLACES_M = np.array([[0.0, 0.0], [1000.0, 0.0], [0.0, 1000.0], [1000.0, 1000.0], [500.0, 1500.0]])


class Sessions:
    """Power-only sessions obeying a distance law with exponent 3, a bias per receiver and 1 dB of noise."""

    def __init__(self, count: int, *, noise_db: float = 1.0, seed: int = 0, iq: np.ndarray | None = None) -> None:
        rng = np.random.default_rng(seed)
        self.truth_m = rng.uniform(100, 900, (count, 2))
        distance = np.linalg.norm(self.truth_m[:, None] - PLACES_M, axis=-1)
        self.bias_db = np.array([0.0, 3.0, -3.0, 5.0, 1.0])
        noise = rng.normal(0, noise_db, distance.shape)
        self.rss_db = (self.bias_db - 30 * np.log10(distance) + noise).astype(np.float32)
        self.iq = iq

    def __len__(self) -> int:
        return len(self.truth_m)

    def __getitem__(self, index: int) -> Session:
        truth = local_to_degrees(self.truth_m[index], ORIGIN)
        return Session(
            session_id=f"s{index}",
            start_time_s=float(index),
            receivers=RECEIVERS,
            receiver_deg_RE=local_to_degrees(PLACES_M, ORIGIN),
            present_R=np.ones(5, bool),
            heard_R=np.ones(5, bool),
            rss_db_R=self.rss_db[index],
            truth_deg=(float(truth[0]), float(truth[1])),
            truth_error_m=5.0,
            iq_RT=None if self.iq is None else self.iq[index],
            sample_rate_hz=None if self.iq is None else 12_000.0,
        )

    def __getitems__(self, indices: Sequence[int]) -> list[Session]:
        return [self[i] for i in indices]


@pytest.fixture(scope="session")
def sessions() -> Sessions:
    return Sessions(50)


@pytest.fixture(scope="session")
def dataset(sessions: Sessions) -> HeimdallDataset:
    return HeimdallDataset(sessions, origin_deg=ORIGIN, rows=RECEIVERS, known=("a", "b", "c", "d"))


@pytest.fixture(scope="session")
def data() -> HeimdallDataset:
    """What the small loop trains on."""
    return HeimdallDataset(Sessions(60), origin_deg=ORIGIN, rows=RECEIVERS, known=RECEIVERS)


@pytest.fixture(scope="session")
def trainer(data: HeimdallDataset) -> Trainer:
    """The small loop's: it holds no state, so that all its tests may share what it compiled."""
    from tests.training.small_loop import make_trainer

    return make_trainer(data)
