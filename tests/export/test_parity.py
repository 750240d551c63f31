"""The comparison of ONNX Runtime with JAX: that it passes a good export, and sees each kind of difference."""

import numpy as np
import onnx
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from stand_ins import CHANNEL_NAMES, DOMAIN, SET_NAMES

from heimdall_jax.errors import ExportError
from heimdall_jax.export.parity import LIMITS, Report, Row, compare, keep_receivers, reference_predictor
from heimdall_jax.export.signature import describe_inputs

GOOD = Row(1, 7, ("rss_db",), 0.001, 1e-5, 1e-6, 1e-12)


def test_a_good_export_passes_at_every_batch_and_receiver_count(set_bundle, set_net, set_samples):
    inputs = describe_inputs(SET_NAMES, set_samples, dynamic_receivers=True)
    report = compare(set_net, set_bundle.read_bytes(), set_samples, inputs=inputs, domain=DOMAIN).check()
    assert {(row.batch, row.receivers) for row in report.rows} == {(b, r) for b in (1, 3, 32) for r in (3, 6)}
    assert max(row.position_m for row in report.rows) < 0.1
    assert report.to_tree()["limits"] == LIMITS


def test_fixed_receivers_are_masked_and_the_optional_mask_left_out(channel_bundle, channel_net, channel_samples):
    inputs = describe_inputs(CHANNEL_NAMES, channel_samples, dynamic_receivers=False)
    report = compare(channel_net, channel_bundle.read_bytes(), channel_samples, inputs=inputs, domain=DOMAIN).check()
    assert {(row.receivers, row.given) for row in report.rows} == {
        (2, CHANNEL_NAMES),
        (3, CHANNEL_NAMES),
        (4, CHANNEL_NAMES),
        (4, ("mel_spectrogram",)),
    }


def test_another_models_graph_fails(set_bundle, set_net, set_samples):
    proto = onnx.load(set_bundle)
    weight = max(proto.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.5), weight.name))
    inputs = describe_inputs(SET_NAMES, set_samples, dynamic_receivers=True)
    report = compare(set_net, proto.SerializeToString(), set_samples, inputs=inputs, domain=DOMAIN)
    with pytest.raises(ExportError, match=r"ONNX Runtime against JAX: got .* at batch 1, 3 receivers"):
        report.check()


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_each_limit_binds(name, factor):
    Report((GOOD,)).check()
    bad = Row(**{**GOOD.__dict__, name: LIMITS[name] * factor})
    with pytest.raises(ExportError, match=f"{name} of ONNX Runtime against JAX"):
        Report((GOOD, bad)).check()


def test_reference_is_the_model_in_evaluation_mode(channel_net, channel_samples):
    quiet = nnx.clone(channel_net)
    quiet.eval()
    fix = quiet(channel_samples["mel_spectrogram"], channel_samples["heard"])
    position_m, factor_m = reference_predictor(channel_net)(channel_samples)
    np.testing.assert_allclose(position_m, fix.position_m, rtol=1e-5, atol=0.01)
    np.testing.assert_allclose(np.einsum("bii->bi", factor_m), fix.scale_m, rtol=1e-5)
    assert (factor_m[:, 0, 1] == 0).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=9), st.data())
def test_keeping_receivers_prefers_those_that_heard(heard, data):
    count = data.draw(st.integers(1, len(heard)))
    samples = {"heard": np.array([heard]), "rss_db": np.arange(len(heard), dtype=np.float32)[None]}
    dropped = keep_receivers(samples, count, drop=True)
    assert dropped["heard"].shape == (1, count)
    assert dropped["heard"].sum() == min(count, sum(heard))
    assert (np.diff(dropped["rss_db"]) > 0).all()
    np.testing.assert_array_equal(samples["heard"][0, dropped["rss_db"][0].astype(int)], dropped["heard"][0])
    masked = keep_receivers(samples, count, drop=False)
    assert masked["heard"].sum() == min(count, sum(heard))
    assert not (masked["heard"] & ~samples["heard"]).any()
