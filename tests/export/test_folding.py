"""Batch norms folded into products, and paddings into maxima, say the same."""

from collections import Counter

import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from flax import nnx

from heimdall_jax.export.folding import fold_batch_norms, fold_paddings, gather_patches, reshape_later, shapes_of
from heimdall_jax.export.onnx import _trace
from heimdall_jax.export.session import open_session
from heimdall_jax.export.signature import Tensor
from heimdall_jax.export.simplify import simplify
from heimdall_jax.models.convolution import Conv
from heimdall_jax.models.norms import BatchNorm
from heimdall_jax.models.resnet import max_pool

IMAGE = Tensor("x", "float32", ("B", 6, 2, 5), ("batch", "row", "column", "channel"), "", "")


class Narrow(nnx.Module):
    """A product (one pixel wide) and a convolution (two pixels wide) of the same image, each normed; statistics set."""

    def __init__(self, rngs):
        self.wide = Conv(5, 4, 3, padding=1, rngs=rngs)
        self.narrow = Conv(5, 4, 3, stride=2, padding=1, rngs=rngs)
        self.norms = nnx.List([BatchNorm(4, rngs=rngs), BatchNorm(4, rngs=rngs)])
        for number, norm in enumerate(self.norms):
            draw = np.random.default_rng(number).uniform
            norm.mean[...], norm.var[...] = draw(-1, 1, 4).astype(np.float32), draw(0.5, 2, 4).astype(np.float32)
            norm.scale[...], norm.bias[...] = draw(0.5, 2, 4).astype(np.float32), draw(-1, 1, 4).astype(np.float32)

    def __call__(self, x):
        wide, narrow = self.norms[0](self.wide(x)), self.norms[1](self.narrow(x))
        return nnx.relu(wide).sum((1, 2)) + nnx.relu(narrow).sum((1, 2))


def test_those_after_products_are_folded_and_those_after_convolutions_left_to_the_runtime():
    net = Narrow(nnx.Rngs(0))
    net.eval()
    proto = _trace(net, [IMAGE], names=["x"], outputs=["y"], double=False)
    folded = onnx.ModelProto()
    folded.CopyFrom(proto)
    fold_batch_norms(folded.graph)
    onnx.checker.check_model(folded)
    counts = [Counter(node.op_type for node in each.graph.node)["BatchNormalization"] for each in (proto, folded)]
    assert counts == [2, 1]
    x = np.random.default_rng(2).standard_normal((3, 6, 2, 5), np.float32)
    before, after = (open_session(each.SerializeToString()).run(None, {"x": x})[0] for each in (proto, folded))
    np.testing.assert_allclose(before, np.asarray(net(jnp.asarray(x))), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(before, after, rtol=1e-5, atol=1e-5)


class Pooling(nnx.Module):
    """A maximum over windows of an image padded by `value`."""

    def __init__(self, value):
        self.value = value

    def __call__(self, x):
        if self.value is None:
            return max_pool(x)
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=self.value)
        return nnx.max_pool(padded, window_shape=(3, 3), strides=(2, 2), padding="VALID")


@pytest.mark.parametrize(("value", "paddings"), [(None, 0), (0.0, 1)])
def test_only_a_padding_that_no_maximum_sees_is_left_to_the_maximum(value, paddings):
    proto = _trace(Pooling(value), [IMAGE], names=["x"], outputs=["y"], double=False)
    simplify(proto, {"B": ("x", 0)})
    before = onnx.ModelProto()
    before.CopyFrom(proto)
    fold_paddings(proto.graph)
    onnx.checker.check_model(proto)
    assert Counter(node.op_type for node in before.graph.node)["Pad"] == 1
    assert Counter(node.op_type for node in proto.graph.node)["Pad"] == paddings
    x = np.random.default_rng(2).uniform(-2, -1, (3, 6, 2, 5)).astype(np.float32)
    wanted, given = (open_session(each.SerializeToString()).run(None, {"x": x})[0] for each in (before, proto))
    np.testing.assert_array_equal(given, wanted)
    np.testing.assert_array_equal(given, np.asarray(Pooling(value)(jnp.asarray(x))))


class Patches(nnx.Module):
    """Two products of patches in a row, the first of an image two pixels wide, rectified, and a projected shortcut."""

    def __init__(self, rngs):
        self.convs = nnx.List([Conv(5, 4, 3, stride=2, padding=1, rngs=rngs), Conv(4, 4, 3, padding=1, rngs=rngs)])
        self.project = Conv(5, 4, 1, stride=2, rngs=rngs)

    def __call__(self, x):
        y = nnx.relu(self.convs[0](x))
        return nnx.relu(self.convs[1](y) + self.project(x)).sum((1, 2))


def test_patches_are_gathered_and_rectified_within_their_products():
    net = Patches(nnx.Rngs(0))
    proto = _trace(net, [IMAGE], names=["x"], outputs=["y"], double=False)
    simplify(proto, {"B": ("x", 0)})
    folded = onnx.ModelProto()
    folded.CopyFrom(proto)
    known = shapes_of(folded)
    gather_patches(folded.graph, known)
    reshape_later(folded.graph, known)
    onnx.checker.check_model(folded)
    before, after = (Counter(node.op_type for node in each.graph.node) for each in (proto, folded))
    assert before["Slice"] - after["Slice"] == 6 + 3 + 1  # taps that meet data, and the shortcut
    assert after["Gather"] - before["Gather"] == 3
    makers = {name: node for node in folded.graph.node for name in node.output}
    rectified = [makers[node.input[0]].op_type for node in folded.graph.node if node.op_type == "Relu"]
    assert rectified == ["Gemm", "Add"]
    x = np.random.default_rng(2).standard_normal((3, 6, 2, 5), np.float32)
    wanted, given = (open_session(each.SerializeToString()).run(None, {"x": x})[0] for each in (proto, folded))
    np.testing.assert_array_equal(given, wanted)


def test_slices_that_are_no_patches_stay():
    def halves(x):
        return jnp.concatenate([x[:, :3], x[:, 3:]], axis=3).reshape(-1, 10)

    proto = _trace(halves, [IMAGE], names=["x"], outputs=["y"], double=False)
    simplify(proto, {"B": ("x", 0)})
    gather_patches(proto.graph, shapes_of(proto))
    assert Counter(node.op_type for node in proto.graph.node)["Slice"] == 2
