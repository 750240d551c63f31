"""LocalizationNet: the seed contract, masks, and train against evaluation mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from heimdall_jax.config import ModelConfig
from heimdall_jax.errors import ConfigError, DataError
from heimdall_jax.models.heads import Fix
from heimdall_jax.models.localization_net import LocalizationNet
from heimdall_jax.models.normaliser import Fixed
from heimdall_jax.types import Domain

DOMAIN = Domain((45.0, 8.0), tuple("abcdefg"), (3000.0, -5000.0), 60_000.0, -90.0, 12.0)


@nnx.jit
def locate(model: LocalizationNet, mel, heard) -> Fix:
    return model(mel, heard)


@pytest.fixture(scope="module")
def net() -> LocalizationNet:
    """Seven receivers, evaluation mode."""
    model = LocalizationNet(ModelConfig(), DOMAIN, rngs=nnx.Rngs(0))
    model.eval()
    return model


def inputs(receivers: int, batch: int = 2):
    rng = np.random.default_rng(0)
    mel = jnp.asarray(rng.normal(-90, 12, (batch, receivers, 128, 32)), jnp.float32)
    return mel, jnp.asarray(np.arange(batch * receivers).reshape(batch, receivers) % 3 != 1)


@pytest.mark.parametrize("receivers", [3, 7])
def test_seed_contract(receivers):
    model = nnx.eval_shape(lambda: LocalizationNet(ModelConfig(receivers=receivers), DOMAIN, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(model)
    mel = jax.ShapeDtypeStruct((5, receivers, 128, 32), jnp.float32)
    position, uncertainty = jax.eval_shape(lambda state, mel: nnx.merge(graph, state)(mel), state, mel)
    assert position.shape == uncertainty.shape == (5, 2)
    assert position.dtype == uncertainty.dtype == jnp.float32


def test_bare_call_builds_the_default():
    assert nnx.eval_shape(lambda: LocalizationNet(rngs=nnx.Rngs(0))).receivers == ModelConfig().receivers


def test_first_answers_are_the_domain_s_prior(net):
    position_m, sigma_m = locate(net, *inputs(7))
    assert bool(jnp.all(sigma_m > 0))
    np.testing.assert_allclose(sigma_m, DOMAIN.position_std_m, rtol=0.5)
    distance_m = np.abs(np.asarray(position_m) - np.asarray(DOMAIN.position_mean_m))
    assert distance_m.max() < DOMAIN.position_std_m


def test_evaluation_is_deterministic_and_unheard_channels_change_nothing(net):
    mel, heard = inputs(7)
    first = locate(net, mel, heard)
    for other in (mel, jnp.where(heard[:, :, None, None], mel, 1e6), jnp.where(heard[:, :, None, None], mel, jnp.nan)):
        again = locate(net, other, heard)
        np.testing.assert_array_equal(first.position_m, again.position_m)
        np.testing.assert_array_equal(first.scale_m, again.scale_m)


def test_silence_is_learned_per_receiver(net):
    mel, _ = inputs(7)
    heard = jnp.ones((2, 7), bool).at[0, 1].set(False).at[1, 4].set(False)
    at_the_mean = jnp.full_like(mel, DOMAIN.feature_mean)  # so that only the silent receiver's vector differs
    position_m, _ = locate(net, at_the_mean, heard)
    assert float(jnp.abs(position_m[0] - position_m[1]).max()) > 0


@pytest.mark.slow
def test_training_moves_batch_statistics_and_drops_units(net):
    model = nnx.clone(net)
    model.train()
    graph, params, statistics, fixed, rest = nnx.split(model, nnx.Param, nnx.BatchStat, Fixed, ...)
    mel, heard = inputs(7)

    @jax.jit
    def step(params):
        copy = nnx.merge(graph, params, statistics, fixed, rest, copy=True)

        def loss(copy):
            fix = copy(mel, heard)
            again = copy(mel, heard)
            return jnp.sum(fix.position_m) / 1e4, (fix, again)

        (_, fixes), gradients = nnx.value_and_grad(loss, has_aux=True)(copy)
        return fixes, gradients, nnx.state(copy, nnx.BatchStat), nnx.state(copy, Fixed)

    (fix, again), gradients, moved, kept = step(params)
    assert float(jnp.abs(fix.position_m - again.position_m).max()) > 0  # dropout draws anew
    changed = [bool((old != new).any()) for old, new in zip(*map(jax.tree.leaves, (statistics, moved)), strict=True)]
    assert all(changed)
    assert jax.tree.all(jax.tree.map(lambda old, new: bool((old == new).all()), fixed, kept))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradients))
    assert float(jnp.abs(gradients["silent"][...]).max()) > 0


def test_wrong_channels_and_impossible_settings_are_refused(net):
    with pytest.raises(DataError, match=r"receiver axis.*got 3; allowed: 7"):
        net(inputs(3)[0])
    with pytest.raises(ConfigError, match="sigma_min_m"):
        LocalizationNet(ModelConfig(sigma_min_m=10.0, sigma_max_m=1.0), rngs=nnx.Rngs(0))
    with pytest.raises(DataError, match="position_std_m"):
        LocalizationNet(domain=Domain((0.0, 0.0), (), position_std_m=0.0), rngs=nnx.Rngs(0))


def test_convnext_backbone_by_name():
    model = nnx.eval_shape(lambda: LocalizationNet(ModelConfig(backbone="convnext_tiny"), DOMAIN, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(model)
    mel, heard = (jax.ShapeDtypeStruct(array.shape, array.dtype) for array in inputs(7))
    fix = jax.eval_shape(lambda state, mel, heard: nnx.merge(graph, state)(mel, heard), state, mel, heard)
    assert fix.position_m.shape == fix.scale_m.shape == (2, 2)
