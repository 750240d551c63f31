"""The stand-in models of `stand_ins.py` and their bundles, which are read-only: copy one before changing it."""

from pathlib import Path

import pytest
import stand_ins
from flax import nnx

from heimdall_jax.types import Sample


@pytest.fixture(scope="session")
def set_net() -> stand_ins.SetNet:
    return stand_ins.SetNet(rngs=nnx.Rngs(0))


@pytest.fixture
def channel_net() -> stand_ins.ChannelNet:
    return stand_ins.ChannelNet(rngs=nnx.Rngs(0))


@pytest.fixture(scope="session")
def set_bundle(tmp_path_factory) -> Path:
    return stand_ins.set_bundle(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="session")
def channel_bundle(tmp_path_factory) -> Path:
    return stand_ins.channel_bundle(tmp_path_factory.mktemp("channel"))


@pytest.fixture(scope="session")
def set_samples() -> Sample:
    return stand_ins.set_samples()


@pytest.fixture(scope="session")
def channel_samples() -> Sample:
    return stand_ins.channel_samples()
