"""A bundle is refused, with the reason, for every way in which it can be wrong."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from stand_ins import DOMAIN

from heimdall_jax.errors import ExportError, StorageError
from heimdall_jax.export.bundle import MANIFEST, read_bundle, write_atomically
from heimdall_jax.export.graph_check import check_same_graph, parse_graph
from heimdall_jax.export.manifest import parse_manifest


@pytest.fixture
def bundle(tmp_path, set_bundle) -> Path:
    """A copy to spoil."""
    shutil.copytree(set_bundle.parent, tmp_path / "run")
    return tmp_path / "run" / "model.onnx"


def rewrite_manifest(bundle: Path, **changes) -> None:
    path = bundle.with_name(MANIFEST)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewrite_graph(bundle: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    """Change the graph and make the manifest's hash fit."""
    proto = onnx.load(bundle)
    change(proto)
    rewrite_bytes(bundle, proto.SerializeToString())


def rewrite_bytes(bundle: Path, data: bytes) -> None:
    bundle.write_bytes(data)
    rewrite_manifest(bundle, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def test_a_whole_bundle_reads_back(bundle):
    read = read_bundle(bundle)
    assert read == read_bundle(bundle.parent)
    assert read.manifest.domain == DOMAIN
    assert read.model == bundle.read_bytes()
    assert read.manifest.opset == 23
    assert read.manifest.producers.keys() == {"heimdall-jax", "jax", "flax", "jax2onnx", "onnx"}
    assert read.manifest.names == {"positions": "position_m", "uncertainties": "covariance_m2"}
    assert read.manifest == parse_manifest(json.dumps(read.manifest.to_tree()).encode())


def test_the_seeds_names_are_mapped(channel_bundle):
    assert read_bundle(channel_bundle).manifest.names == {
        "mel_spectrogram": "mel_spectrogram",
        "positions": "position_m",
        "uncertainties": "sigma_m",
    }


def test_missing_files(bundle):
    bundle.with_name(MANIFEST).unlink()
    with pytest.raises(ExportError, match=r"manifest.json: got No such file"):
        read_bundle(bundle)
    with pytest.raises(ExportError, match=r"other.onnx: got No such file"):
        read_bundle(bundle.with_name("other.onnx"))
    with pytest.raises(ExportError, match=r"model.onnx: got No such file"):
        read_bundle(bundle.parents[1])


def test_truncated(bundle):
    bundle.write_bytes(bundle.read_bytes()[:-100])
    with pytest.raises(ExportError, match=r"model file: got \d+ bytes \(truncated\)"):
        read_bundle(bundle)


def test_flipped_bit(bundle):
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    bundle.write_bytes(data)
    with pytest.raises(ExportError, match=r"sha256: got .*altered"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"\xff\xfe", "unreadable JSON"),
        (b'{"sha256": ', "unreadable JSON"),
        (b"[" * 100_000, "unreadable JSON"),
        (b"[]", "manifest: got list"),
        (b"{}", "schema_version: got None"),
        (b'{"schema_version": 99}', "schema_version: got 99"),
        (b'{"schema_version": 1}', "KeyError 'sha256'"),
    ],
)
def test_manifests_that_are_none(bundle, text, reason):
    bundle.with_name(MANIFEST).write_bytes(text)
    with pytest.raises(ExportError, match=reason):
        read_bundle(bundle)


@pytest.mark.parametrize(
    "changes",
    [
        {"size_bytes": "many"},
        {"opset": True},
        {"inputs": [{"name": "rss_db"}]},
        {"inputs": {"rss_db": 1}},
        {"domain": {}},
        {"domain": {"origin_deg": [1, 2, 3]}},
        {"config": None},
    ],
)
def test_manifest_fields_of_the_wrong_kind(bundle, changes):
    rewrite_manifest(bundle, **changes)
    with pytest.raises(ExportError, match=r"manifest: got .*allowed: the fields of schema 1"):
        read_bundle(bundle)


def test_a_bundle_from_before_the_truths_box_was_kept_is_read(bundle):
    domain = json.loads(bundle.with_name(MANIFEST).read_text())["domain"]
    del domain["position_box_m"]
    rewrite_manifest(bundle, domain=domain)
    assert read_bundle(bundle).manifest.domain.position_box_m == (0.0, 0.0, 0.0, 0.0)


def test_wrong_opset(bundle):
    rewrite_manifest(bundle, opset=21)
    with pytest.raises(ExportError, match=r"opset of the graph: got .*23.*allowed: 21"):
        read_bundle(bundle)


def test_operators_of_another_domain(bundle):
    rewrite_graph(bundle, lambda proto: proto.opset_import.append(helper.make_opsetid("com.example", 1)))
    with pytest.raises(ExportError, match=r"opset of the graph: got .*com.example"):
        read_bundle(bundle)


