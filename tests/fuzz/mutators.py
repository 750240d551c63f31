"""How inputs are spoilt: bytes, texts, JSON, RIFF chunks, NumPy headers, protocol buffers; all by a given chance."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from random import Random
from typing import Any

Mutator = Callable[[bytes, Random], bytes]

LONGEST = 1 << 16
"""Bytes of an input: what only larger ones do is tested apart."""
INTEGERS = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    16,
    127,
    128,
    255,
    256,
    32767,
    32768,
    65535,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63,
    2**64 - 1,
)
WORDS = (
    *("", " ", "0", "-0", "-1", "1e999", "-1e999", "NaN", "nan", "inf", "-Infinity", "1e-400", "9" * 400, "9" * 5000),
    *("90.0001", "-180.5", "0x10", "1_000", "\u0663", "1e308", "true", "null", "None", "[]", "{}", "''", '"', "'", ","),
    *("\0", "\x1b[2J", "\r\n", "\n", "\ufeff", "\u2028", "\u202e", "\ud800", "a" * 3000, "[" * 3000, "(" * 3000),
    *("../../etc/passwd", "/etc/passwd", "..", ".", "a/../b", "\\\\host\\a", "C:\\a", "file:///etc/passwd", "s3://a/b"),
    *("'; drop table measurements; --", "%s%n", "{0}", "${HOME}", "$(id)", "<!ENTITY a 'b'>", "&a [*a, *a]", "*a"),
    *("!!python/object/apply:os.system [id]", "!!int ''", "!!bool x", "!!timestamp x", "!!binary x", "<<: {a: b}"),
    *("2022-13-45 99:99:99", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2022-04-25T12:00:00+99:99", "10**9"),
    *("__import__('os')", "1+1j", "b'x'", "f(1)", "latest", "model.onnx", "manifest.json", "é" * 300),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf"), float("-inf")),
    *(2**31, 2**63, 2**64, -(2**63) - 1, 10**25, "", "a", "1", "nan", [], {}, [[]], [None], {"": None}, [0, 0]),
    *([1.0, 2.0, 3.0], [90.1, 180.1], ["a", "a"], {"a": {"b": 1}}, [1] * 300, "a" * 3000, "\0", "../../x", "é\u202e"),
)


def spoil_bytes(data: bytes, rng: Random) -> bytes:
    """One change of a few bytes, blind to what they mean."""
    blob, at = bytearray(data), rng.randrange(len(data) + 1)
    length = min(int(rng.expovariate(1 / 12)) + 1, max(len(data) - at, 1))
    kind = rng.randrange(9)
    if kind == 0:
        return data[:at]
    if kind == 1 and data:
        blob[at % len(data)] ^= 1 << rng.randrange(8)
    elif kind == 2 and data:
        blob[at % len(data)] = rng.choice((0, 1, 10, 34, 44, 47, 127, 128, 192, 255))
    elif kind == 3:
        blob[at : at + length] = b""
    elif kind == 4:
        blob[at:at] = blob[at : at + length] * rng.choice((1, 2, 40))
    elif kind == 5:
        blob[at:at] = rng.randbytes(length)
    elif kind == 6:
        order, code = rng.choice("<>"), rng.choice("BHIQ")
        size = struct.calcsize(code)
        blob[at : at + size] = struct.pack(order + code, rng.choice(INTEGERS) % 256**size)
    elif kind == 7:
        source = rng.randrange(len(data) + 1)
        blob[at : at + length] = data[source : source + length]
    else:
        blob += data[: rng.randrange(len(data) + 1)]
    return bytes(blob[:LONGEST])


def spoil_text(data: bytes, rng: Random) -> bytes:
    """A number, word, separator or line changed, dropped, repeated or moved; now and then bytes."""
    if rng.random() < 0.2:
        return spoil_bytes(data, rng)
    text = data.decode("utf-8", "surrogateescape")
    kind = rng.randrange(4)
    if kind == 0:
        lines = text.split("\n")
        line, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        lines[line : line + rng.randrange(2)] = [lines[other]] * rng.choice((0, 1, 3))
        text = "\n".join(lines)
    else:
        pattern = (r"-?\d+(\.\d+)?([eE][+-]?\d+)?", r"[^\W\d][\w.-]*", r"[^\w\s]")[kind - 1]
        found = list(re.finditer(pattern, text))
        start, end = rng.choice(found).span() if found else (0, 0)
        text = text[:start] + (rng.choice(WORDS) if rng.random() < 0.9 else text[start:end] * 2) + text[end:]
    return text.encode("utf-8", "surrogatepass" if "\ud800" in text else "surrogateescape")[:LONGEST]


def spoil_json(data: bytes, rng: Random) -> bytes:
    """A value, key or branch of the tree changed, dropped, repeated or nested; now and then the text."""
    if rng.random() < 0.25:
        return spoil_text(data, rng)
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return spoil_text(data, rng)
    places = list(_places([tree]))
    parent, key = rng.choice(places)
    kind = rng.randrange(6)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent[rng.choice((*WORDS[:60], str(key) + "x"))] = parent.pop(key)
    elif kind == 2:
        other_parent, other_key = rng.choice(places)
        if other_key in other_parent if isinstance(other_parent, dict) else other_key < len(other_parent):
            parent[key] = json.loads(json.dumps(other_parent[other_key]))
    elif kind == 3:
        for _ in range(rng.choice((1, 5, 70, 400))):
            parent[key] = [parent[key]]
    else:
        parent[key] = rng.choice(VALUES) if rng.random() < 0.7 else rng.choice(WORDS)
    try:
        return json.dumps(
            tree[0] if isinstance(tree, list) and len(tree) == 1 and rng.random() < 0.05 else tree
        ).encode()
    except RecursionError:
        return data


def _places(tree: Any) -> Any:
    """Every value in a tree, as its container and its key there."""
    todo = [tree]
    while todo:
        node = todo.pop()
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield node, key
            if isinstance(value, (dict, list)):
                todo.append(value)


def spoil_riff(data: bytes, rng: Random) -> bytes:
    """Chunks lost, repeated, moved, renamed or of another size than they say; mostly with a header that fits."""
    if rng.random() < 0.3 or data[:4] != b"RIFF":
        return spoil_bytes(data, rng)
    chunks, at = [], 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        chunks.append([name, size, data[at + 8 : at + 8 + size]])
        at += 8 + size + size % 2
    if not chunks:
        return spoil_bytes(data, rng)
    kind, here = rng.randrange(6), rng.randrange(len(chunks))
    if kind == 0:
        del chunks[here]
    elif kind == 1:
        chunks.insert(rng.randrange(len(chunks) + 1), list(chunks[here]))
    elif kind == 2:
        chunks[here][0] = rng.choice((b"fmt ", b"data", b"kiwi", b"LIST", b"\0\0\0\0", b"RIFF"))
    elif kind == 3:
        chunks[here][1] = rng.choice(INTEGERS) % 2**32
    else:
        chunks[here][2] = spoil_bytes(chunks[here][2], rng)[:4096]
        chunks[here][1] = len(chunks[here][2])
    body = b"".join(struct.pack("<4sI", name, size) + part + b"\0" * (len(part) % 2) for name, size, part in chunks)
    size = len(body) + 4 if rng.random() < 0.9 else rng.choice(INTEGERS)
    return b"RIFF" + struct.pack("<I", size % 2**32) + b"WAVE" + body[:LONGEST]


NPY_WORDS = (
    *("'<c8'", "'>c8'", "'|O'", "'<f4'", "'<c16'", "'<U9999999'", "'V2147483647'", "(4,)", "(2, 2)", "()", "(0,)"),
    *("(9999999999999,)", "(-4,)", "(True,)", "(4.0,)", "True", "None", "[('a', '<c8')]", "'<M8[ns]'", "'', ()"),
)
"""What a header may say."""


def spoil_npy(data: bytes, rng: Random) -> bytes:
    """Another version, dtype, shape or order in the header, whose length then fits; or bytes."""
    end = data.find(b"\n") + 1
    if rng.random() < 0.4 or data[:6] != b"\x93NUMPY" or end < 12:
        return spoil_bytes(data, rng)
    header = data[10:end].decode("latin-1")
    found = list(re.finditer(r"'[^']*'|\([^)]*\)|True|False|[{}:,]", header))
    start, stop = rng.choice(found).span() if found else (0, 0)
    header = header[:start] + rng.choice(NPY_WORDS + WORDS[:14]) + header[stop:]
    version = rng.choice(((1, 0), (1, 0), (2, 0), (3, 0), (9, 9)))
    code = "<H" if version == (1, 0) else "<I"
    raw = header.encode("utf-8", "replace")
    size = len(raw) if rng.random() < 0.9 else rng.choice(INTEGERS)
    return b"\x93NUMPY" + bytes(version) + struct.pack(code, size % 256 ** struct.calcsize(code)) + raw + data[end:]


def spoil_message(message: Any, rng: Random) -> None:
    """A field of a protobuf message, or of one in it, set to something else, cleared, repeated or dropped."""
    for _ in range(rng.randrange(12)):  # how deep it goes
        below = [item for _, item in _messages(message)]
        if not below:
            break
        message = rng.choice(below)
    fields = list(message.DESCRIPTOR.fields)
    field = rng.choice([one for one, _ in message.ListFields()] or fields) if rng.random() < 0.7 else rng.choice(fields)
    if field.message_type is not None:
        items = getattr(message, field.name)
        if not hasattr(items, "add") or not len(items):
            message.ClearField(field.name)
        elif rng.random() < 0.5:
            del items[rng.randrange(len(items))]
        else:
            items.add().CopyFrom(rng.choice(list(items)))
        return
    value = _scalar(field, rng)
    try:
        if hasattr(getattr(message, field.name), "append"):
            kept = list(getattr(message, field.name))
            at = rng.randrange(len(kept) + 1)
            kept[at : at + rng.randrange(2)] = [value]
            message.ClearField(field.name)
            getattr(message, field.name).extend(kept)
        else:
            setattr(message, field.name, value)
    except (ValueError, TypeError):
        message.ClearField(field.name)


def _messages(message: Any) -> Any:
    for field, value in message.ListFields():
        if field.message_type is not None:
            yield from ((field, item) for item in (value if hasattr(value, "add") else [value]))


def _scalar(field: Any, rng: Random) -> Any:
    if field.cpp_type == field.CPPTYPE_STRING:
        word = rng.choice(WORDS).replace("\ud800", "")
        return word.encode() if field.type == field.TYPE_BYTES else word
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return rng.choice((0.0, -1.0, 1e38, float("nan"), float("inf")))
    return rng.choice((*INTEGERS[:-2], -1, -(2**31)))
