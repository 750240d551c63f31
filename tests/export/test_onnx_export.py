"""The exported graph: what it takes, what it gives, and that degrees are those of geodesy in float64."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
import stand_ins
from flax import nnx
from stand_ins import DOMAIN

from heimdall_jax.errors import ExportError
from heimdall_jax.export.onnx import OPSET, build_graph, to_onnx
from heimdall_jax.export.session import open_session
from heimdall_jax.export.signature import Tensor, describe_inputs, to_graph_dtype
from heimdall_jax.geodesy import local_to_degrees
from heimdall_jax.models.heads import Fix
from heimdall_jax.types import Domain


def feed(inputs, samples):
    return {tensor.name: to_graph_dtype(tensor, samples[tensor.name]) for tensor in inputs}


def test_set_graph_declares_names_dtypes_and_dynamic_axes(set_bundle):
    graph = onnx.load(set_bundle).graph
    declared = {
        value.name: (
            onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
            [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in (*graph.input, *graph.output)
    }
    assert declared == {
        "rss_db": ("float32", ["B", "R"]),
        "receiver_m": ("float32", ["B", "R", 2]),
        "heard": ("float32", ["B", "R"]),
        "present": ("float32", ["B", "R"]),
        "identity": ("int32", ["B", "R"]),
        "position_m": ("float32", ["B", 2]),
        "position_deg": ("float64", ["B", 2]),
        "covariance_m2": ("float32", ["B", 2, 2]),
    }


def test_graph_tells_units_axes_and_origin(channel_bundle):
    proto = onnx.load(channel_bundle)
    metadata = {entry.key: json.loads(entry.value) for entry in proto.metadata_props}
    assert tuple(metadata["origin_deg"]) == DOMAIN.origin_deg
    assert tuple(metadata["receivers"]) == DOMAIN.receivers
    outputs = {entry["name"]: entry for entry in metadata["outputs"]}
    assert outputs["position_deg"]["axes"] == ["batch", "latitude, longitude"]
    assert outputs["sigma_m"]["unit"] == "m"
    assert [entry.version for entry in proto.opset_import] == [OPSET]
    assert sorted(path.name for path in channel_bundle.parent.iterdir()) == ["manifest.json", "model.onnx"]


class Passes(nnx.Module):
    """Gives back the first receiver's place."""

    def __call__(self, receiver_m) -> Fix:
        return Fix(receiver_m[:, 0], jnp.ones_like(receiver_m[:, 0]))


@pytest.mark.parametrize("origin_deg", [(45.07, 7.69), (-33.0, 179.9), (0.0, 0.0), (40.76, -111.84), (78.2, 15.6)])
def test_degrees_are_those_of_float64_geodesy(origin_deg):
    place = np.random.default_rng(0).normal(0, 2e5, (64, 1, 2)).astype(np.float32)
    place[0] = 0
    inputs = describe_inputs(["receiver_m"], {"receiver_m": place}, dynamic_receivers=False)
    proto, _ = build_graph(Passes(), inputs=inputs, domain=Domain(origin_deg, ()))
    position_m, position_deg, _ = open_session(proto.SerializeToString()).run(None, {"receiver_m": place})
    np.testing.assert_array_equal(position_m, place[:, 0])
    expected = local_to_degrees(place[:, 0].astype(np.float64), origin_deg)  # NumPy's float64 arctan2
    np.testing.assert_allclose(position_deg, expected, rtol=0, atol=1e-12)


