"""Graphs in fewer bits: what is inside them, what they say of themselves, and how near their answers stay."""

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
import stand_ins
from onnx import TensorProto, helper, numpy_helper

from heimdall_jax.errors import ExportError
from heimdall_jax.export.bundle import read_bundle
from heimdall_jax.export.graph_check import check_graph, parse_graph
from heimdall_jax.export.session import ask, open_session
from heimdall_jax.export.shrink import WORTHWHILE, to_float16, to_int8
from heimdall_jax.export.signature import INPUTS, to_graph_dtype
from heimdall_jax.export.smaller import check_again, check_growth, check_size, differences

Feed = dict[str, np.ndarray]


@pytest.fixture(params=["set", "channel"])
def case(request, set_bundle, channel_bundle) -> tuple[Path, Feed]:
    """A bundle and what it is fed."""
    samples = stand_ins.set_samples() if request.param == "set" else stand_ins.channel_samples()
    feed = {name: to_graph_dtype(INPUTS[name], values) for name, values in samples.items()}
    return set_bundle if request.param == "set" else channel_bundle, feed


def large(model: bytes) -> list[onnx.TensorProto]:
    """Constants that are worth making smaller."""
    return [tensor for tensor in parse_graph(model).graph.initializer if np.prod(tensor.dims) >= WORTHWHILE]


