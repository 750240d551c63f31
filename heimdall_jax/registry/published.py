"""How published models lie in an object store, for those who publish and those who fetch.

`{name}/{version}/` holds `model.onnx`, accepted smaller files, the run's `metrics.json`, `config.yaml` and
`model_card.md` where there are, `SHA256SUMS` over all of them (`sha256sum -c` reads it) and `manifest.json`. A version
without a manifest does not exist. `{name}/latest` names the version that was published last.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from heimdall_jax.errors import ConfigError, ExportError, explain
from heimdall_jax.outside import parse_json
from heimdall_jax.store import MissingObjectError, ObjectStore

MAX_NOTE_BYTES = 1 << 20
"""Of `latest` and of `SHA256SUMS`."""
MODEL, SUMS, LATEST = "model.onnx", "SHA256SUMS", "latest"
SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
AGAIN = "Publish it again (validate_export.py RUN --publish STORE), or choose another version."


@dataclass(frozen=True)
class Latest:
    """What `{name}/latest` says.

    Attributes:
        version: That was published last.
        manifest_sha256: Of its `manifest.json`.
        earlier: Versions that `latest` named before, the last one last; publishing one of them again moves nothing.
    """

    version: str
    manifest_sha256: str
    earlier: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """As the object holds it."""
        return json.dumps(asdict(self), indent=2).encode()


def checked_segment(what: str, text: str) -> str:
    """A model's name or version, if it can be one part of a key in every store.

    Raises:
        ConfigError: It holds other characters than letters, digits, dots, dashes and underscores, or means `latest`.
    """
    if not SEGMENT.fullmatch(text) or text == LATEST:
        allowed = f"1 to 100 of A-Z a-z 0-9 . _ -, a letter or digit first, not '{LATEST}'"
        raise ConfigError(explain(what, got=repr(text), allowed=allowed, cure="Choose another."))
    return text


def sha256(data: bytes) -> str:
    """Hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def to_sums(digests: Mapping[str, str]) -> bytes:
    """`SHA256SUMS` of files by name."""
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode()


def parse_sums(data: bytes, where: str) -> dict[str, str]:
    """Digests by file name.

    Raises:
        ExportError: It is no list of SHA-256 sums.
    """
    lines = data.decode("utf-8", "replace").splitlines()
    found = [re.fullmatch(r"([0-9a-f]{64})  (\S+)", line) for line in lines]
    if not data.endswith(b"\n") or None in found:
        what, got = f"{where}/{SUMS}", f"{len(data)} bytes that are none"
        raise ExportError(explain(what, got=got, allowed="SHA-256 sums, a file each line", cure=AGAIN))
    return {match[2]: match[1] for match in found if match}


def read_latest(store: ObjectStore, name: str) -> Latest | None:
    """What `{name}/latest` says; None if nothing was published.

    Raises:
        ExportError: It is damaged.
        StorageError: The store cannot be read.
    """
    try:
        data = store.get(f"{name}/{LATEST}", MAX_NOTE_BYTES + 1)
    except MissingObjectError:
        return None
    try:
        tree = parse_json(data, most_bytes=MAX_NOTE_BYTES)
        version, digest, *earlier = map(str, (tree["version"], tree["manifest_sha256"], *tree["earlier"]))
        return Latest(checked_segment("latest version", version), digest, tuple(earlier))
    except (ValueError, KeyError, TypeError) as error:
        got = f"{len(data)} bytes that cannot be read"
        raise ExportError(explain(f"{name}/{LATEST}", got=got, allowed="JSON with a version", cure=AGAIN)) from error
