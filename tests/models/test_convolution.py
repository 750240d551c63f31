"""Both formulations of each convolution against XLA's own and a naive loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from heimdall_jax.models.convolution import Conv, convolve
from heimdall_jax.models.depthwise import convolve_depthwise
from heimdall_jax.models.resnet import max_pool

NHWC = ("NHWC", "HWIO", "NHWC")

# height, width, kernel, stride, padding: every shape ResNet-18 and ConvNeXt meet at (128, 32), with fewer channels
DENSE = [
    (128, 32, 7, 2, 3),
    (32, 8, 3, 1, 1),
    (16, 4, 3, 2, 1),
    (8, 2, 1, 2, 0),
    (8, 2, 3, 2, 1),
    (8, 2, 3, 1, 1),
    (7, 6, 3, 1, 0),
    (4, 1, 3, 1, 1),
    (2, 1, 3, 1, 1),
    (1, 1, 3, 1, 1),
    (8, 2, 2, 2, 0),
    (128, 32, 4, 4, 0),
    (9, 3, 3, 2, 1),
    (5, 4, 4, 4, 0),
    (5, 4, 3, 1, 3),
]


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)


@pytest.mark.parametrize("shape", DENSE)
def test_convolution_and_its_gradients_are_those_of_lax(shape):
    height, width, size, stride, padding = shape
    x, kernel = arrays((2, height, width, 5), (size, size, 5, 6))

    def ours(x, kernel):
        return convolve(x, kernel, stride, padding)

    def theirs(x, kernel):
        return lax.conv_general_dilated(x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=NHWC)

    def both_ways(convolution, x, kernel, seed):
        answer, pull = jax.vjp(convolution, x, kernel)
        return answer, pull(seed)

    (seed,) = arrays(jax.eval_shape(theirs, x, kernel).shape)
    (got, pulled), (want, pulled_lax) = (
        jax.jit(both_ways, static_argnums=0)(each, x, kernel, seed) for each in (ours, theirs)
    )
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    for gradient, gradient_lax in zip(pulled, pulled_lax, strict=True):
        np.testing.assert_allclose(gradient, gradient_lax, rtol=1e-4, atol=1e-4 * np.abs(gradient_lax).max())


@pytest.mark.parametrize("shape", [(4, 1, 3, 1, 1), (8, 2, 3, 2, 1)])
def test_one_pixel_wide_output_never_meets_a_convolution(shape):
    height, width, size, stride, padding = shape
    x, kernel = arrays((2, height, width, 5), (size, size, 5, 6))
    both_ways = jax.make_jaxpr(jax.grad(lambda x, kernel: jnp.sum(convolve(x, kernel, stride, padding)), (0, 1)))
    assert "conv_general_dilated" not in str(both_ways(x, kernel))


@pytest.mark.parametrize(("platform", "convolutions"), [("cpu", 0), ("cuda", 3), ("tpu", 3)])
def test_training_convolves_by_products_on_cpu_alone(platform, convolutions):
    def both_ways(x, kernel):
        return jax.value_and_grad(lambda x, kernel: jnp.sum(convolve(x, kernel, 1, 1) ** 2), (0, 1))(x, kernel)

    lowered = jax.export.export(jax.jit(both_ways), platforms=[platform])(*arrays((2, 8, 6, 5), (3, 3, 5, 6)))
    assert lowered.mlir_module().count("stablehlo.convolution") == convolutions


@pytest.mark.parametrize(("height", "width"), [(32, 8), (16, 4), (8, 2), (4, 1), (3, 5)])
def test_depthwise_is_a_loop_over_pixels(height, width):
    x, kernel = arrays((2, height, width, 3), (7, 7, 1, 3))
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (3, 3), (3, 3), (0, 0)))
    taps = np.asarray(kernel, np.float64)[:, :, 0]
    want = np.zeros(x.shape)
    for row in range(height):
        for column in range(width):
            want[:, row, column] = (padded[:, row : row + 7, column : column + 7] * taps).sum((1, 2))
    np.testing.assert_allclose(jax.jit(convolve_depthwise)(x, kernel), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(64, 16), (7, 5), (1, 1)])
def test_max_pool_is_that_of_lax(shape):
    (x,) = arrays((2, *shape, 3))
    edges = ((0, 0), (1, 1), (1, 1), (0, 0))
    want = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), edges)
    np.testing.assert_array_equal(max_pool(x), want)


def test_gradient_of_max_pool_is_that_of_lax():
    (x,) = arrays((2, 7, 5, 3))
    edges = ((0, 0), (1, 1), (1, 1), (0, 0))

    def theirs(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), edges)

    (seed,) = arrays(theirs(x).shape)
    ours, want = (jax.vjp(pool, x)[1](seed)[0] for pool in (max_pool, theirs))
    np.testing.assert_allclose(ours, want, rtol=1e-6)


def test_layer_adds_its_bias_and_computes_in_its_dtype():
    layer = Conv(3, 4, 3, padding=1, use_bias=True, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert layer.kernel[...].dtype == jnp.float32
    layer.bias = nnx.Param(jnp.arange(4, dtype=jnp.float32))
    y = layer(jnp.zeros((1, 5, 5, 3), jnp.float32))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(y[0, 2, 2], np.float32), [0, 1, 2, 3])
