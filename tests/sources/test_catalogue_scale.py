"""Ten thousand sessions in PostgreSQL: all are found, and listing them takes little memory."""

import datetime as dt
import subprocess
import sys
import uuid

import numpy as np
import pytest
import sqlalchemy as sa
from catalogues import START

from heimdall_jax.sources.catalogue import CatalogueSource
from heimdall_jax.sources.catalogue_sql import create_catalogue
from heimdall_jax.sources.catalogue_tables import MEASUREMENTS, SESSIONS, SOURCES, STATIONS
from heimdall_jax.store import MemoryStore
from tests import servers

SESSION_COUNT, HEARD = 10_000, 7
REJECTED = 1000
LISTING = """
import re, sys, time
from pathlib import Path
from heimdall_jax.sources.catalogue import open_catalogue
import psycopg
def kibibytes(name):
    return int(re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
before = kibibytes("VmRSS")
began, cpu = time.monotonic(), time.process_time()
source = open_catalogue(sys.argv[1], store="memory://", iq=sys.argv[2] == "iq")
took, cpu = time.monotonic() - began, time.process_time() - cpu
print(len(source), (kibibytes("VmHWM") - before) / 1024, took, cpu)
"""


def fill(url):
    """The rows as the platform would have them, every tenth session rejected; nothing of it is in a store."""
    create_catalogue(url)
    rng = np.random.default_rng(0)
    stations = [
        {"id": uuid.uuid4(), "name": f"station {i}", "latitude": 45.0 + 0.1 * i, "longitude": 7.0 + 0.1 * i}
        for i in range(HEARD)
    ]
    sources, sessions, measurements = [], [], []
    for index in range(SESSION_COUNT):
        source, task, start = uuid.uuid4(), str(uuid.uuid4()), START + dt.timedelta(seconds=10 * index)
        latitude, longitude = rng.uniform(45, 46), rng.uniform(7, 8)
        place = {"latitude": latitude, "longitude": longitude}
        sources.append({"id": source, "name": "s", "frequency_hz": 145_000_000} | place)
        state = {"status": "completed", "approval_status": "rejected" if index % 10 == 0 else "approved"}
        when = {"session_start": start, "session_end": start + dt.timedelta(seconds=5)}
        named = {"session_name": f"{index}", "celery_task_id": task, "known_source_id": source}
        sessions.append({"id": uuid.uuid4()} | state | when | named)
        for number, station in enumerate(stations):
            key = f"s3://heimdall-raw-iq/sessions/{task}/websdr_{number}.npy"
            powers = {"signal_strength_db": -60.0, "snr_db": 10.0, "frequency_hz": 145_000_000}
            iq = {"iq_data_location": key, "iq_sample_rate": 12_000, "iq_samples_count": 12_000}
            measurements.append({"timestamp": start, "websdr_station_id": station["id"]} | powers | iq)
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=sa.NullPool)
    with engine.begin() as connection:
        for table, rows in ((STATIONS, stations), (SOURCES, sources), (SESSIONS, sessions)):
            connection.execute(table.insert(), rows)
        connection.execute(MEASUREMENTS.insert(), measurements)


@pytest.mark.long
@pytest.mark.servers
def test_ten_thousand_sessions_are_listed_in_little_memory():
    with servers.postgresql() as server:
        fill(server.url)
        for kind in ("powers", "iq"):
            command = [sys.executable, "-c", LISTING, server.url, kind]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            count, mebibytes, _, _ = map(float, done.stdout.split())
            print(kind, done.stdout)
            assert count == SESSION_COUNT - REJECTED
            assert mebibytes < 300
        source = CatalogueSource(server.url, MemoryStore(), iq=False)
        assert source.skipped == {"session not approved": REJECTED}
        assert all(m is not None for row in source.transmissions for m in row.measurements)
        tasks = [{m.key.split("/")[1] for m in row.measurements} for row in source.transmissions]
        assert all(len(task) == 1 for task in tasks)
        assert len(set.union(*tasks)) == len(source)
