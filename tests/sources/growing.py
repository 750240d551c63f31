"""A catalogue that grows, for tests of sets that follow it, and what is equal to what."""

import dataclasses

import catalogues
import numpy as np

from heimdall_jax.sources.catalogue import embedded, open_catalogue
from heimdall_jax.sources.prepared import open_prepared
from heimdall_jax.types import Session


def grow(folder, index, **changes):
    url, store = embedded(folder)
    settings = {"recordings": catalogues.recordings(index, samples=700 if index > 5 else 600)}
    return catalogues.add(url, store, index, **{**settings, **changes})


def assert_same(a, b):
    for field in dataclasses.fields(Session):
        one, two = getattr(a, field.name), getattr(b, field.name)
        if isinstance(one, np.ndarray):
            assert (one.dtype, one.shape, one.tobytes()) == (two.dtype, two.shape, two.tobytes()), field.name
        else:
            assert one == two, field.name


def assert_holds(out, folder):
    """The set in `out` is the catalogue, to the bit."""
    source, held = open_catalogue(folder), open_prepared(out)
    assert (held.receivers, held.origin_deg) == (source.receivers, source.origin_deg)
    assert [row.session_id for row in held.transmissions] == [row.session_id for row in source.transmissions]
    for number, (row, session) in enumerate(zip(held.transmissions, source, strict=True)):
        assert (row.start_time_s, row.truth_deg) == (session.start_time_s, session.truth_deg)
        assert_same(held[number], session)


def files(folder):
    """What is in a folder: names, and contents of all but the file that tells its folder's name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "dataset_info.json"
    }


def sides(out):
    return {row.session_id: row.side for row in open_prepared(out).transmissions}
