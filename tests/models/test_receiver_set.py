"""The receiver-set network: order, padding and missing receivers change nothing they should not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdall_jax.config import ModelConfig
from heimdall_jax.errors import ConfigError, DataError
from heimdall_jax.models.heads import Fix
from heimdall_jax.models.receiver_set import ReceiverSetNet
from heimdall_jax.models.tokens import IdentityEmbedding
from heimdall_jax.types import Domain

DOMAIN = Domain((40.0, -111.0), tuple("abcdef"), (200.0, -300.0), 700.0, -85.0, 9.0)
SMALL = ModelConfig(name="receiver_set", width=16, depth=2, heads=2)
SPECTRAL = ModelConfig(name="receiver_set", width=16, depth=1, heads=2, spectrogram=True)


def network(config: ModelConfig = SMALL) -> ReceiverSetNet:
    """Small, evaluation mode, with heads loud enough to see differences."""
    model = ReceiverSetNet(config, DOMAIN, n_mels=8, rngs=nnx.Rngs(0))
    for head in (model.position, model.cholesky.perceptron):
        head.last.kernel[...] = head.last.kernel[...] * 50.0
    model.eval()
    return model


def sample(receivers: int, batch: int = 2, seed: int = 0, spectrogram: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    present = rng.random((batch, receivers)) < 0.8
    drawn = {
        "rss_db": rng.normal(-85, 9, (batch, receivers)).astype(np.float32),
        "receiver_m": rng.normal(0, 700, (batch, receivers, 2)).astype(np.float32),
        "heard": present & (rng.random((batch, receivers)) < 0.8),
        "present": present,
        "identity": rng.integers(0, 7, (batch, receivers)).astype(np.int32),
    }
    if spectrogram:
        drawn["mel_spectrogram"] = rng.normal(-60, 10, (batch, receivers, 8, 6)).astype(np.float32)
    return drawn


@nnx.jit
def locate(model: ReceiverSetNet, arrays) -> Fix:
    return model(**arrays)


MODEL = network()


def close(left: Fix, right: Fix) -> None:
    for got, want in zip(left, right, strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=0.1)


def test_last_block_answers_for_the_query_as_one_that_answers_for_every_token():
    model = network()
    assert [block.first_alone for block in model.blocks] == [False, True]
    arrays = sample(receivers=6)
    shorter = locate(model, arrays)
    model.blocks[-1].first_alone = False
    close(locate(model, arrays), shorter)


@pytest.mark.parametrize("receivers", [1, 3, 7, 25])
def test_any_number_of_receivers_gives_a_place_and_a_covariance(receivers):
    fix = locate(MODEL, sample(receivers))
    assert fix.position_m.shape == (2, 2)
    factor = np.asarray(fix.scale_m, np.float64)
    assert (factor[:, 0, 1] == 0).all()
    assert (np.linalg.eigvalsh(factor @ factor.transpose(0, 2, 1)) > 0).all()


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(7)), st.integers(0, 100))
def test_order_of_receivers_changes_nothing(order, seed):
    arrays = sample(7, seed=seed)
    permuted = {name: array[:, list(order)] for name, array in arrays.items()}
    close(locate(MODEL, arrays), locate(MODEL, permuted))


def test_padding_changes_nothing_whatever_it_holds():
    arrays = sample(5)
    fix = locate(MODEL, arrays)
    for junk in (0.0, 1e6, np.nan):
        padded = {}
        for name, array in arrays.items():
            filler = np.zeros((2, 3, *array.shape[2:]), array.dtype)
            if array.dtype == np.float32:
                filler[:] = junk
            padded[name] = np.concatenate([array, filler], axis=1)
        close(locate(MODEL, padded), fix)


def test_batch_equals_one_by_one():
    arrays = sample(6, batch=4)
    together = locate(MODEL, arrays)
    for i in range(4):
        alone = locate(MODEL, {name: array[i : i + 1] for name, array in arrays.items()})
        close(alone, Fix(together.position_m[i : i + 1], together.scale_m[i : i + 1]))


def test_masked_rows_have_exactly_no_gradient_and_heard_ones_have_some():
    arrays = sample(7, batch=3, spectrogram=True)
    masks = {name: jnp.asarray(arrays[name]) for name in ("heard", "present", "identity")}
    absent, silent = ~arrays["present"], ~arrays["heard"]
    assert absent.any()
    values = {name: jnp.asarray(arrays[name]) for name in ("rss_db", "receiver_m", "mel_spectrogram")}
    values["rss_db"] = jnp.where(silent, jnp.nan, values["rss_db"])
    values["receiver_m"] = jnp.where(absent[:, :, None], jnp.nan, values["receiver_m"])
    model = network(SPECTRAL)

    def total(values):
        fix = model(**values, **masks)
        return jnp.sum(fix.position_m) + jnp.sum(jnp.log(fix.scale_m[:, 0, 0])) + jnp.sum(fix.scale_m[:, 1])

    gradient = {name: np.asarray(value) for name, value in jax.jit(jax.grad(total))(values).items()}
    assert (gradient["rss_db"][silent] == 0).all()
    assert (gradient["receiver_m"][absent] == 0).all()
    assert (gradient["mel_spectrogram"][silent] == 0).all()
    for name, mask in (("rss_db", ~silent), ("receiver_m", ~absent), ("mel_spectrogram", ~silent)):
        assert np.isfinite(gradient[name]).all()
        assert (np.abs(gradient[name][mask]) > 0).any()


@pytest.mark.parametrize("mask", ["heard", "present"])
def test_a_transmission_that_nobody_heard_gives_a_finite_wide_answer(mask):
    model = ReceiverSetNet(SMALL, DOMAIN, rngs=nnx.Rngs(1))
    model.eval()
    arrays = sample(5)
    arrays["heard"] = np.zeros_like(arrays["heard"])
    if mask == "present":
        arrays["present"] = np.zeros_like(arrays["present"])
    fix = locate(model, arrays)
    assert bool(jnp.isfinite(fix.position_m).all())
    np.testing.assert_allclose(np.diagonal(fix.scale_m, axis1=1, axis2=2), DOMAIN.position_std_m, rtol=0.5)


def test_identity_is_hidden_in_training_only():
    embedding = IdentityEmbedding(4, 3, 0.5, rngs=nnx.Rngs(0))
    identity = jnp.broadcast_to(jnp.arange(5, dtype=jnp.int32)[None], (200, 5))
    table = np.asarray(embedding.table[...])
    drawn = np.asarray(embedding(identity))
    hidden = (drawn == table[0]).all(-1)[:, 1:]
    assert 0.4 < hidden.mean() < 0.6
    assert not np.array_equal(drawn, embedding(identity))
    embedding.eval()
    np.testing.assert_array_equal(embedding(identity), np.broadcast_to(table, (200, 5, 3)))
    assert bool(jnp.isnan(embedding(jnp.full((1, 1), 5, jnp.int32))).all())  # beyond the table


def test_identity_and_spectrogram_matter_where_configured():
    arrays = sample(5, spectrogram=True)
    model = network(SPECTRAL)
    first = locate(model, arrays)
    for name in ("identity", "mel_spectrogram"):
        other = {**arrays, name: arrays[name][:, ::-1]}
        assert float(jnp.abs(locate(model, other).position_m - first.position_m).max()) > 1e-3
    without = network(ModelConfig(name="receiver_set", width=16, depth=1, heads=2, identity=False))
    del arrays["identity"], arrays["mel_spectrogram"]
    assert locate(without, arrays).position_m.shape == (2, 2)


def test_a_needed_input_and_a_divisible_width_are_asked_for():
    arrays = sample(4)
    with pytest.raises(DataError, match="input mel_spectrogram"):
        network(SPECTRAL)(**{name: jnp.asarray(array) for name, array in arrays.items()})
    with pytest.raises(ConfigError, match=r"Set model\.width to 15 or 18"):
        ReceiverSetNet(ModelConfig(name="receiver_set", width=17, heads=3), DOMAIN, rngs=nnx.Rngs(0))


def test_transformer_computes_in_bfloat16_when_asked():
    model = nnx.eval_shape(lambda: ReceiverSetNet(SMALL, DOMAIN, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(model)
    shapes = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in sample(5).items()}
    text = str(jax.make_jaxpr(lambda state, arrays: nnx.merge(graph, state)(**arrays))(state, shapes))
    assert "bf16[2,6,16]" in text
    fix = jax.eval_shape(lambda state, arrays: nnx.merge(graph, state)(**arrays), state, shapes)
    assert fix.position_m.dtype == fix.scale_m.dtype == jnp.float32
