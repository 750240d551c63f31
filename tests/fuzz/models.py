"""Exported models as targets: manifests, graphs, sums, what `latest` says, and whole published versions."""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from pathlib import Path
from random import Random

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from heimdall_jax.config import Config
from heimdall_jax.errors import ConfigError, StorageError
from heimdall_jax.export.bundle import MANIFEST, verify_bundle, write_bundle
from heimdall_jax.export.manifest import parse_manifest
from heimdall_jax.export.model_card import CARD, check_card
from heimdall_jax.export.session import open_session
from heimdall_jax.export.signature import COVARIANCE_M2, INPUTS, POSITION_DEG, POSITION_M
from heimdall_jax.registry.fetch import fetch_bundle
from heimdall_jax.registry.publish import publish
from heimdall_jax.registry.published import parse_sums, read_latest
from heimdall_jax.store import FolderStore, MemoryStore
from heimdall_jax.types import Domain
from tests.fuzz.harness import Reader, Target
from tests.fuzz.mutators import spoil_bytes, spoil_json, spoil_message, spoil_text

DOMAIN = Domain(origin_deg=(45.07, 7.69), receivers=("a", "b"))
OPSET = 23


def write_model(folder: Path) -> Path:
    """A bundle whose model gives the mean of the receivers' places."""
    inputs = [INPUTS[name] for name in ("receiver_m", "present")]
    axes = numpy_helper.from_array(np.array([1]), "axes")
    variance = numpy_helper.from_array(np.eye(2, dtype=np.float32)[None], "variance")
    nodes = [
        helper.make_node("ReduceMean", ["receiver_m", "axes"], ["position_m"], keepdims=0),
        helper.make_node("Cast", ["position_m"], ["position_deg"], to=TensorProto.DOUBLE),
        helper.make_node("ReduceMean", ["present", "axes"], ["share"], keepdims=1),
        helper.make_node("Unsqueeze", ["share", "axes"], ["shares"]),
        helper.make_node("Mul", ["shares", "variance"], ["covariance_m2"]),
    ]
    outputs = (POSITION_M, POSITION_DEG, COVARIANCE_M2)
    told = [
        [
            helper.make_tensor_value_info(it.name, helper.np_dtype_to_tensor_dtype(np.dtype(it.dtype)), it.shape)
            for it in tensors
        ]
        for tensors in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "mean", told[0], told[1], [axes, variance])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    helper.set_model_props(model, {k: json.dumps(getattr(DOMAIN, k)) for k in ("origin_deg", "receivers")})
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    options = {"opset": OPSET, "domain": DOMAIN, "config": Config(), "parity": {}}
    write_bundle(path, inputs=inputs, outputs=outputs, **options)
    return path


def bundle_file(name: str) -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        return [(Path(folder) / name).read_bytes()]


def open_manifest(folder: Path) -> Reader:
    model = write_model(folder).read_bytes()

    def read(data: bytes) -> object:
        manifest = parse_manifest(data)
        verify_bundle(Path("model.onnx"), model, data)
        return manifest.samples, manifest.sample_rate_hz, json.dumps(manifest.to_tree(), allow_nan=False)

    return read


def open_graph(folder: Path) -> Reader:
    """With a manifest whose hash fits, as one who alters a model alters both."""
    manifest = json.loads(write_model(folder).with_name(MANIFEST).read_bytes())

    def read(data: bytes) -> object:
        told = json.dumps(manifest | {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)})
        return open_session(verify_bundle(Path("model.onnx"), data, told.encode()).model, threads=1)

    return read


def spoil_graph(data: bytes, rng: Random) -> bytes:
    if rng.random() < 0.2:
        return spoil_bytes(data, rng)
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError:
        return spoil_bytes(data, rng)
    spoil_message(model, rng)
    return model.SerializeToString()


def sums_seeds() -> list[bytes]:
    return [b"".join(f"{letter * 64}  {name}\n".encode() for letter, name in (("a", "model.onnx"), ("b", MANIFEST)))]


