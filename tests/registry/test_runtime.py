"""Serving against JAX's own answers, and its refusal of every wrong input."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pymap3d
import pytest
import stand_ins
from flax import nnx

from heimdall_jax.errors import DataError, ExportError
from heimdall_jax.registry.inputs import receiver_inputs
from heimdall_jax.registry.runtime import Runtime
from heimdall_jax.types import Session


@pytest.fixture(scope="module")
def set_runtime(set_folder) -> Runtime:
    return Runtime.load(set_folder, threads=1)


@pytest.fixture(scope="module")
def channel_runtime(channel_folder) -> Runtime:
    return Runtime.load(channel_folder / "model.onnx", threads=1)


def test_fixes_are_jaxs(set_runtime):
    samples = stand_ins.set_samples()
    fixes = set_runtime.locate(samples)
    model = stand_ins.SetNet(rngs=nnx.Rngs(0))
    model.eval()
    fix = model(**samples)
    np.testing.assert_allclose(fixes.position_m, fix.position_m, rtol=1e-5, atol=0.01)
    covariance = np.einsum("bij,bkj->bik", fix.scale_m, fix.scale_m)
    np.testing.assert_allclose(fixes.covariance_m2, covariance, rtol=1e-4, atol=1.0)
    for (east, north), (lat, lon) in zip(fixes.position_m, fixes.position_deg, strict=True):
        e, n, _ = pymap3d.geodetic2enu(lat, lon, 0, *stand_ins.DOMAIN.origin_deg, 0)
        np.testing.assert_allclose((e, n), (east, north), rtol=0, atol=1e-4)


def test_sigma_becomes_a_covariance_and_heard_is_optional(channel_runtime):
    samples = stand_ins.channel_samples()
    fixes = channel_runtime.locate({"mel_spectrogram": samples["mel_spectrogram"]})
    model = stand_ins.ChannelNet(rngs=nnx.Rngs(0))
    model.eval()
    fix = model(samples["mel_spectrogram"])
    np.testing.assert_allclose(np.einsum("bii->bi", fixes.covariance_m2), fix.scale_m**2, rtol=1e-4)
    assert (fixes.covariance_m2[:, 0, 1] == 0).all()
    masked = channel_runtime.locate(samples)
    fix = model(samples["mel_spectrogram"], samples["heard"])
    np.testing.assert_allclose(masked.position_m, fix.position_m, rtol=1e-5, atol=0.01)


def test_float_masks_do_as_well_and_threads_agree(set_runtime):
    samples = stand_ins.set_samples()
    expected = set_runtime.locate(samples).position_m
    floats = samples | {name: samples[name].astype(np.float32) for name in ("heard", "present")}
    with ThreadPoolExecutor(4) as pool:
        for fixes in pool.map(set_runtime.locate, [floats] * 8):
            np.testing.assert_array_equal(fixes.position_m, expected)


def changed(**changes):
    return stand_ins.set_samples() | changes


SAMPLES = stand_ins.set_samples()
LOUD_NAN = np.where(SAMPLES["heard"], np.float32(np.nan), SAMPLES["rss_db"])


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({**SAMPLES, "rss_dbm": SAMPLES["rss_db"]}, "model input: got rss_dbm.*Did you mean 'rss_db'"),
        ({**SAMPLES, "zzz": SAMPLES["rss_db"]}, "model input: got zzz.*Remove it"),
        ({k: v for k, v in SAMPLES.items() if k != "heard"}, "model inputs: got no heard"),
        (changed(rss_db=SAMPLES["rss_db"].astype(np.float64)), "rss_db: got float64; allowed: float32"),
        (changed(rss_db=SAMPLES["rss_db"].tolist()), "rss_db: got list"),
        (changed(identity=SAMPLES["identity"].astype(np.int64)), "identity: got int64"),
        (changed(heard=SAMPLES["heard"].astype(np.int32)), "heard: got int32; allowed: bool or float32"),
        (changed(heard=np.full((10, 6), 0.5, np.float32)), "heard: got values between"),
        (changed(rss_db=SAMPLES["rss_db"][:, :5]), r"shape of receiver_m: got \(10, 6, 2\); allowed: \(10, 5, 2\)"),
        (changed(receiver_m=SAMPLES["receiver_m"][..., :1]), "shape of receiver_m"),
        (changed(present=SAMPLES["present"][:3]), "shape of present"),
        (changed(rss_db=SAMPLES["rss_db"][0]), "shape of rss_db"),
        ({k: v[:0] for k, v in SAMPLES.items()}, r"shape of rss_db: got \(0, 6\)"),
        (changed(rss_db=LOUD_NAN), "rss_db: got NaN or infinity"),
        (changed(receiver_m=np.full((10, 6, 2), np.inf, np.float32)), "receiver_m: got NaN or infinity"),
        (changed(heard=np.ones((10, 6), bool), rss_db=np.zeros((10, 6), np.float32)), "heard: got a receiver that is"),
        (changed(identity=np.full((10, 6), 8, np.int32)), r"identity: got .*allowed: 0 \(new\) to 7"),
        (changed(identity=np.full((10, 6), -1, np.int32)), "identity: got"),
    ],
)
def test_wrong_inputs_are_refused(set_runtime, inputs, reason):
    with pytest.raises(DataError, match=reason):
        set_runtime.locate(inputs)


def test_a_spoilt_bundle_is_refused(set_folder, tmp_path):
    shutil.copytree(set_folder, tmp_path / "run")
    (tmp_path / "run" / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(ExportError, match="truncated"):
        Runtime.load(tmp_path / "run")


def test_a_graph_that_onnx_runtime_cannot_run_is_refused(set_folder, tmp_path):
    import hashlib
    import json

    import onnx

    proto = onnx.load(set_folder / "model.onnx")
    proto.graph.node[0].op_type = "NoSuchOperator"
    data = proto.SerializeToString()
    manifest = json.loads((set_folder / "manifest.json").read_text())
    manifest |= {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    (tmp_path / "model.onnx").write_bytes(data)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ExportError, match=r"ONNX Runtime: got .*NoSuchOperator"):
        Runtime.load(tmp_path)


def session(receivers: tuple[str, ...], heard: list[bool], present: list[bool]) -> Session:
    return Session(
        session_id="-".join(receivers),
        start_time_s=0.0,
        receivers=receivers,
        receiver_deg_RE=np.where(np.array(present, bool)[:, None], np.array([[45.0, 7.7]]), 0.0),
        present_R=np.array(present, bool),
        heard_R=np.array(heard, bool),
        rss_db_R=np.where(np.array(heard, bool), -60.0, -101.0).astype(np.float32),
    )


def test_sessions_become_inputs(set_runtime):
    sessions = [
        session(("c", "stranger", "a"), [True, True, False], [True, True, False]),
        session(("b",), [True], [True]),
    ]
    batch = receiver_inputs(sessions, set_runtime.manifest)
    np.testing.assert_array_equal(batch["identity"], [[3, 0, 1], [2, 0, 0]])
    np.testing.assert_array_equal(batch["heard"], [[True, True, False], [True, False, False]])
    np.testing.assert_array_equal(batch["present"], batch["heard"])
    np.testing.assert_array_equal(batch["rss_db"], [[-60, -60, 0], [-60, 0, 0]])
    east, north, _ = pymap3d.geodetic2enu(45.0, 7.7, 0, *stand_ins.DOMAIN.origin_deg, 0)
    np.testing.assert_allclose(batch["receiver_m"][0, 0], (east, north), rtol=1e-6)
    assert (batch["receiver_m"][0, 2] == 0).all()
    together = set_runtime.locate(batch)
    alone = set_runtime.locate(receiver_inputs(sessions[1:], set_runtime.manifest))
    np.testing.assert_allclose(together.position_m[1], alone.position_m[0], rtol=1e-5, atol=0.01)


def test_no_sessions_are_refused(set_runtime):
    with pytest.raises(DataError, match="sessions: got 0 without a receiver"):
        receiver_inputs([], set_runtime.manifest)
    with pytest.raises(DataError, match="sessions: got 1 without a receiver"):
        receiver_inputs([session((), [], [])], set_runtime.manifest)


def test_locating_imports_no_jax(set_folder, tmp_path):
    np.savez(tmp_path / "inputs.npz", **stand_ins.set_samples())
    code = f"""
import sys
from pathlib import Path
import numpy as np
from heimdall_jax.registry.inputs import receiver_inputs
from heimdall_jax.registry.runtime import Runtime
runtime = Runtime.load(Path({str(set_folder)!r}))
fixes = runtime.locate(dict(np.load({str(tmp_path / "inputs.npz")!r})))
assert fixes.position_deg.shape == (10, 2)
print(sorted({{"jax", "flax", "jaxlib", "jax2onnx", "mlflow", "orbax"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""
