"""The same catalogue in PostgreSQL, on a server of our own."""

import pwd
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from catalogues import STATIONS, add, execute, recordings

from heimdall_jax.errors import StorageError
from heimdall_jax.sources.catalogue import CatalogueSource, embedded
from heimdall_jax.sources.catalogue_sql import create_catalogue
from heimdall_jax.store import MemoryStore


@pytest.fixture
def postgres():
    """A PostgreSQL server of our own on a free port; it refuses to run as root, so it runs as its own user."""
    pytest.importorskip("psycopg")
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    base = Path(tempfile.mkdtemp(prefix="heimdall-pg-"))
    user = pwd.getpwnam("postgres")
    shutil.chown(base, user.pw_uid, user.pw_gid)
    owner = {"user": "postgres", "group": "postgres", "extra_groups": [], "cwd": "/"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    initdb = [binaries[-1] / "initdb", "-D", base / "data", "-U", "hj", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(initdb, check=True, **owner, **quiet)
    command = [binaries[-1] / "postgres", "-D", base / "data", "-p", str(port), "-k", base]
    server = subprocess.Popen([*command, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"], **owner, **quiet)
    for _ in range(100):
        if subprocess.run([binaries[-1] / "pg_isready", "-h", "127.0.0.1", "-p", str(port)], **quiet).returncode == 0:
            break
        time.sleep(0.1)
    yield f"postgresql://hj@127.0.0.1:{port}/postgres"
    server.terminate()
    server.wait()
    shutil.rmtree(base)


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
