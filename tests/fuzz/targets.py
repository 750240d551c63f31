"""Every reader of what comes from outside, one table."""

from __future__ import annotations

from tests.fuzz import catalogues, models, recordings, runs, sigmf_files, tables
from tests.fuzz.harness import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for room in (recordings, sigmf_files, tables, models, catalogues, runs)
    for target in room.TARGETS
}
