"""Operators that ONNX Runtime lacks in float64, made of those it has."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from scipy.special import erf

from heimdall_jax.export.double import narrow_constants, use_known_operators
from heimdall_jax.export.session import open_session


def run(operator: str, x: np.ndarray, **attributes: str) -> np.ndarray:
    info = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, [len(x)]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], **attributes)], "one", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    use_known_operators(model.graph)
    return open_session(model.SerializeToString()).run(["y"], {"x": x})[0]


@pytest.mark.parametrize(
    ("operator", "wanted"),
    [("Erf", erf), ("Gelu", lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2)))), ("Atan", np.arctan)],
)
def test_float64_operators_are_good_to_1e_13(operator, wanted):
    """Against SciPy's and NumPy's; in float32 the error would be 1e-7."""
    x = np.concatenate([np.linspace(-9, 9, 4001), [0.0, -1e-9, 1e-9, -40.0, 40.0]])
    np.testing.assert_allclose(run(operator, x), wanted(x), rtol=0, atol=1e-13)


def test_constants_that_meet_float32_are_narrowed():
    """x in float64 and in float32, each with the same float64 constant, which one of them cannot take."""
    info = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, [2]) for name in ("x", "y")]
    nodes = [
        helper.make_node("Cast", ["x"], ["narrow"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["narrow", "third"], ["single"]),
        helper.make_node("Cast", ["single"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("Mul", ["wide", "third"], ["y"]),
    ]
    third = helper.make_tensor("third", TensorProto.DOUBLE, [], [1 / 3])
    graph = helper.make_graph(nodes, "two", info[:1], info[1:], [third])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    narrow_constants(model.graph)
    x = np.array([1.0, 0.1])
    got = open_session(model.SerializeToString()).run(["y"], {"x": x})[0]
    wanted = (x.astype(np.float32) * np.float32(1 / 3)).astype(np.float64) * (1 / 3)
    np.testing.assert_array_equal(got, wanted)


def test_what_jax2onnx_widens_to_broadcast_stays_narrow():
    """It names such a cast `bcast_in_cast`; other casts to float64 are meant."""
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
    nodes = [
        helper.make_node("Cast", ["x"], ["bcast_in_cast_0"], to=TensorProto.DOUBLE),
        helper.make_node("Mul", ["bcast_in_cast_0", "x"], ["squared"]),
        helper.make_node("Cast", ["squared"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("Cast", ["wide"], ["y"], to=TensorProto.FLOAT),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "one", info[:1], info[1:]), opset_imports=[helper.make_opsetid("", 23)], ir_version=10
    )
    narrow_constants(model.graph)
    assert [node.op_type for node in model.graph.node] == ["Mul", "Cast", "Cast"]
    x = np.array([3.0, 0.5], np.float32)
    np.testing.assert_array_equal(open_session(model.SerializeToString()).run(["y"], {"x": x})[0], x * x)


def test_the_approximate_activation_is_what_jax_takes_for_it():
    """Of Hendrycks and Gimpel (2016), written out in NumPy."""
    x = np.linspace(-9, 9, 4001)
    wanted = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    np.testing.assert_allclose(run("Gelu", x, approximate="tanh"), wanted, rtol=0, atol=1e-13)
