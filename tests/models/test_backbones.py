"""Backbones have the published number of parameters, and batch statistics move in training only."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from heimdall_jax.models.convnext import SIZES, ConvNeXt
from heimdall_jax.models.resnet import ResNet18
from heimdall_jax.models.silence import Silence


def parameters(make) -> int:
    shapes = nnx.eval_shape(make)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(shapes, nnx.Param)))


def test_resnet18_has_its_published_parameters():
    # torchvision 0.21 model page: resnet18 11,689,512, of which the classifier 512 * 1000 + 1000.
    assert parameters(lambda: ResNet18(3, rngs=nnx.Rngs(0))) == 11_689_512 - 513_000


@pytest.mark.parametrize(
    ("name", "published"),
    [  # torchvision 0.21 model pages, 1000 classes
        ("convnext_tiny", 28_589_128),
        ("convnext_small", 50_223_688),
        pytest.param("convnext_base", 88_591_464, marks=pytest.mark.slow),
        pytest.param("convnext_large", 197_767_336, marks=pytest.mark.slow),
    ],
)
def test_convnext_has_its_published_parameters(name, published):
    depths, widths = SIZES[name]
    classifier = 1000 * widths[-1] + 1000
    assert parameters(lambda: ConvNeXt(3, depths, widths, rngs=nnx.Rngs(0))) == published - classifier


@nnx.jit
def features(model, image, offset):
    """Of an image, whose row i alone misses channel i: each row's vector is its own."""
    return model(image, None if offset is None else Silence(jnp.eye(len(offset)), offset))


def test_an_offset_is_normed_as_what_it_is_added_to():
    model = ResNet18(2, rngs=nnx.Rngs(0))
    draw = np.random.default_rng(1).uniform
    model.stem_norm.mean[...], model.stem_norm.var[...] = draw(-1, 1, 64), draw(0.5, 2, 64)
    model.stem_norm.scale[...], model.stem_norm.bias[...] = draw(-2, 2, 64), draw(-1, 1, 64)
    model.eval()
    image, offset = (
        jnp.asarray(draw(-1, 1, (3, 32, 32, 2)), jnp.float32),
        jnp.asarray(draw(-1, 1, (3, 64)), jnp.float32),
    )
    given = features(model, image, offset)
    model.stem_norm.mean[...] -= offset[0]  # of the first row: moves the norm's input by as much
    np.testing.assert_allclose(given[0], features(model, image, None)[0], rtol=1e-4, atol=1e-5)


def test_convnext_gives_features_of_every_stage_size():
    model = ConvNeXt(2, (1, 1, 1, 1), (4, 4, 4, 4), rngs=nnx.Rngs(0))
    image = jnp.asarray(np.random.default_rng(0).normal(size=(3, 32, 32, 2)), jnp.float32)
    offset = jnp.broadcast_to(jnp.arange(4, dtype=jnp.float32)[None], (3, 4))  # a layer norm removes a constant
    plain, moved = features(model, image, jnp.zeros_like(offset)), features(model, image, offset)
    assert plain.shape == (3, 4)
    assert float(jnp.abs(plain - moved).max()) > 1e-3


@pytest.mark.parametrize("training", [True, False])
def test_backbones_compute_in_bfloat16_when_asked(training):
    half = jnp.bfloat16
    for make in (
        lambda: ConvNeXt(1, (1, 1), (4, 6), dtype=half, rngs=nnx.Rngs(0)),
        lambda: ResNet18(1, dtype=half, rngs=nnx.Rngs(0)),
    ):
        model = nnx.eval_shape(make)
        model.train() if training else model.eval()
        graph, state = nnx.split(model)
        image = jax.ShapeDtypeStruct((2, 128, 32, 1), half)
        result = jax.eval_shape(lambda state, image, graph=graph: nnx.merge(graph, state)(image), state, image)
        assert result.dtype == half
        assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}
