"""Networks by name, and the inputs they ask for."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from heimdall_jax.config import ModelConfig
from heimdall_jax.errors import ConfigError
from heimdall_jax.models.build import build, input_names
from heimdall_jax.models.localization_net import LocalizationNet
from heimdall_jax.models.radio_map import RadioMapNet
from heimdall_jax.models.receiver_set import ReceiverSetNet
from heimdall_jax.types import Domain

DOMAIN = Domain((45.0, 8.0), tuple("abcdefg"))
NET = ModelConfig()
SET = ModelConfig(name="receiver_set", width=16, depth=1, spectrogram=True)
MAP = ModelConfig(name="radio_map")
SHAPES = {
    "rss_db": ((2, 5), jnp.float32),
    "receiver_m": ((2, 5, 2), jnp.float32),
    "heard": ((2, 5), jnp.bool),
    "present": ((2, 5), jnp.bool),
    "identity": ((2, 5), jnp.int32),
    "mel_spectrogram": ((2, 5, 128, 32), jnp.float32),
}


@pytest.mark.parametrize(
    ("config", "kind"), [(replace(NET, receivers=5), LocalizationNet), (SET, ReceiverSetNet), (MAP, RadioMapNet)]
)
def test_built_networks_take_their_inputs_and_lower_for_accelerators(config, kind):
    model = nnx.eval_shape(lambda: build(config, DOMAIN, nnx.Rngs(0)))
    assert isinstance(model, kind)
    graph, state = nnx.split(model)
    arrays = {name: jax.ShapeDtypeStruct(*SHAPES[name]) for name in input_names(config)}

    def forward(state, arrays):
        return tuple(nnx.merge(graph, state)(**arrays))

    exported = jax.export.export(jax.jit(forward), platforms=("cuda", "tpu"))(state, arrays)
    assert exported.platforms == ("cuda", "tpu")
    assert exported.out_avals[0].shape == (2, 2)


def test_input_names_follow_the_config():
    assert input_names(NET) == ("mel_spectrogram", "heard")
    assert input_names(SET) == ("rss_db", "receiver_m", "heard", "present", "identity", "mel_spectrogram")
    assert input_names(MAP) == ("rss_db", "receiver_m", "heard", "present", "identity")
    plain = ModelConfig(name="receiver_set", identity=False)
    assert input_names(plain) == ("rss_db", "receiver_m", "heard", "present")


@pytest.mark.parametrize(
    ("field", "name", "near"),
    [("name", "reciever_set", "receiver_set"), ("backbone", "resnet50", "resnet18"), ("backbone", "vit", None)],
)
def test_unknown_names_are_refused_with_the_nearest(field, name, near):
    config = replace(NET)
    object.__setattr__(config, field, name)  # the type checks that tests run with would refuse it earlier
    with pytest.raises(ConfigError, match=f"Did you mean '{near}'" if near else "Choose one of them"):
        build(config, DOMAIN, nnx.Rngs(0))


@pytest.mark.parametrize("name", ["spectrogram", "timing"])
def test_a_radio_map_reads_powers_alone(name):
    with pytest.raises(ConfigError, match=f"--model.{name} False"):
        build(replace(MAP, **{name: True}), DOMAIN, nnx.Rngs(0))
