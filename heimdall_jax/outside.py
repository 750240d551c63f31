"""What comes from outside: files, JSON, YAML and arrays within limits, so that none can exhaust a machine.

Whoever reads turns the `ValueError`s into its own error, with its cure.
"""

from __future__ import annotations

import io
import json
import math
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from heimdall_jax.errors import DataError, StorageError, explain

MAX_TEXT_BYTES = 64 << 20
"""Of a table or a JSON file; POWDER's largest has 8 MB."""
MAX_VALUES = 2_000_000
"""Values of a JSON file: 15,000 transmissions at 25 receivers. A value of two bytes can take 100 in memory."""
MAX_NESTING = 64
MAX_HEADER = 4096
"""Of an array."""
MAX_DIGITS = 30
"""Of an integer in JSON: the nanoseconds of Unix time have 19, and all of them fit a float."""
MAX_YAML_BYTES = 32 << 10
"""Of a config, which has 4 kB: YAML is slow to read."""

_HEADER = re.compile(
    rb"\{'descr': '([<>|=]?[a-zA-Z]\d{0,4})', 'fortran_order': (True|False), 'shape': \(([\d, ]*)\),? *\}\s*"
)

Pairs = list[tuple[str, Any]]


def read_file(path: Path, most_bytes: int, *, what: str = "", cure: str = "Check the file.") -> bytes:
    """All of a regular file: a pipe or a device could give bytes for ever, or none.

    Args:
        path: Of the file.
        most_bytes: It may have.
        what: It is called in messages; by default its path.
        cure: Of a file that is too large.

    Raises:
        StorageError: It cannot be read.
        DataError: It is no regular file, or larger than `most_bytes`.
    """
    what = what or str(path)
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            with path.open("rb") as file:
                # Memory is taken for as much as is asked for, before anything is read.
                data = file.read(min(status.st_size, most_bytes) + 1)
        elif stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(None, "Is a directory")
        else:
            raise DataError(explain(what, got="a pipe or device", allowed="a regular file", cure=cure))
    except DataError:
        raise
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        got = getattr(error, "strerror", None) or error
        raise StorageError(explain(what, got=got, allowed="a readable file", cure="Check the path.")) from error
    if len(data) > most_bytes:
        got = f"more than {most_bytes} bytes"
        raise DataError(explain(what, got=got, allowed=f"{most_bytes} or fewer", cure=cure))
    return data


def parse_json(
    data: bytes | str,
    *,
    most_bytes: int = MAX_TEXT_BYTES,
    most_values: int = MAX_VALUES,
    each_object: Callable[[Pairs], dict[str, Any]] | None = None,
) -> Any:
    """The tree that JSON stands for, NaN and infinities included.

    Args:
        data: UTF-8, with or without a byte-order mark.
        most_bytes: It may have.
        most_values: It may hold.
        each_object: Makes a mapping of an object's pairs; by default the last of equal keys counts.

    Raises:
        ValueError: No JSON, or more of it than is allowed; the message is one line.
    """
    if len(data) > most_bytes:
        raise ValueError(f"{len(data)} bytes of JSON, {most_bytes} are allowed")
    text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
    values = sum(map(text.count, ",[{"))
    if values > most_values:
        raise ValueError(f"{values} values in JSON, {most_values} are allowed")
    try:
        tree = json.loads(text, object_pairs_hook=each_object, parse_int=_integer)
    except RecursionError:
        raise ValueError(_DEEP) from None
    _check_nesting(tree)
    if "\\u" in text:
        json.dumps(tree, ensure_ascii=False).encode()  # half a character is none, and upsets who is given it
    return tree


def parse_npz(data: bytes, most_bytes: int) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` by name; none of them holds Python objects.

    Args:
        data: Of the file.
        most_bytes: The arrays may have, whatever the archive says of itself.

    Raises:
        ValueError: It is no such archive, a part is not as long as it says, or there is more than is allowed.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if (size := sum(entry.file_size for entry in entries)) > most_bytes:
                raise ValueError(f"{size} bytes of arrays, {most_bytes} are allowed")
            return {entry.filename.removesuffix(".npy"): _array(archive, entry) for entry in entries}
    except (
        OSError,
        EOFError,
        RuntimeError,
        TypeError,
        OverflowError,
        struct.error,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ValueError(f"no whole archive ({error})") from error


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(entry) as file:
        content = file.read(entry.file_size + 1)  # without a number it inflates all that is there
    offset, dtype, by_column, shape = parse_npy_header(content)
    held, wanted = len(content) - offset, math.prod(shape) * dtype.itemsize
    if dtype.hasobject or held != wanted:
        raise ValueError(f"{held} bytes of {dtype} for an array {shape}")
    flat = np.frombuffer(content, dtype, math.prod(shape), offset)
    return flat.reshape(shape, order="F" if by_column else "C").copy()


def parse_npy_header(start: bytes) -> tuple[int, np.dtype, bool, tuple[int, ...]]:
    """Bytes of a `.npy` header, and the dtype, order (whether by column) and shape that it names.

    NumPy reads any Python literal there, and several of them wrongly; this is what it writes of plain dtypes.

    Raises:
        ValueError: There is no such header at the start.
        TypeError: There is no such dtype.
    """
    if start[:6] != b"\x93NUMPY" or start[6:8] not in {b"\1\0", b"\2\0", b"\3\0"}:
        raise ValueError(f"a start of {start[:8]!r}")
    first = 10 if start[6] == 1 else 12
    end = first + int.from_bytes(start[8:first], "little")
    match = _HEADER.fullmatch(start[first : min(end, first + MAX_HEADER)])
    if match is None or end > len(start):
        raise ValueError(f"{start[first : first + 100]!r}")
    shape = tuple(int(size) for size in match[3].decode().split(",") if size.strip())
    return end, np.dtype(match[1].decode()), match[2] == b"True", shape


def parse_yaml(data: bytes) -> Any:
    """The tree that plain YAML stands for: no tags, which name kinds, and no aliases, by which lines become gigabytes.

    Raises:
        ValueError: It is no such YAML, or more of it than is allowed.
    """
    if len(data) > MAX_YAML_BYTES:
        raise ValueError(f"{len(data)} bytes of YAML, {MAX_YAML_BYTES} are allowed")
    try:
        text = data.decode("utf-8-sig")
        _check_plain(text)
        tree = yaml.load(text, _LOADER)
    except (yaml.YAMLError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    return tree


_DEEP = f"nested deeper than {MAX_NESTING}"


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""In C where it was built: 30 times as fast, and as safe once the nesting is known."""


def _check_plain(text: str) -> None:
    """Raise ValueError at a tag, an alias or deep nesting; nothing is built."""
    depth = 0
    for event in yaml.parse(text, _LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"an alias in line {line}")
        if getattr(event, "tag", None):
            raise ValueError(f"the tag {event.tag} in line {line}")
        if depth > MAX_NESTING:
            raise ValueError(_DEEP)


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits, {MAX_DIGITS} are allowed")
    return int(text)


def _check_nesting(tree: Any) -> None:
    """Whatever walks the tree later may call itself."""
    level = [tree]
    for _ in range(MAX_NESTING):
        parts = [part.values() if isinstance(part, dict) else part for part in level if isinstance(part, (dict, list))]
        level = [item for part in parts for item in part if isinstance(item, (dict, list))]
        if not level:
            return
    raise ValueError(_DEEP)
