"""SigMF recordings: `x.sigmf-meta` with `x.sigmf-data`, both in a tar `x.sigmf`, or listed in `x.sigmf-collection`.

Metadata is checked against the schemas of the package `sigmf`; sizes, names and numbers are checked before they are
used. Nothing is unpacked to disk. Specification: SigMF 1.2.

The extension `heimdall`, version 1.0.0, is optional in every file. Of a recording, in `global`:

    heimdall:station        string    name of the receiver; recordings of one receiver share it
    heimdall:clock_sigma_s  number    one standard deviation of `core:datetime`, seconds, 0 to 1e6

Of a collection, whose streams are one transmission as several receivers recorded it:

    heimdall:transmitter    GeoJSON   where the transmitter is: a point, longitude before latitude, degrees (WGS84)
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

from heimdall_jax.errors import DataError, explain
from heimdall_jax.outside import read_file
from heimdall_jax.sources.sigmf_decode import (
    MAX_META_BYTES,
    SigmfRecording,
    check_schema,
    decode,
    parse_metadata,
    parse_tree,
    plain_name,
)

MAX_BYTES = 1 << 28
"""Of the samples as they are written."""
MAX_MEMBERS = 64
"""Of an archive: a recording needs two, and folders."""
MAX_STREAMS = 64
"""Of a collection."""
MAX_COLLECTION_SAMPLES = 1 << 27
"""Of all streams: 1 GiB in memory."""
META, DATA, ARCHIVE, COLLECTION = ".sigmf-meta", ".sigmf-data", ".sigmf", ".sigmf-collection"


def read_sigmf(path: str | Path) -> SigmfRecording:
    """The recording at a `.sigmf-meta`, `.sigmf-data` or `.sigmf` file.

    Raises:
        StorageError: A file cannot be read.
        DataError: It is no SigMF, its metadata breaks the schema, sizes or the hash disagree, it holds no complex
            samples of one channel, or more than `MAX_SAMPLES`.
    """
    path = Path(path)
    if path.suffix == ARCHIVE:
        return decode_archive(read_file(path, MAX_BYTES + 2 * MAX_META_BYTES), str(path))
    if path.suffix not in (META, DATA):
        cure = "Give the recording's metadata, or an archive."
        raise DataError(explain(str(path), got=path.suffix or "no suffix", allowed=f"{META} or {ARCHIVE}", cure=cure))
    return _decode_pair(path, read_file(path.with_suffix(META), MAX_META_BYTES))


def _decode_pair(path: Path, meta: bytes) -> SigmfRecording:
    """The recording of which a file's metadata was read."""
    tree = parse_metadata(meta, str(path))
    name = tree["global"].get("core:dataset", path.with_suffix(DATA).name)
    data = path.with_name(plain_name(name, f"{path}, core:dataset"))
    return decode(tree, read_file(data, MAX_BYTES), str(path))


def read_collection(path: str | Path) -> list[SigmfRecording]:
    """The recordings that a `.sigmf-collection` lists, in its order; they lie in its folder.

    Raises:
        StorageError: A file cannot be read.
        DataError: It is no collection, lists none or more than `MAX_STREAMS`, a recording's metadata is not that of
            its hash, all samples are more than `MAX_COLLECTION_SAMPLES`, or see `read_sigmf`.
    """
    path = Path(path)
    if path.suffix != COLLECTION:
        got, cure = path.suffix or "no suffix", "Give the collection's file."
        raise DataError(explain(str(path), got=got, allowed=COLLECTION, cure=cure))
    recordings: list[SigmfRecording] = []
    left = MAX_COLLECTION_SAMPLES
    for name, digest in _streams(parse_tree(read_file(path, MAX_META_BYTES), str(path)), str(path)):
        one = path.with_name(name + META)
        meta = read_file(one, MAX_META_BYTES)
        if hashlib.sha512(meta).hexdigest() != digest.lower():
            got, cure = f"{one.name} with another hash", "Fetch it again."
            raise DataError(explain(str(path), got=got, allowed="the metadata that was collected", cure=cure))
        recordings.append(_decode_pair(one, meta))
        left -= len(recordings[-1].iq_T)
        if left < 0:
            allowed, cure = f"{MAX_COLLECTION_SAMPLES} samples in all", "Give its recordings one by one."
            raise DataError(explain(str(path), got="more", allowed=allowed, cure=cure))
    return recordings


