"""Batches: shuffled per epoch, padded to one shape, augmented; the batch of any step can be had at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grain
import numpy as np

from heimdall_jax.config import AugmentationConfig
from heimdall_jax.training.dataset import HeimdallDataset
from heimdall_jax.training.radio_map import RadioMap
from heimdall_jax.types import Sample

PER_RECEIVER = {"rss_db", "receiver_m", "heard", "present", "identity", "mel_spectrogram", "snr_db", "snr_known"} | {
    *("receiver_up_m", "clock_sigma_s", "arrival_precision_per_s2", "tdoa_s", "timing_valid")
}
"""Keys of a batch whose second axis is receivers."""
PER_PAIR = {"tdoa_s", "timing_valid"}
"""Those whose third is, too."""

ENDLESS = 2**31
"""Session numbers there are."""
STRENGTH = "augmentation_strength"
"""Key of a batch on its way to `Augment`: 1 for augmentation as configured, 0 for none."""


@dataclass(frozen=True)
class Augment(grain.transforms.RandomMap):
    """Physical changes that leave the place as it was; training batches only.

    Where `rows` are given, it changes these of a batch of `batch_size` as it changes them in the whole batch: it draws
    for all of them, which is cheap, and keeps its own.
    """

    config: AugmentationConfig
    radio_map: RadioMap | None = None
    rows: np.ndarray | None = None
    batch_size: int = 0

    def random_map(self, element: Sample, rng: np.random.Generator) -> Sample:
        """Hide receivers, shift a transmission's power, add noise, place some transmitters anew (B, ...)."""
        batch = dict(element)
        strength = float(batch.pop(STRENGTH))
        batch["heard"] = batch["heard"] & self._kept(batch["heard"], strength, rng)
        offset = self._drawn(lambda shape: rng.normal(0, 1, shape), (len(batch["index"]), 1))
        noise = self._drawn(lambda shape: rng.normal(0, 1, shape), batch["rss_db"].shape)
        offset, noise = offset * self.config.power_offset_db, noise * self.config.noise_db
        change_db = (strength * (offset + noise)).astype(np.float32)
        batch["rss_db"] = batch["rss_db"] + change_db
        if self.radio_map is not None:
            chosen = rng.random(len(batch["index"])) < strength * self.config.simulated
            for key, drawn in self.radio_map.draw(batch, rng).items():
                where = chosen.reshape((-1,) + (1,) * (drawn.ndim - 1))
                batch[key] = np.where(where, drawn, batch[key])
        if "mel_spectrogram" in batch:
            batch["mel_spectrogram"] = batch["mel_spectrogram"] + change_db[:, :, None, None]
        return batch

    def _kept(self, heard: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
        """Random mask (B, R) that never hides all receivers of a transmission but one."""
        kept = self._drawn(rng.random, heard.shape) >= strength * self.config.receiver_dropout
        too_few = (kept & heard).sum(axis=1, keepdims=True) < 2
        return kept | too_few

    def _drawn(self, draw: Callable[[tuple[int, ...]], np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
        """Numbers of a batch's shape (B, ...), those of its rows of the whole batch."""
        return draw(shape) if self.rows is None else draw((self.batch_size, *shape[1:]))[self.rows]


def training_batches(
    dataset: HeimdallDataset,
    *,
    batch_size: int,
    augmentation: AugmentationConfig,
    seed: int,
    total_steps: int | None = None,
    radio_map: RadioMap | None = None,
    close_ranks: bool = False,
    fresh: Callable[[np.ndarray], Sample] | None = None,
    rows: np.ndarray | None = None,
) -> grain.MapDataset:
    """Endless batches by step: `batches[step]`. Every sample counts once an epoch; padding has weight 0.

    With `fresh`, which makes the samples of session numbers (B,), no sample ever comes twice: step s takes the
    `batch_size` numbers that follow those of the data set and of the steps before it.
    With `close_ranks` receivers that were present move to the front, and rows that no sample needs are left out: for
    networks that take receivers in any order, which are then faster and say the same.
    With `rows`, of each batch only these, in their order: one process's share. They are taken before samples are read
    or made; where a radio map draws some, which reads powers only, after it drew for the whole batch.
    Where `total_steps` is given, augmentation fades from `augmentation.fade_from` of them on, to none at the last.
    """

    def strength(step: int) -> float:
        left = 1.0 if total_steps is None else 1.0 - step / total_steps
        return float(np.clip(left / max(1.0 - augmentation.fade_from, 1e-9), 0.0, 1.0))

    receivers, share = most_present(dataset), None if radio_map is not None else rows
    if fresh is None:
        samples = (
            grain.MapDataset.range(len(dataset))
            .seed(seed)
            .shuffle()
            .batch(batch_size, drop_remainder=False)
            .map(lambda indices: _padded(dataset, np.asarray(indices), batch_size, share))
            .repeat()
        )
    else:
        first = len(dataset)
        numbers = grain.MapDataset.range(first, ENDLESS).seed(seed).batch(batch_size, drop_remainder=True)
        samples = numbers.map(lambda batch: fresh(_taken(np.asarray(batch), share)))
    batches = samples.map_with_index(lambda step, batch: batch | {STRENGTH: strength(step)})
    batches = batches.random_map(Augment(augmentation, radio_map, share, batch_size))
    if share is None and rows is not None:
        batches = batches.map(lambda batch: {key: value[rows] for key, value in batch.items()})
    return batches.map(lambda batch: closed_ranks(batch, receivers)) if close_ranks else batches


def iterate(batches: grain.MapDataset, start: int, prefetch: int) -> Iterator[Sample]:
    """Batches from step `start` on, read ahead by threads."""
    options = grain.ReadOptions(num_threads=2 if prefetch else 0, prefetch_buffer_size=max(prefetch, 1))
    iterator: Any = iter(batches.to_iter_dataset(options))
    iterator.set_state({"next_index": start})
    return iterator


def evaluation_batches(
    dataset: HeimdallDataset, batch_size: int, *, close_ranks: bool = False, rows: np.ndarray | None = None
) -> Iterator[Sample]:
    """Every sample once, in order; the last batch is padded with weight 0. `close_ranks`, `rows` as in training."""
    receivers = most_present(dataset)
    for start in range(0, len(dataset), batch_size):
        batch = _padded(dataset, np.arange(start, min(start + batch_size, len(dataset))), batch_size, rows)
        yield closed_ranks(batch, receivers) if close_ranks else batch


def most_present(dataset: HeimdallDataset) -> int:
    """The largest number of receivers present in any sample; at least 1."""
    return max(1, int(dataset.columns()["present"].sum(axis=1).max()))


def closed_ranks(batch: Sample, rows: int) -> Sample:
    """The batch (B, R, ...) with present receivers first, in their order, cut to `rows` receivers."""
    order_BR = np.argsort(~batch["present"], axis=1, kind="stable")[:, :rows]
    closed = dict(batch)
    for key in PER_RECEIVER & batch.keys():
        values = batch[key]
        values = np.take_along_axis(values, order_BR.reshape(order_BR.shape + (1,) * (values.ndim - 2)), axis=1)
        closed[key] = np.take_along_axis(values, order_BR[:, None], axis=2) if key in PER_PAIR else values
    return closed


def _padded(dataset: HeimdallDataset, indices: np.ndarray, batch_size: int, rows: np.ndarray | None = None) -> Sample:
    """Samples at `indices`, repeated from the first up to `batch_size`; the repeats have weight 0 and index -1.

    Only `rows` of them, where given.
    """
    missing = batch_size - len(indices)
    batch = dataset.gather(_taken(np.concatenate([indices, np.repeat(indices[:1], missing)]), rows))
    if missing:
        padding = _taken(np.arange(batch_size) >= len(indices), rows)
        for key, fill in (("weight", 0.0), ("index", -1)):
            batch[key] = batch[key].copy()
            batch[key][padding] = fill
    return batch


def _taken(values: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    return values if rows is None else values[rows]
