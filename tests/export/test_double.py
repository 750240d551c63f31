"""A network that solves for the place is exported in float64: ONNX Runtime says what JAX says, metres and sigmas."""

import jax
import numpy as np
import onnx
import pytest
from flax import nnx
from onnx import TensorProto, helper

from heimdall_jax.config import ModelConfig
from heimdall_jax.export.double import open_doors, use_known_operators
from heimdall_jax.export.onnx import build_graph
from heimdall_jax.export.parity import compare
from heimdall_jax.export.session import open_session
from heimdall_jax.export.signature import Tensor, describe_inputs
from heimdall_jax.geodesy import SPEED_OF_LIGHT_M_PER_S
from heimdall_jax.models.build import build, input_names
from heimdall_jax.models.prediction import precision_of, predict
from heimdall_jax.types import Domain, Sample

DOMAIN = Domain((44.9365, 8.1965), ("a",), (0.0, 0.0), 38_000.0, -85.0, 9.0)
TIMED = ModelConfig(name="receiver_set", width=16, depth=1, heads=2, timing=True)


def samples(count: int = 64, receivers: int = 7) -> Sample:
    """Receivers nearly on one line, and clocks from 50 ns to 1 ms: directions that times fix a thousand times worse."""
    rng = np.random.default_rng(0)
    place_m = np.stack(
        [rng.uniform(-7e4, 7e4, (count, receivers)), rng.uniform(-300, 300, (count, receivers))], axis=-1
    )
    truth_m = rng.uniform(-6e4, 6e4, (count, 1, 2))
    heard = rng.random((count, receivers)) < 0.8
    clock_s = rng.choice([50e-9, 1e-6, 20e-6, 1e-3], (count, 1)) * np.ones((1, receivers))
    arrival_s = np.linalg.norm(place_m - truth_m, axis=2) / SPEED_OF_LIGHT_M_PER_S + rng.normal(0, clock_s)
    valid = heard[:, :, None] & heard[:, None] & ~np.eye(receivers, dtype=bool)
    single = {
        "rss_db": rng.normal(-85, 9, heard.shape),
        "receiver_m": place_m,
        "receiver_up_m": rng.uniform(0, 600, heard.shape),
        "clock_sigma_s": clock_s,
        "tdoa_s": np.where(valid, arrival_s[:, :, None] - arrival_s[:, None], 0.0),
        "arrival_precision_per_s2": np.where(heard, 1 / 20e-9**2, 0.0),
    }
    masks = {"heard": heard, "present": np.ones_like(heard), "timing_valid": valid}
    identity = np.zeros(heard.shape, np.int32)
    return {name: value.astype(np.float32) for name, value in single.items()} | masks | {"identity": identity}


@pytest.fixture(scope="module")
def network() -> nnx.Module:
    return build(TIMED, DOMAIN, nnx.Rngs(0))


@pytest.mark.slow
def test_the_same_network_gives_the_same_float64_graph_twice_and_agrees_with_jax(network):
    inputs = describe_inputs(input_names(TIMED), samples(), dynamic_receivers=True)
    first, outputs = build_graph(network, inputs=inputs, domain=DOMAIN)
    second, _ = build_graph(network, inputs=inputs, domain=DOMAIN)
    data = first.SerializeToString(deterministic=True)
    assert data == second.SerializeToString(deterministic=True)
    assert [tensor.dtype for tensor in outputs] == ["float32", "float64", "float32"]
    assert {value.type.tensor_type.elem_type for value in first.graph.input} == {TensorProto.FLOAT, TensorProto.INT32}
    report = compare(network, data, samples(), inputs=inputs, domain=DOMAIN).check()
    assert max(row.position_m for row in report.rows) < 0.1
    assert max(row.position_sigmas for row in report.rows) < 1e-3


def test_float32_would_not_have_agreed(network):
    """What float64 is for: the same network in float32 is metres off, or a hundredth of its sigma."""
    network.eval()
    named = {name: samples()[name] for name in input_names(TIMED)}
    with precision_of(network):
        exact = jax.jit(lambda arrays: tuple(predict(network, arrays)))(named)
    single = jax.jit(lambda arrays: tuple(network(**arrays)))(named)  # pyright: ignore[reportCallIssue]
    assert np.asarray(exact[0]).dtype == np.float64
    assert np.asarray(single[0]).dtype == np.float32
    offset_m = np.linalg.norm(np.asarray(single[0], np.float64) - np.asarray(exact[0]), axis=1)
    assert offset_m.max() > 1.0


@pytest.mark.parametrize("operator", ["Atan", "Erf"])
def test_operators_that_the_runtime_lacks_in_float64_are_replaced(operator):
    x, y = (Tensor(name, "float32", ("B",), ("batch",), "1", "A number.") for name in "xy")
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"])],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B"])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)])
    use_known_operators(proto.graph)
    open_doors(proto, [x], [y])
    values = np.linspace(-30, 30, 101, dtype=np.float32)
    (got,) = open_session(proto.SerializeToString()).run(None, {"x": values})
    assert got.dtype == np.float32
    if operator == "Atan":
        np.testing.assert_allclose(got, np.arctan(values.astype(np.float64)), rtol=1e-7)
    else:
        from scipy.special import erf

        np.testing.assert_allclose(got, erf(values.astype(np.float64)), atol=1e-6)


def test_arctangents_keep_float64():
    graph = helper.make_graph(
        [helper.make_node("Atan", ["x"], ["y"])],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["B"])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["B"])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)])
    use_known_operators(proto.graph)
    values = np.concatenate([np.linspace(-3, 3, 1001), [-1e9, 1e9]])
    (got,) = open_session(proto.SerializeToString()).run(None, {"x": values})
    np.testing.assert_allclose(got, np.arctan(values), rtol=0, atol=1e-15)
    onnx.checker.check_model(proto)
