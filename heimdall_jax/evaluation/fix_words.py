"""An answer in words, for a person; the same facts as its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heimdall_jax.evaluation.table import spoken_m

UNKNOWN = "I don't know where it is:"


def in_words(answer: Mapping[str, Any]) -> str:
    """Several lines: the place, how sure it is, who had a part in it, and what to know before trusting it.

    Args:
        answer: As `locate.found.Found.to_tree` gives it.
    """
    windows, guess = answer["windows"], answer.get("best_guess")
    if answer["located"]:
        lines = [f"place        {_place(answer)}", *_region(answer)]
    else:
        lines = [UNKNOWN, *(f"- {reason}" for reason in answer["reasons"])]
        lines += [f"best guess   {_place(guess)}", *_region(guess)] if guess else []
    length = "" if windows["length_s"] is None else f", {windows['length_s']:g} s each"
    lines += [
        f"receivers    {', '.join(answer['receivers_used']) or 'none'}",
        *_refused(answer),
        f"windows      {windows['used']} of {windows['in_common']} used{length}",
        f"method       {answer['method']}{_allowance(answer)}",
        *_help(answer["helps"], "the place" if answer["located"] or guess else "the receivers' middle"),
        *(f"note         {note}" for note in answer["notes"]),
    ]
    return "\n".join(lines)


def place_in_words(latitude: float, longitude: float, digits: int = 5) -> str:
    """Such as `49.20000 N  4.40000 E`."""
    north, east = "N" if latitude >= 0 else "S", "E" if longitude >= 0 else "W"
    return f"{abs(latitude):.{digits}f} {north}  {abs(longitude):.{digits}f} {east}"


def _place(fix: Mapping[str, Any]) -> str:
    return place_in_words(fix["latitude"], fix["longitude"])


def _region(fix: Mapping[str, Any]) -> list[str]:
    ellipses = [f"ellipse {share} % {_ellipse(fix[f'ellipse_{share}'])}" for share in (68, 95)]
    return [f"error        68 % within {spoken_m(fix['radius_68_m'])}", *ellipses]


def _refused(answer: Mapping[str, Any]) -> list[str]:
    """Receivers that had no part; those that are among the reasons are told there."""
    told = [f"{entry['name']}: {entry['reason']}" for entry in answer["receivers_refused"]]
    return [f"refused      {one}" for one in told if not any(one in reason for reason in answer["reasons"])]


def _help(helps: Mapping[str, Any] | None, start: str) -> list[str]:
    """Which receiver would help most."""
    if helps is None:
        return []
    there, station = helps["place"], helps["station"]
    then = f"68 % within {spoken_m(there['radius_68_m'])} instead of {spoken_m(helps['radius_68_now_m'])}, at best"
    way = f"{spoken_m(there['distance_m'])} from {start} at {there['bearing_deg']:.0f} degrees"
    where = place_in_words(there["latitude"], there["longitude"], 2)
    lines = [f"would help   a receiver {way} ({where}): {then}"]
    if station is not None:
        lines.append(
            f"would help   {station['name']}, of the known stations: {spoken_m(station['radius_68_m'])}, at best"
        )
    return lines


def _allowance(answer: Mapping[str, Any]) -> str:
    """What the method adds to every receiver's clock; a model has learned it."""
    return f", {answer['sigma_us']:g} us for propagation and receiver delay" if "sigma_us" in answer else ""


def _ellipse(ellipse: Mapping[str, float]) -> str:
    axes = f"{spoken_m(ellipse['semi_major_m'])} by {spoken_m(ellipse['semi_minor_m'])}"
    return f"half-axes {axes}, the longer one at {ellipse['azimuth_deg']:.0f} degrees from north"