def latest_seeds() -> list[bytes]:
    return [json.dumps({"version": "3", "manifest_sha256": "a" * 64, "earlier": ["1", "2"]}).encode()]


def open_latest(folder: Path) -> Reader:
    def read(data: bytes) -> object:
        store = MemoryStore()
        store.put("net/latest", data)
        return read_latest(store, "net")

    return read


def published_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        store = MemoryStore()
        publish(Path(folder), store, name="net", version="1")
        publish(Path(folder), store, name="net", version="2")
        objects = {key: base64.b64encode(store.get(key)).decode() for key in store.list()}
        return [json.dumps({"uri": uri, "objects": objects}).encode() for uri in ("net", "net/1", "net/latest")]


def spoil_published(data: bytes, rng: Random) -> bytes:
    """An object lost, moved, spoilt or given another key, or another address asked for."""
    tree = json.loads(data)
    objects = tree["objects"]
    if not objects or rng.random() < 0.1:
        asked = ("net/../net", "net/latest/", "net/1/model.onnx", "net//1", "..", "net/2/x.onnx", "%2e")
        tree["uri"] = rng.choice(asked)
        return json.dumps(tree).encode()
    key = rng.choice(sorted(objects))
    kind = rng.randrange(4)
    if kind == 0:
        del objects[key]
    elif kind == 1:
        objects[rng.choice(("net/1", "net/3/manifest.json", "net/latest", "net/2/SHA256SUMS"))] = objects[key]
    else:
        spoil = spoil_text if key.endswith(("SUMS", "latest", ".json")) else spoil_bytes
        objects[key] = base64.b64encode(spoil(base64.b64decode(objects[key]), rng)).decode()
    return json.dumps(tree).encode()


def open_published(folder: Path) -> Reader:
    def read(data: bytes) -> object:
        tree = json.loads(data)
        store = FolderStore(folder / hashlib.sha256(data).hexdigest()[:12])
        for key, content in tree["objects"].items():
            try:
                store.put(key, base64.b64decode(content))
            except StorageError:
                continue  # the server's affair
        return fetch_bundle(store.root / tree["uri"])

    return read


def open_key(folder: Path) -> Reader:
    store = FolderStore(folder / "store")
    store.put("net/1/a", b"here")
    (folder / "secret").write_bytes(b"not here")
    (folder / "store" / "out").symlink_to(folder)

    def read(data: bytes) -> object:
        found = store.get(data.decode("utf-8", "surrogateescape"))
        if found != b"here":
            raise AssertionError("read from outside of the store")
        return found

    return read


def open_card(folder: Path) -> Reader:
    def read(data: bytes) -> object:
        (folder / CARD).write_bytes(data)
        return check_card(folder, "a" * 64)

    return read


def open_uri(folder: Path) -> Reader:
    def read(data: bytes) -> object:
        text = data.decode("utf-8", "surrogateescape")
        if text.startswith(("s3://", "models:")):
            raise ConfigError("of a server")
        return fetch_bundle(text)

    return read


KEYS = [b"net/1/a"]
CARD_HEADER = f"---\nlicense: apache-2.0\nmodel_sha256: {'a' * 64}\n---\n\n# net\n".encode()
TARGETS = (
    Target("manifest", lambda: bundle_file(MANIFEST), open_manifest, spoil_json, 20_000, 300),
    Target("onnx", lambda: bundle_file("model.onnx"), open_graph, spoil_graph, 20_000, 300),
    Target("model_card", lambda: [CARD_HEADER], open_card, spoil_text, 20_000, 300),
    Target("sums", sums_seeds, lambda folder: lambda data: parse_sums(data, "net/1"), spoil_text, 20_000, 500),
    Target("latest", latest_seeds, open_latest, spoil_json, 20_000, 500),
    Target("published", published_seeds, open_published, spoil_published, 5_000, 100),
    Target("store_key", lambda: KEYS, open_key, spoil_text, 20_000, 500),
)
