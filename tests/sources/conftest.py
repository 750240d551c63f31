"""A catalogue that grows, and sides that are known, for tests of sets that follow it."""

import growing
import pytest

from heimdall_jax.sources import approved
from heimdall_jax.sources.catalogue import embedded
from heimdall_jax.sources.catalogue_sql import create_catalogue


@pytest.fixture
def catalogue(tmp_path):
    """Eight sessions, the last two longer, on sides that all three have some of."""
    folder = tmp_path / "catalogue"
    create_catalogue(embedded(folder)[0])
    for index in range(8):
        growing.grow(folder, index)
    return folder


@pytest.fixture
def known_sides(monkeypatch):
    """By the order of their places, as names are random: 3 of 8 to test, 1 to validate on."""
    sides = ["train", "test", "train", "validation", "test", "train", "test", "train"]

    def drawn(self, rows):
        return [sides[round((row.truth_deg[0] - 45.1) * 100) % 8] for row in rows]

    monkeypatch.setattr(approved.Rule, "sides", drawn)