def _streams(tree: Any, where: str) -> list[tuple[str, str]]:
    """Base name and hash of each stream.

    The specification has had objects since 1.0; the schema that the package brings still has the pairs of before.
    """
    about = tree.get("collection") if isinstance(tree, dict) else None
    streams = about.get("core:streams") if isinstance(about, dict) else None
    if isinstance(about, dict) and isinstance(streams, list):
        pairs = [[one.get("name"), one.get("hash")] if isinstance(one, dict) else one for one in streams]
        tree = {**tree, "collection": {**about, "core:streams": pairs}}
    check_schema(tree, "schema-collection.json", where)
    pairs = tree["collection"].get("core:streams", [])
    names = [plain_name(pair[0] if pair else None, f"{where}, core:streams") for pair in pairs]
    whole = all(len(pair) == 2 for pair in pairs) and len(set(names)) == len(names)
    if not whole or not 1 <= len(names) <= MAX_STREAMS:
        got = f"{len(names)} streams{'' if whole else ', one without a hash or listed twice'}"
        allowed, cure = f"1 to {MAX_STREAMS}, each once and with its hash", "Write it with the sigmf package."
        raise DataError(explain(f"{where}, core:streams", got=got, allowed=allowed, cure=cure))
    return [(name, pair[1]) for name, pair in zip(names, pairs, strict=True)]


def decode_archive(data: bytes, where: str) -> SigmfRecording:
    """The one recording in an archive's bytes.

    Raises:
        DataError: See `read_sigmf`; or a member is a link or device, or its name leads out of the archive.
    """
    parts: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for number, member in enumerate(archive):
                _check_member(member, number, len(data), where)
                if member.isreg():
                    parts[member.name] = data[member.offset_data : member.offset_data + member.size]
    except DataError:
        raise
    except (tarfile.TarError, ValueError, EOFError, OSError, LookupError, RecursionError, OverflowError) as error:
        cure = "Write it with the sigmf package, uncompressed."
        raise DataError(explain(where, got=f"no tar archive ({error})", allowed="one", cure=cure)) from error
    metas = [name for name in parts if name.endswith(META)]
    if len(metas) != 1:
        cure = "Unpack it, and give one recording at a time."
        raise DataError(explain(where, got=f"{len(metas)} recordings", allowed="one", cure=cure))
    tree = parse_metadata(parts[metas[0]], where)
    named = metas[0].removesuffix(META) + DATA
    if "core:dataset" in tree["global"]:
        folder = metas[0].rpartition("/")
        named = f"{folder[0]}{folder[1]}{plain_name(tree['global']['core:dataset'], f'{where}, core:dataset')}"
    if named not in parts and not tree["global"].get("core:metadata_only"):
        raise DataError(explain(where, got=f"no {named}", allowed="metadata and its data", cure="Write it again."))
    return decode(tree, parts.get(named, b""), where)


def _check_member(member: tarfile.TarInfo, number: int, size: int, where: str) -> None:
    climbs = member.name.startswith("/") or ".." in member.name.split("/")
    strange = not (member.isreg() or member.isdir()) or member.issparse()
    if climbs or strange or number >= MAX_MEMBERS or member.offset_data + member.size > size or member.size < 0:
        what = "a link or device" if strange else f"{member.size} bytes" if not climbs else "a path that climbs"
        got = f"member {number + 1}, {member.name!r}: {what}"
        allowed = f"up to {MAX_MEMBERS} whole files and folders inside"
        raise DataError(explain(where, got=got, allowed=allowed, cure="Do not trust where it comes from."))
