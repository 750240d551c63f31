"""The figure of error against clock."""

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


def test_it_is_a_png_and_echoes_are_left_out():
    picture = error_against_clock(rows())
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert error_against_clock([row for row in rows() if not row["echoes"]]) == picture
    assert error_against_clock(rows()[:1]) != picture
