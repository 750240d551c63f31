"""A fix in words, for a person; the same facts as its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def in_words(fix: Mapping[str, Any]) -> str:
    """Several lines: the place, how sure it is, who had a part in it, and what to know before trusting it.

    Args:
        fix: As `locating.locate_by_recordings` or `locating_model.locate_by_model` gives it.
    """
    latitude, longitude = fix["latitude"], fix["longitude"]
    north, east = "N" if latitude >= 0 else "S", "E" if longitude >= 0 else "W"
    windows = fix["windows"]
    lines = [
        f"place        {abs(latitude):.5f} {north}  {abs(longitude):.5f} {east}",
        f"error        68 % within {_km(fix['radius_68_m'])}",
        *(f"ellipse {share} % {_ellipse(fix[f'ellipse_{share}'])}" for share in (68, 95)),
        f"receivers    {', '.join(fix['receivers_used'])}",
        *(f"refused      {entry['name']}: {entry['reason']}" for entry in fix["receivers_refused"]),
        f"windows      {windows['used']} of {windows['in_common']} used, {windows['length_s']:g} s each",
        f"method       {fix['method']}{_allowance(fix)}",
        *(f"note         {note}" for note in fix["notes"]),
    ]
    return "\n".join(lines)


def _allowance(fix: Mapping[str, Any]) -> str:
    """What the method adds to every receiver's clock; a model has learned it."""
    return f", {fix['sigma_us']:g} us for propagation and receiver delay" if "sigma_us" in fix else ""


def _ellipse(ellipse: Mapping[str, float]) -> str:
    axes = f"{_km(ellipse['semi_major_m'])} by {_km(ellipse['semi_minor_m'])}"
    return f"half-axes {axes}, the longer one at {ellipse['azimuth_deg']:.0f} degrees from north"


def _km(metres: float) -> str:
    return f"{metres / 1000:.1f} km" if metres >= 10_000 else f"{metres:.0f} m"
