"""The same catalogue in PostgreSQL, on a server of our own."""

import uuid

import numpy as np
import pytest
from catalogues import STATIONS, add, execute, recordings

from heimdall_jax.errors import StorageError
from heimdall_jax.sources.catalogue import CatalogueSource, embedded
from heimdall_jax.sources.catalogue_sql import create_catalogue
from heimdall_jax.store import MemoryStore
from tests import servers


@pytest.fixture
def postgres():
    with servers.postgresql() as server:
        yield server.url


@pytest.mark.servers
def test_postgresql_is_the_same_code(postgres, tmp_path):
    store, catalogue = MemoryStore(), embedded(tmp_path)
    create_catalogue(catalogue[0])
    create_catalogue(postgres)
    create_catalogue(postgres)
    rows = [{"approval": "rejected"}, {}, {"recordings": recordings(2, STATIONS)}]
    for index, changes in enumerate(rows):
        add(postgres, store, index, **changes)
        add(*catalogue, index, **changes)
    served, local = CatalogueSource(postgres, store), CatalogueSource(*catalogue)
    assert served.skipped == local.skipped == {"session not approved": 1}
    assert served.receivers == local.receivers
    for a, b in zip(served.__getitems__([0, 1]), local.__getitems__([0, 1]), strict=True):
        assert uuid.UUID(a.session_id) != uuid.UUID(b.session_id)
        assert (a.start_time_s, a.truth_deg, a.truth_error_m) == (b.start_time_s, b.truth_deg, b.truth_error_m)
        for name in ("receiver_deg_RE", "present_R", "heard_R", "rss_db_R", "iq_RT"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    execute(postgres.replace("postgresql:", "postgresql+psycopg:"), "drop schema heimdall cascade")
    with pytest.raises(StorageError, match="does not exist"):
        CatalogueSource(postgres, store)
