"""Batch norms folded into products say the same."""

from collections import Counter

import jax.numpy as jnp
import numpy as np
import onnx
from flax import nnx

from heimdall_jax.export.batch_norms import fold_batch_norms
from heimdall_jax.export.onnx import _trace
from heimdall_jax.export.session import open_session
from heimdall_jax.export.signature import Tensor
from heimdall_jax.models.convolution import Conv
from heimdall_jax.models.norms import BatchNorm

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
