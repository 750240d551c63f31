"""Notes on receivers that a data set's own readings put in doubt."""

import csv

from powder_like import NAMES, write_powder_like

from heimdall_jax.config import from_tree
from heimdall_jax.datasets import load_data
from heimdall_jax.doubts import with_doubts


def notes(folder, cache) -> list[str]:
    tree = {"data": {"source": "powder", "path": str(folder), "split": "time"}, "model": {"name": "receiver_set"}}
    return [note for note in with_doubts(load_data(from_tree(tree), cache=cache)).notes if NAMES[0] in note]


def test_a_receiver_that_repeats_its_reading_is_told_and_sound_ones_are_not(tmp_path):
    folder = write_powder_like(tmp_path / "powder")
    assert notes(folder, tmp_path / "cache") == []
    with (folder / "single_tx.csv").open(newline="") as file:
        table = list(csv.reader(file))
    for row in table[20:60]:
        row[1] = "-60.0000"
    with (folder / "single_tx.csv").open("w", newline="") as file:
        csv.writer(file).writerows(table)
    (note,) = notes(folder, tmp_path / "other")
    assert note.startswith(f"{NAMES[0]} is frozen: it reads -60.0 dB ")
