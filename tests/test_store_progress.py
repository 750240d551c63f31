"""Large objects say how far they are on their way to S3 and back; small ones say nothing."""

import io

from rich.console import Console

from heimdall_jax import progress
from heimdall_jax.display import Display
from heimdall_jax.store import open_store
from heimdall_jax.store_s3 import LARGE, PART, to_send


def test_large_transfers_are_told_from_their_start_to_their_end(s3_url):
    store, told = open_store(s3_url), []
    data = bytes(LARGE + PART + 7)
    with Display(Console(quiet=True), listener=told.append):
        store.put("models/net/1/model.onnx", data)
        up = list(told)
        told.clear()
        assert store.get("models/net/1/model.onnx") == data
        down = list(told)
        told.clear()
        store.put("models/net/1/manifest.json", b"{}")
        assert store.get("models/net/1/manifest.json") == b"{}"
    assert told == []
    for way, words in ((up, "uploading model.onnx"), (down, "downloading model.onnx")):
        assert {each["work"] for each in way} == {words}
        assert {each["total"] for each in way} == {len(data)}
        assert way[-1]["step"] == len(data)
    assert down[0]["step"] == 0


def test_an_upload_that_is_begun_anew_is_told_anew():
    out = io.StringIO()
    with Display(Console(file=out)):
        body = to_send("a/model.onnx", bytes(LARGE))
        assert isinstance(body, io.BytesIO)
        assert len(body.read()) == LARGE  # signed
        body.seek(0)
        assert b"".join(iter(lambda: body.read(PART // 2), b"")) == bytes(LARGE)  # sent
        progress.tell("publishing")
    assert out.getvalue().endswith("publishing\n")