def graph_of(kind: int, operator: str = "MatMul") -> bytes:
    """x times, or plus, a constant of 16 x 16."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    weights = numpy_helper.from_array(np.eye(16, dtype=dtype), "weights")
    infos = [helper.make_tensor_value_info(name, kind, ["B", 16]) for name in "xy"]
    if operator == "Add":
        infos = [helper.make_tensor_value_info(name, kind, [16, 16]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "weights"], ["y"], name="only")], "g", infos[:1], infos[1:], [weights]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    return model.SerializeToString()


def test_float16_keeps_every_large_constant_in_half_the_bytes(case):
    path, feed = case
    single = path.read_bytes()
    assert {tensor.data_type for tensor in large(single)} == {TensorProto.FLOAT}
    half = to_float16(single)
    assert {tensor.data_type for tensor in large(half)} == {TensorProto.FLOAT16}
    assert len(half) < len(single)
    ours, theirs = (ask(open_session(model, 1), feed) for model in (single, half))
    assert 0 < np.abs(theirs[0] - ours[0]).max() < 2**-8 * np.abs(ours[0]).max()
    np.testing.assert_allclose(theirs[2], ours[2], rtol=2**-6, atol=2**-8 * np.abs(ours[2]).max())


def test_int8_multiplies_int8_by_uint8(case):
    path, feed = case
    single = path.read_bytes()
    small = to_int8(single, [feed])
    proto = parse_graph(small)
    made_by = {output: node for node in proto.graph.node for output in node.output}
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    quantized = 0
    for node in proto.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or node.input[1] not in made_by:
            continue
        values, weights = (made_by.get(name) for name in node.input[:2])
        if weights is None or weights.op_type != "DequantizeLinear":
            continue
        assert constants[weights.input[0]].data_type == TensorProto.INT8
        assert np.abs(numpy_helper.to_array(constants[weights.input[0]]).astype(int)).max() <= 64  # 7 bits
        assert len(numpy_helper.to_array(constants[weights.input[1]])) > 1  # a scale per channel
        assert values is not None
        assert constants[values.input[2]].data_type == TensorProto.UINT8
        quantized += 1
    assert quantized == (4 if path.parent.name.startswith("set") else 1)  # attention's products; the convolution
    ours, theirs = (ask(open_session(model, 1), feed) for model in (single, small))
    assert 0 < np.abs(theirs[0] - ours[0]).max() < 0.1 * np.abs(ours[0]).max()


def test_they_say_of_themselves_what_the_float32_graph_does(case):
    path, feed = case
    manifest = read_bundle(path).manifest
    for model in (to_float16(path.read_bytes()), to_int8(path.read_bytes(), [feed])):
        told = {"inputs": manifest.inputs, "outputs": manifest.outputs, "domain": manifest.domain}
        check_graph(model, opset=manifest.opset, **told)
        session = open_session(model, 1)
        needed = {tensor.name for tensor in manifest.inputs if not tensor.optional}
        position_m, position_deg, _ = ask(session, {name: feed[name][:3] for name in needed})
        assert (position_m.shape, position_deg.dtype) == ((3, 2), np.float64)


def test_the_same_graph_and_samples_give_the_same_bytes(case):
    path, feed = case
    assert to_float16(path.read_bytes()) == to_float16(path.read_bytes())
    assert to_int8(path.read_bytes(), [feed]) == to_int8(path.read_bytes(), [feed])


def test_what_float16_cannot_hold_stays_float32(set_bundle):
    proto = onnx.load(set_bundle)
    changed = next(t for t in proto.graph.initializer if np.prod(t.dims) >= WORTHWHILE)
    values = numpy_helper.to_array(changed).copy()
    values.flat[0] = 65_505.0
    changed.CopyFrom(numpy_helper.from_array(values, changed.name))
    kinds = [tensor.data_type for tensor in large(to_float16(proto.SerializeToString()))]
    assert kinds.count(TensorProto.FLOAT) == 1
    assert TensorProto.FLOAT16 in kinds


def test_graphs_that_cannot_become_smaller_are_refused():
    feed = {"x": np.ones((2, 16), np.float32)}
    double = "graph to make smaller: got float64; allowed: one that computes in float32"
    with pytest.raises(ExportError, match=double):
        to_float16(graph_of(TensorProto.DOUBLE))
    with pytest.raises(ExportError, match=double):
        to_int8(graph_of(TensorProto.DOUBLE), [])
    with pytest.raises(ExportError, match="int8 export: got none; allowed: a graph with layers"):
        to_int8(graph_of(TensorProto.FLOAT, "Add"), [feed])
    with pytest.raises(ExportError, match="float16 export: got none; allowed: a graph with constants"):
        to_float16(graph_of(TensorProto.FLOAT16))
    with pytest.raises(ExportError, match=r"int8 export: got ValueError: No data is collected"):
        to_int8(graph_of(TensorProto.FLOAT), [])
    with pytest.raises(ExportError, match=r"float16 export: got .*; allowed: a graph that can be converted"):
        to_float16(b"no graph")


def test_the_libraries_keep_quiet_and_logging_is_as_before(case, capfd, caplog):
    path, feed = case
    level = logging.getLogger().level
    to_int8(path.read_bytes(), [feed])
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert logging.getLogger().level == level


def test_differences_are_those_of_the_answers(set_bundle, channel_bundle):
    for path, samples in ((set_bundle, stand_ins.set_samples()), (channel_bundle, stand_ins.channel_samples())):
        inputs, single = read_bundle(path).manifest.inputs, path.read_bytes()
        assert set(differences(single, single, samples, inputs).values()) == {0.0}
        found = differences(single, moved(single, 300.0), samples, inputs)
        np.testing.assert_allclose(found["position_m"], 300.0, rtol=1e-3)
        feed = {tensor.name: to_graph_dtype(tensor, samples[tensor.name]) for tensor in inputs}
        covariance_m2 = ask(open_session(single, 1), feed)[2]
        least = (300.0**2 * np.linalg.inv(covariance_m2)[:, 0, 0].max()) ** 0.5
        assert found["position_sigmas"] >= 0.999 * least
        assert found["covariance_relative"] == 0.0
        with pytest.raises(ExportError, match="smaller graph's answers: got NaN or infinity"):
            differences(single, moved(single, float("nan")), samples, inputs)


def moved(model: bytes, east_m: float) -> bytes:
    """The graph with its places moved east."""
    proto = parse_graph(model)
    for node in proto.graph.node:
        node.input[:] = ["before" if name == "position_m" else name for name in node.input]
        node.output[:] = ["before" if name == "position_m" else name for name in node.output]
    proto.graph.initializer.append(numpy_helper.from_array(np.array([[east_m, 0.0]], np.float32), "step"))
    proto.graph.node.append(helper.make_node("Add", ["before", "step"], ["position_m"], name="moved"))
    return proto.SerializeToString()


@pytest.mark.parametrize(("mean_m", "fits"), [(99.0, True), (101.9, True), (102.1, False), (float("nan"), False)])
def test_two_percent_is_the_limit(mean_m, fits):
    if fits:
        check_growth("int8", mean_m, 100.0, where="the test side")
        return
    said = r"int8 export: got a mean error of .* m on the test side, .*% from float32's 100.0 m; allowed: at most \+2%"
    with pytest.raises(ExportError, match=said):
        check_growth("int8", mean_m, 100.0, where="the test side")


def test_a_file_as_large_as_the_float32_one_is_refused():
    check_size("int8", 999, 1000)
    with pytest.raises(ExportError, match=r"int8 export: got 1,000 bytes; allowed: fewer than model.onnx's 1,000\."):
        check_size("int8", 1000, 1000)


def test_constants_are_not_multiplied_by_computing_them():
    """A table that the graph repeats 64 times stays one table."""
    table = numpy_helper.from_array(np.random.default_rng(0).normal(size=(1, 512)).astype(np.float32), "table")
    shape = numpy_helper.from_array(np.array([64, 512]), "shape")
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", 512]) for name in "xy"]
    nodes = [
        helper.make_node("Expand", ["table", "shape"], ["many"], name="repeat"),
        helper.make_node("Add", ["x", "many"], ["y"], name="add"),
    ]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], [table, shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10).SerializeToString()
    assert len(to_float16(model)) < len(model)


def test_larger_differences_than_recorded_are_refused():
    recorded = {"position_m": 10.0, "position_sigmas": 0.05, "covariance_relative": 1e-9}
    check_again("f", {"position_m": 19.0, "position_sigmas": 0.09, "covariance_relative": 0.0009}, recorded)
    for name, value, limit in (("position_m", 21.0, "20"), ("covariance_relative", 0.0011, "0.001")):
        with pytest.raises(ExportError, match=f"{name} of f against model.onnx: got .* at most {limit}"):
            check_again("f", recorded | {name: value}, recorded)