def rename(proto):
    proto.graph.output[0].name = "elsewhere"


def make_double(proto):
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE


def make_flat(proto):
    del proto.graph.input[0].type.tensor_type.shape.dim[1]


def drop_output(proto):
    del proto.graph.output[-1]


def make_sequence(proto):
    proto.graph.input[0].type.CopyFrom(helper.make_sequence_type_proto(proto.graph.input[0].type))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (rename, "outputs of the graph"),
        (make_double, "inputs of the graph"),
        (make_flat, "inputs of the graph"),
        (drop_output, "outputs of the graph"),
        (make_sequence, "inputs of the graph"),
    ],
)
def test_wrong_signature(bundle, change, reason):
    rewrite_graph(bundle, change)
    with pytest.raises(ExportError, match=reason):
        read_bundle(bundle)


def test_another_origin(bundle):
    manifest = json.loads(bundle.with_name(MANIFEST).read_text())
    rewrite_manifest(bundle, domain=manifest["domain"] | {"origin_deg": [45.07, 7.7]})
    with pytest.raises(ExportError, match=r"origin_deg of the graph: got \[45.07, 7.69\]"):
        read_bundle(bundle)


def external_weight(proto):
    tensor = proto.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")


def external_in_a_branch(proto):
    tensor = numpy_helper.from_array(np.ones(2, np.float32), "hidden")
    external = onnx.TensorProto(name="far", data_type=1, dims=[2], data_location=onnx.TensorProto.EXTERNAL)
    body = helper.make_graph([], "body", [], [], [tensor, external])
    proto.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=body, else_branch=body))


def external_in_a_function(proto):
    external = onnx.TensorProto(name="far", data_type=1, dims=[2], data_location=onnx.TensorProto.EXTERNAL)
    node = helper.make_node("Constant", [], ["c"], value=external)
    proto.functions.append(helper.make_function("d", "f", [], ["c"], [node], [helper.make_opsetid("", 23)]))


@pytest.mark.parametrize("change", [external_weight, external_in_a_branch, external_in_a_function])
def test_data_in_another_file(bundle, change):
    rewrite_graph(bundle, change)
    with pytest.raises(ExportError, match="data in another file"):
        read_bundle(bundle)


def test_no_onnx_at_all(bundle):
    rewrite_bytes(bundle, b"\xff" * 1000)
    with pytest.raises(ExportError, match="no ONNX model"):
        read_bundle(bundle)


def flip_low_bit(proto):
    weight = max(proto.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    data = bytearray(weight.raw_data)
    data[40] ^= 1  # the lowest mantissa bit of element 10
    weight.raw_data = bytes(data)


def add_weight(proto):
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "more"))


def drop_weight(proto):
    del proto.graph.initializer[0]


def reshape_weight(proto):
    weight = max(proto.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).ravel(), weight.name))


def reencode_weight(proto):
    weight = max(proto.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = numpy_helper.to_array(weight)
    weight.CopyFrom(helper.make_tensor(weight.name, weight.data_type, values.shape, values.ravel()))


def change_node(proto):
    proto.graph.node[3].name = "other"


def add_node(proto):
    proto.graph.node.append(helper.make_node("Identity", ["position_m"], ["copy"]))


def change_text(proto):
    proto.doc_string = "other"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (flip_low_bit, r"weight .*1 of \d+ elements differ"),
        (add_weight, "weight more: got one that the checkpoint's export lacks"),
        (drop_weight, "weights: got none named"),
        (reshape_weight, r"weight .*float32\(\d+,\), not float32\(\d+, \d+"),
        (reencode_weight, "another encoding"),
        (change_node, "node 3"),
        (add_node, "graph's nodes"),
        (change_text, "other contents"),
        (make_double, "graph's inputs"),
    ],
)
def test_two_graphs_are_the_same_to_the_bit_or_the_difference_is_named(set_bundle, change, reason):
    wanted = parse_graph(set_bundle.read_bytes())
    changed = parse_graph(set_bundle.read_bytes())
    check_same_graph(changed, wanted)
    change(changed)
    with pytest.raises(ExportError, match=reason):
        check_same_graph(changed, wanted)


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    write_atomically(tmp_path / "new" / "a.bin", b"one")
    assert (tmp_path / "new" / "a.bin").read_bytes() == b"one"
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "inside").mkdir()
    with pytest.raises(StorageError, match="file taken"):
        write_atomically(tmp_path / "taken", b"two")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "taken"]
    with pytest.raises(StorageError, match=r"file b\.bin"):
        write_atomically(tmp_path / "new" / "a.bin" / "b.bin", b"three")
