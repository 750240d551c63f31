"""The figure of error against clock: a picture, or a clear error."""

from pathlib import Path

import pytest

from heimdall_jax.errors import StorageError
from heimdall_jax.evaluation.figures import SERIES, error_against_clock


def rows() -> list[dict]:
    return [
        {
            "clock_sigma_s": clock,
            "echoes": echoes,
            "bound_p68_m": 20.0,
            "error_m": {name: {"p68": 30.0} for name in SERIES},
        }
        for clock, echoes in ((1e-6, 0), (50e-9, 0), (50e-9, 2))
    ]


def test_a_png_is_written_with_its_folder(tmp_path: Path):
    path = tmp_path / "figures" / "clocks.png"
    error_against_clock(rows(), path)
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_folder_that_is_a_file_is_told(tmp_path: Path):
    (tmp_path / "figures").write_text("")
    with pytest.raises(StorageError, match=r"clocks\.png"):
        error_against_clock(rows(), tmp_path / "figures" / "clocks.png")
