"""`scripts/locate.py`: recordings in, the place out in words, JSON, GeoJSON and on a map."""

from __future__ import annotations

import json
import math
from typing import NamedTuple

from heimdall_jax.errors import ConfigError, StorageError, explain
from heimdall_jax.locate.arguments import LocateArguments

NOT_LOCATED = 3
"""Exit code where all went well and no place is claimed."""


class Answer(NamedTuple):
    """What is printed, and whether a place is claimed."""

    text: str
    located: bool


def locate(arguments: LocateArguments) -> Answer:
    """Do what the arguments ask for; files are written whole or not at all.

    Raises:
        HeimdallError: One of its children, with the cure.
    """
    from heimdall_jax.evaluation.fix_words import in_words
    from heimdall_jax.export.bundle import write_atomically
    from heimdall_jax.locate.find import find

    _check(arguments)
    found = find(arguments)
    if arguments.geojson is not None:
        from heimdall_jax.locate.geojson import to_geojson

        text = json.dumps(to_geojson(found), allow_nan=False, ensure_ascii=False)
        write_atomically(arguments.geojson, text.encode())
    if arguments.map is not None:
        from heimdall_jax.locate.picture import to_picture
        from heimdall_jax.pages.map_page import map_page

        write_atomically(arguments.map, map_page(to_picture(found), arguments.tiles).encode())
    tree = found.to_tree()
    text = json.dumps(tree, allow_nan=False, ensure_ascii=False) if arguments.json else in_words(tree)
    return Answer(text, found.located)


def _check(arguments: LocateArguments) -> None:
    """Raise for flags that cannot be meant, before anything is read."""
    if not arguments.recordings:
        cure = "Give one file for each receiver."
        raise ConfigError(explain("recordings", got="none", allowed="three or more", cure=cure))
    if arguments.stations is not None and not arguments.stations.is_dir():
        cure = "Check the path."
        raise StorageError(explain("--stations", got=arguments.stations, allowed="an existing folder", cure=cure))
    if not 0 < arguments.clock_us < math.inf:
        raise ConfigError(explain("--clock-us", got=arguments.clock_us, allowed="above 0", cure="Give microseconds."))
    if arguments.frequency_hz is not None and not 1 <= arguments.frequency_hz <= 1e12:
        got, cure = arguments.frequency_hz, "Give hertz."
        raise ConfigError(explain("--frequency-hz", got=got, allowed="1 to 1e12", cure=cure))
    if arguments.tiles is not None and arguments.map is None:
        raise ConfigError(explain("--tiles", got="no --map", allowed="with --map FILE.html", cure="Give both."))
    for name, path in (("--geojson", arguments.geojson), ("--map", arguments.map)):
        if path is not None and path.is_dir():
            raise ConfigError(explain(name, got=f"the folder {path}", allowed="a file", cure="Name a file in it."))