def test_degrees_at_a_pole_are_numbers():
    place = np.asarray([[0, 0], [1e5, 0], [0, -1e5]], np.float32)[:, None]
    inputs = describe_inputs(["receiver_m"], {"receiver_m": place}, dynamic_receivers=False)
    proto, _ = build_graph(Passes(), inputs=inputs, domain=Domain((90.0, 0.0), ()))
    latitude, longitude = open_session(proto.SerializeToString()).run(None, {"receiver_m": place})[1].T
    assert np.isfinite(longitude).all()
    expected = local_to_degrees(place[:, 0].astype(np.float64), (90.0, 0.0))
    np.testing.assert_allclose(latitude, expected[:, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("batch", [1, 3, 32])
@pytest.mark.parametrize("receivers", [1, 2, 6, 40])
def test_any_batch_and_any_number_of_receivers(set_bundle, set_net, batch, receivers):
    rng = np.random.default_rng(batch * 100 + receivers)
    samples = {
        "rss_db": rng.normal(-70, 10, (batch, receivers)).astype(np.float32),
        "receiver_m": rng.normal(0, 1e4, (batch, receivers, 2)).astype(np.float32),
        "heard": np.ones((batch, receivers), bool),
        "present": np.ones((batch, receivers), bool),
        "identity": np.zeros((batch, receivers), np.int32),
    }
    inputs = describe_inputs(list(samples), samples, dynamic_receivers=True)
    position_m, position_deg, covariance_m2 = open_session(set_bundle.read_bytes()).run(None, feed(inputs, samples))
    assert position_m.shape == position_deg.shape == (batch, 2)
    assert covariance_m2.shape == (batch, 2, 2)
    assert (np.linalg.eigvalsh(covariance_m2) > 0).all()


def test_heard_can_be_left_out_where_receivers_are_fixed(channel_bundle, channel_samples):
    session = open_session(channel_bundle.read_bytes())
    mel = channel_samples["mel_spectrogram"]
    assert [value.name for value in session.get_inputs()] == ["mel_spectrogram"]
    alone = session.run(None, {"mel_spectrogram": mel})
    ones = session.run(None, {"mel_spectrogram": mel, "heard": np.ones(mel.shape[:2], np.float32)})
    np.testing.assert_array_equal(alone[0], ones[0])
    masked = np.ones(mel.shape[:2], np.float32)
    masked[3, 1] = 0
    some = session.run(None, {"mel_spectrogram": mel, "heard": masked})
    assert (some[0][3] != ones[0][3]).all()
    np.testing.assert_array_equal(np.delete(some[0], 3, axis=0), np.delete(ones[0], 3, axis=0))


def test_exporting_leaves_the_model_in_training_mode(channel_samples, channel_net):
    inputs = describe_inputs(["mel_spectrogram", "heard"], channel_samples, dynamic_receivers=False)
    channel_net.train()
    build_graph(channel_net, inputs=inputs, domain=DOMAIN)
    assert not channel_net.norm.use_running_average
    assert not channel_net.dropout.deterministic


def test_the_same_model_exports_to_the_same_bytes_in_another_process(channel_bundle, tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(Path(stand_ins.__file__).parent)!r})
import stand_ins
from pathlib import Path
stand_ins.channel_bundle(Path({str(tmp_path)!r}))
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONHASHSEED": "7"})
    again = (tmp_path / "model.onnx").read_bytes()
    assert hashlib.sha256(again).hexdigest() == hashlib.sha256(channel_bundle.read_bytes()).hexdigest()


class UsesComplexFourier(nnx.Module):
    """What jax2onnx cannot lower: the toolchain's known gap."""

    def __call__(self, rss_db) -> Fix:
        spectrum = jnp.fft.fft(jax.lax.complex(rss_db, rss_db))
        return Fix(jnp.real(spectrum)[:, :2], jnp.abs(spectrum)[:, :2])


def test_what_onnx_cannot_express_is_refused(set_samples):
    inputs = describe_inputs(["rss_db"], set_samples, dynamic_receivers=False)
    with pytest.raises(ExportError, match=r"export: got .*opset 23"):
        build_graph(UsesComplexFourier(), inputs=inputs, domain=DOMAIN)


def test_a_graph_that_onnx_finds_wrong_is_refused(set_samples, tmp_path, monkeypatch):
    import heimdall_jax.export.onnx as export_onnx

    wrong = Tensor("sigma_m", "int64", ("B", 2), ("batch", "?"), "m", "A dtype that the graph does not have.")
    monkeypatch.setattr(export_onnx, "SIGMA_M", wrong)
    inputs = describe_inputs(["receiver_m"], set_samples, dynamic_receivers=False)
    with pytest.raises(ExportError, match="Inferred elem type differs"):
        to_onnx(Passes(), tmp_path / "model.onnx", inputs=inputs, domain=DOMAIN)


def test_an_input_nobody_described_is_refused(set_samples):
    with pytest.raises(ExportError, match="model input: got colour"):
        describe_inputs(["colour"], set_samples, dynamic_receivers=True)
    with pytest.raises(ExportError, match="model input: got mel_spectrogram"):
        describe_inputs(["mel_spectrogram"], set_samples, dynamic_receivers=True)
