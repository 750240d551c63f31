"""SigMF as targets: metadata beside its data, data beside its metadata, archives and collections."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from heimdall_jax.sources.sigmf import decode_archive, read_collection, read_sigmf
from tests.fuzz.harness import Reader, Target
from tests.fuzz.mutators import spoil_bytes, spoil_json, spoil_text

ABOUT = {"core:datatype": "ci16_le", "core:version": "1.2.6", "core:sample_rate": 12000.5}
POINT = {"type": "Point", "coordinates": [7.69, 45.07, 250.0]}
FIRST = {"core:sample_start": 0, "core:datetime": "2026-03-01T12:00:00.123456789Z", "core:frequency": 145e6}
IQ_T2 = np.arange(40, dtype="<i2").reshape(-1, 2)


def metadata(about: Any = (), captures: Any = None) -> bytes:
    """Metadata of `IQ_T2`, with other global values or captures where given."""
    captures = [FIRST | {"core:geolocation": POINT}] if captures is None else captures
    return json.dumps({"global": ABOUT | dict(about), "captures": captures, "annotations": []}).encode()


def archive(members: dict[str, bytes], *strange: tarfile.TarInfo) -> bytes:
    """A tar of files and of members without contents."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in strange:
            tar.addfile(member)
    return stream.getvalue()


def collection(streams: list[Any]) -> dict[str, Any]:
    """What a collection's file holds."""
    return {"collection": {"core:version": "1.2.6", "core:streams": streams}}


def open_collection(folder: Path) -> Reader:
    for name in "ab":
        (folder / f"{name}.sigmf-meta").write_bytes(metadata())
        (folder / f"{name}.sigmf-data").write_bytes(IQ_T2.tobytes())

    def read(data: bytes) -> object:
        (folder / "all.sigmf-collection").write_bytes(data)
        return read_collection(folder / "all.sigmf-collection")

    return read


def open_pair(suffix: str):
    def opened(folder: Path) -> Reader:
        (folder / "a.sigmf-meta").write_bytes(metadata())
        (folder / "a.sigmf-data").write_bytes(IQ_T2.tobytes())

        def read(data: bytes) -> object:
            (folder / f"a{suffix}").write_bytes(data)
            return read_sigmf(folder / f"a{suffix}")

        return read

    return opened


def spoil_tar(data: bytes, rng: Random) -> bytes:
    """A header's field with the sum that fits, a member's content, or bytes."""
    at = 512 * rng.randrange(max(len(data) // 512, 1))
    header = data[at : at + 512]
    if rng.random() < 0.3 or len(header) < 512 or header[257:262] != b"ustar":
        return (spoil_bytes if rng.random() < 0.5 else spoil_text)(data, rng)
    start, end = rng.choice(((0, 100), (124, 136), (156, 157), (157, 257), (345, 500)))
    value = rng.choice(
        (b"../a", b"/etc/passwd", b"7777777777", b"\x80" + b"\xff" * 11, b"1", b"2", b"5", b"S", b"x", b"")
    )
    header = header[:start] + value[: end - start].ljust(end - start, b"\0") + header[end:]
    total = sum(header[:148]) + 8 * 32 + sum(header[156:])
    header = header[:148] + f"{total:06o}\0 ".encode() + header[156:]
    return data[:at] + header + data[at + 512 :]


def meta_seeds() -> list[bytes]:
    both = [FIRST, FIRST | {"core:sample_start": 10, "core:header_bytes": 0}]
    odd = metadata({"core:trailing_bytes": 4}, [FIRST | {"core:header_bytes": 4}])
    ours = metadata({"heimdall:station": "hill", "heimdall:clock_sigma_s": 1e-6})
    return [metadata(), metadata({"core:datatype": "cu8"}), metadata((), both), metadata((), []), odd, ours]


def archive_seeds() -> list[bytes]:
    return [archive({"a/a.sigmf-meta": metadata(), "a/a.sigmf-data": IQ_T2.tobytes()})]


def collection_seeds() -> list[bytes]:
    digest = hashlib.sha512(metadata()).hexdigest()
    objects = [{"name": name, "hash": digest} for name in "ab"]
    pairs = [["b", digest], ["a", digest.upper()]]
    return [json.dumps(collection(streams)).encode() for streams in (objects, pairs, objects[:1])]


TARGETS = (
    Target("sigmf_meta", meta_seeds, open_pair(".sigmf-meta"), spoil_json, 100_000, 500),
    Target("sigmf_data", lambda: [IQ_T2.tobytes()], open_pair(".sigmf-data"), spoil_bytes, 20_000, 200),
    Target(
        "sigmf_archive",
        archive_seeds,
        lambda folder: lambda data: decode_archive(data, "a.sigmf"),
        spoil_tar,
        100_000,
        500,
    ),
    Target("sigmf_collection", collection_seeds, open_collection, spoil_json, 100_000, 500),
)
