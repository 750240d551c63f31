"""Nested dicts, as YAML and JSON give them, to a tree of dataclasses: unknown keys and wrong types are errors."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import reprlib
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from heimdall_jax.errors import ConfigError, explain

Built = TypeVar("Built")

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2
"""Values in messages: a YAML file of a few hundred bytes can stand for one of gigabytes."""


def build(kind: type[Built], tree: Any, where: str = "") -> Built:
    """An instance of the dataclass `kind`; missing keys keep their defaults.

    Args:
        kind: Fields are plain types, their unions with None, literals, or dataclasses again.
        tree: Nested dicts.
        where: Dotted path of `tree`, for messages.

    Raises:
        ConfigError: A key is unknown (the nearest is suggested) or a value has the wrong type.
    """
    if not isinstance(tree, dict):
        got = _SHORT.repr(tree)
        raise ConfigError(
            explain(f"config {where or 'root'}", got=got, allowed="a mapping", cure="Nest keys under it.")
        )
    hints = get_type_hints(kind)
    values = {}
    for key, value in tree.items():
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, 1)
            cure = f"Did you mean {where}{near[0]}?" if near else "Remove it."
            raise ConfigError(explain("config key", got=f"{where}{key}", allowed=", ".join(hints), cure=cure))
        hint = hints[key]
        nested = isinstance(hint, type) and dataclasses.is_dataclass(hint)
        values[key] = build(hint, value, f"{where}{key}.") if nested else _checked(value, hint, f"{where}{key}")
    return kind(**values)


def _checked(value: Any, hint: Any, where: str) -> Any:
    """`value` if it is of the hinted type; an int, or a number as text, serves as a float, a list as a tuple."""
    if get_origin(hint) is tuple:  # of any length, as all in the tree are
        if not isinstance(value, (list, tuple)):
            got, cure = _SHORT.repr(value), "Write it in brackets."
            raise ConfigError(explain(f"config {where}", got=got, allowed="a list", cure=cure))
        return tuple(_checked(item, get_args(hint)[0], f"{where}[{i}]") for i, item in enumerate(value))
    if get_origin(hint) is Literal:
        good = value in get_args(hint)
    else:
        kinds = get_args(hint) or (hint,)
        if float in kinds and isinstance(value, (int, str)) and not isinstance(value, bool):
            with contextlib.suppress(ValueError, OverflowError):  # YAML 1.1 reads 1e-3, without a dot, as text
                value = float(value)
        good = isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds)
        good = good and not (isinstance(value, float) and not math.isfinite(value))
    if not good:
        got, allowed = _SHORT.repr(value), get_args(hint) or hint.__name__
        raise ConfigError(explain(f"config {where}", got=got, allowed=allowed, cure="Correct the value."))
    return value
