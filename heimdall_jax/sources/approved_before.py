"""What a folder's set of approved sessions holds already, before it is brought up to date."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from heimdall_jax.errors import ConfigError, DataError, explain
from heimdall_jax.sources.approved_records import Kept
from heimdall_jax.sources.prepared import held_sets
from heimdall_jax.sources.sides import Rule

NAME = "approved_sessions"
CURE = "Choose another folder, or remove what is there."


@dataclass(frozen=True)
class Before:
    """The set in `folder`: what decided its sides, and by session its record and the hash of its content."""

    folder: Path
    rule: Rule
    held: Mapping[str, tuple[Kept, str]]


def read_before(root: Path, spec: str, validation_fraction: float) -> Before | None:
    """The set in a folder, if there is one and it is of this split.

    Raises:
        ConfigError: The folder holds another kind of set, or one that was split otherwise.
        DataError: The set is damaged.
    """
    found = held_sets(root)
    for folder in found:
        if folder.parent.relative_to(root).parts != (NAME, spec):
            got = str(folder.relative_to(root))
            raise ConfigError(explain(f"{root}", got=got, allowed=f"nothing, or {NAME}/{spec}", cure=CURE))
    if not found:
        return None
    import tensorflow_datasets as tfds
    from google.protobuf.json_format import ParseError

    try:
        about = tfds.builder_from_directory(found[0]).info.metadata or {}
        held = {
            row[0]: (Kept(side, record), content)
            for side, rows in about["transmissions"].items()
            for record, (row, content) in enumerate(zip(rows, about["contents"][side], strict=True))
        }
        rule = Rule(**{**about["rule"], "centre_deg": tuple(about["rule"]["centre_deg"])})
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ParseError) as error:
        raise DataError(explain(f"prepared set {found[0]}", got=error, allowed="a whole set", cure=CURE)) from error
    if rule.validation_fraction != validation_fraction:
        allowed = f"{rule.validation_fraction}, with which {root} was begun"
        raise ConfigError(explain("data.validation_fraction", got=validation_fraction, allowed=allowed, cure=CURE))
    return Before(found[0], rule, held)
