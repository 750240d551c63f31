"""What a user can do wrong, over all scripts: one line that names what, got, allowed and cure, and nothing changes.

Beside this table: `tests/test_bad_input.py` (damaged data and runs), `tests/test_bad_recordings.py` (IQ).
"""

from __future__ import annotations

import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from heimdall_jax.run_lock import LOCK
from tests.command_line import CommandLine
from tests.scripts.mistake import Case
from tests.scripts.mistakes import CASES

HOUSE = re.compile(r"error: [^\n]+: got [^\n]+; allowed: [^\n]+\. [^\n]+\n")


class Refusing(http.server.BaseHTTPRequestHandler):
    """Answers as S3 does to a key that it does not know."""

    def do_GET(self) -> None:
        body = (
            b"<Error><Code>InvalidAccessKeyId</Code><Message>The key does not exist in our records.</Message></Error>"
        )
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def refusing() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def contents(here: Path) -> dict[str, str]:
    """Every file by its path, but the lock that a run leaves which could not begin; it can be begun again."""
    return {
        str(path.relative_to(here)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(here.rglob("*"))
        if path.is_file() and path.name != LOCK
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_user_s_mistake_is_one_line_with_the_cure_and_changes_nothing(
    case: Case, refusing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: CommandLine
) -> None:
    case.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))  # no credentials from there
    for name, value in {"HEIMDALL_PATIENCE_SECONDS": "0", **case.environment}.items():
        if value:
            monkeypatch.setenv(name, value.replace("REFUSING", refusing))
        else:
            monkeypatch.delenv(name, raising=False)
    before = contents(tmp_path)
    try:
        code, said = command_line.run(*case.command)
    except SystemExit as end:
        code, said = end.code, command_line.said()
    assert code == case.code, said
    assert HOUSE.fullmatch(said), said
    assert re.search(case.match, said), said
    assert "Traceback" not in said
    assert contents(tmp_path) == before


def test_the_table_is_long_enough_and_names_each_case_once():
    assert len({case.name for case in CASES}) == len(CASES) >= 30
    assert {case.command[0] for case in CASES} >= {
        "train",
        "evaluate",
        "prepare_data",
        "validate_export",
        "locate",
        "bench",
    }
