"""Graphs without arithmetic of shapes say the same."""

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest

from heimdall_jax.export.onnx import _trace
from heimdall_jax.export.session import open_session
from heimdall_jax.export.shapes import body_of, infer
from heimdall_jax.export.signature import Tensor
from heimdall_jax.export.simplify import simplify

ROWS = Tensor("x", "float32", ("B", 9), ("batch", "sample"), "", "")
PAIRS = Tensor("x", "float32", ("B", "R"), ("batch", "receiver"), "", "")


def looped(x_BR: jax.Array) -> jax.Array:
    """Broadcasts, reshapes and a loop, of any batch and any receivers."""
    apart = x_BR[:, :, None] - x_BR[:, None, :]
    weight = jnp.where(apart > 0, apart, 0.0).reshape(x_BR.shape[0], x_BR.shape[1], x_BR.shape[1], 1)

    def step(place: jax.Array, pull: jax.Array) -> tuple[jax.Array, None]:
        return place + pull * jnp.sum(weight[..., 0] * (place[:, None, :] - x_BR[:, :, None]), axis=1), None

    return jax.lax.scan(step, x_BR, jnp.asarray([0.1, 0.01], x_BR.dtype))[0]


def converted() -> onnx.ModelProto:
    proto = _trace(looped, [PAIRS], names=["x"], outputs=["y"], double=False)
    del proto.graph.value_info[:]
    return proto


def operators(graph: onnx.GraphProto) -> list[str]:
    found = []
    for node in graph.node:
        found.append(node.op_type)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found += operators(attribute.g)
    return found


def loop_of(proto: onnx.ModelProto) -> onnx.NodeProto:
    return next(node for node in proto.graph.node if node.op_type == "Loop")


@pytest.mark.parametrize("shape", [(1, 3), (4, 7), (2, 1)])
def test_it_gives_the_same_numbers_of_any_size(shape):
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    before, after = converted(), converted()
    simplify(after, {"B": ("x", 0), "R": ("x", 1)})
    onnx.checker.check_model(after, full_check=True)
    answers = [open_session(proto.SerializeToString()).run(None, {"x": x})[0] for proto in (before, after)]
    np.testing.assert_array_equal(*answers)


def test_a_loop_casts_nothing_to_the_type_that_it_has():
    before, after = converted(), converted()
    simplify(after, {"B": ("x", 0), "R": ("x", 1)})
    casts = [operators(body_of(loop_of(proto))).count("Cast") for proto in (before, after)]
    assert casts[0] > 0
    assert casts[1] == 0


def test_a_loop_carries_nothing_that_stays():
    """The recording and the weights are read from outside; the place, the tempers' number and its state go round."""
    proto = converted()
    before = loop_of(proto)
    assert len(before.input) - 2 > 2
    simplify(proto, {"B": ("x", 0), "R": ("x", 1)})
    after = loop_of(proto)
    body = next(attribute.g for attribute in after.attribute if attribute.name == "body")
    assert len(after.input) - 2 == len(after.output) == len(body.input) - 2 == len(body.output) - 1 == 1


def test_a_cast_comes_before_what_it_was_expanded_to():
    """A constant matrix for every sample of a batch: the product takes it once."""

    def turned(x_BR: jax.Array) -> jax.Array:
        matrix = jnp.asarray(np.eye(3), jnp.float64)
        each = jnp.broadcast_to(matrix[None], (x_BR.shape[0], 3, 3)).astype(jnp.float32)
        return jnp.matmul(each, x_BR[:, :, None].astype(jnp.float32))[..., 0]

    three = Tensor("x", "float64", ("B", 3), ("batch", "axis"), "", "")
    with jax.enable_x64(True):
        proto = _trace(turned, [three], names=["x"], outputs=["y"], double=True)
    before = operators(proto.graph)
    simplify(proto, {"B": ("x", 0)})
    assert before.count("Expand") > 0
    assert operators(proto.graph).count("Expand") == 0
    x = np.random.default_rng(0).standard_normal((5, 3))
    np.testing.assert_array_equal(open_session(proto.SerializeToString()).run(None, {"x": x})[0], np.float32(x))
    assert not jax.config.jax_enable_x64


def test_sizes_are_asked_for_once():
    proto = converted()
    before = operators(proto.graph)
    simplify(proto, {"B": ("x", 0), "R": ("x", 1)})
    after = operators(proto.graph)
    assert before.count("Shape") > 4
    assert after.count("Shape") <= 2
    assert len(after) < 0.7 * len(before)


def test_shapes_are_known_inside_a_loop():
    proto = converted()
    infer(proto)
    body = next(attribute.g for attribute in loop_of(proto).attribute if attribute.name == "body")
    known = [[size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim] for value in body.input]
    assert ["B", "R"] in known


def test_slices_name_only_the_axes_that_they_cut():
    """One after another, so that the second is known only once the first is."""

    def cut(x: jax.Array) -> jax.Array:
        return jax.lax.slice_in_dim(jax.lax.slice_in_dim(x, 2, 7, axis=1), 0, 5, 2, axis=1) * 2.0

    proto = _trace(cut, [ROWS], names=["x"], outputs=["y"], double=False)
    del proto.graph.value_info[:]
    simplify(proto, {"B": ("x", 0)})
    slices = [node for node in proto.graph.node if node.op_type == "Slice"]
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor).tolist() for tensor in proto.graph.initializer}
    assert [constants[node.input[3]] for node in slices] == [[1], [1]]
    assert "Shape" not in operators(proto.graph)
    x = np.arange(27, dtype=np.float32).reshape(3, 9)
    (y,) = open_session(proto.SerializeToString()).run(None, {"x": x})
    np.testing.assert_array_equal(y, x[:, 2:7:2] * 2)
