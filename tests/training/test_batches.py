"""Every sample counts once an epoch, epochs differ, any step's batch can be had at once, augmentation is physical."""

import numpy as np
import pytest

from heimdall_jax.config import AugmentationConfig, RadioMapConfig
from heimdall_jax.training.batches import PER_RECEIVER, closed_ranks, evaluation_batches, iterate, training_batches
from heimdall_jax.training.dataset import HeimdallDataset
from heimdall_jax.training.radio_map import fit_radio_map

NONE = AugmentationConfig()


def counted(batch: dict[str, np.ndarray]) -> list[int]:
    np.testing.assert_array_equal(batch["weight"], batch["index"] >= 0)
    return [int(i) for i in batch["index"] if i >= 0]


def test_an_epoch_counts_every_sample_once(dataset: HeimdallDataset) -> None:
    batches = training_batches(dataset, batch_size=16, augmentation=NONE, seed=0)
    epochs = [[i for step in range(4 * e, 4 * e + 4) for i in counted(batches[step])] for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(50))
    assert epochs[0] != epochs[1] != epochs[2]
    assert all(len(batches[step]["weight"]) == 16 for step in range(8))


def test_iteration_from_a_step_equals_random_access(dataset: HeimdallDataset) -> None:
    augmentation = AugmentationConfig(receiver_dropout=0.3, noise_db=2.0, power_offset_db=3.0)
    batches = training_batches(dataset, batch_size=16, augmentation=augmentation, seed=5)
    resumed = iterate(batches, 3, prefetch=4)
    for step in range(3, 9):
        batch = next(resumed)
        for key, value in batches[step].items():
            np.testing.assert_array_equal(batch[key], value)
    other = training_batches(dataset, batch_size=16, augmentation=augmentation, seed=6)
    assert not np.array_equal(other[0]["index"], batches[0]["index"])


def test_evaluation_sees_every_sample_in_order_unchanged(dataset: HeimdallDataset) -> None:
    batches = list(evaluation_batches(dataset, 16))
    assert [i for batch in batches for i in counted(batch)] == list(range(50))
    kept = np.concatenate([batch["rss_db"][batch["index"] >= 0] for batch in batches])
    np.testing.assert_array_equal(kept, dataset.columns()["rss_db"])


def test_offset_is_common_to_a_transmission_and_noise_is_not(dataset: HeimdallDataset) -> None:
    def change(**settings: float) -> np.ndarray:
        augmentation = AugmentationConfig(**settings)  # pyright: ignore[reportArgumentType]
        batch = training_batches(dataset, batch_size=50, augmentation=augmentation, seed=0)[0]
        return batch["rss_db"] - dataset.columns()["rss_db"][batch["index"]]

    offset = change(power_offset_db=5.0)
    np.testing.assert_allclose(offset, np.broadcast_to(offset[:, :1], offset.shape), atol=1e-5)
    assert 3.0 < offset[:, 0].std() < 7.0
    noise = change(noise_db=2.0)
    assert 1.7 < noise.std() < 2.3
    assert noise.std(axis=1).min() > 0.1


def test_closed_ranks_hold_the_same_receivers_in_fewer_rows(dataset: HeimdallDataset) -> None:
    batch = training_batches(dataset, batch_size=16, augmentation=NONE, seed=0)[0]
    gone = {"present": batch["present"].copy(), "heard": batch["heard"].copy()}
    gone["present"][:, 1], gone["heard"][:, 1] = False, False
    closed = closed_ranks(batch | gone, 4)
    for key in PER_RECEIVER & batch.keys():
        np.testing.assert_array_equal(closed[key], (batch | gone)[key][:, [0, 2, 3, 4]])
    np.testing.assert_array_equal(closed["position_m"], batch["position_m"])
    whole = training_batches(dataset, batch_size=16, augmentation=NONE, seed=0, close_ranks=True)[0]
    np.testing.assert_array_equal(whole["rss_db"], batch["rss_db"])


def test_augmentation_fades_from_where_it_is_told(dataset: HeimdallDataset) -> None:
    augmentation = AugmentationConfig(noise_db=4.0, fade_from=0.5)
    batches = training_batches(dataset, batch_size=50, augmentation=augmentation, seed=0, total_steps=100)

    def spread(step: int) -> float:
        batch = batches[step]
        return float((batch["rss_db"] - dataset.columns()["rss_db"][batch["index"]]).std())

    assert [round(spread(step) / 4.0, 1) for step in (0, 49, 75, 100)] == [1.0, 1.0, 0.5, 0.0]


def test_dropout_hides_receivers_but_never_all_but_one(dataset: HeimdallDataset) -> None:
    augmentation = AugmentationConfig(receiver_dropout=0.3)
    batches = training_batches(dataset, batch_size=50, augmentation=augmentation, seed=0)
    heard = np.concatenate([batches[step]["heard"] for step in range(20)])
    assert heard.sum(axis=1).min() >= 2
    # Binomial(5, 0.7) keeps 0.7; where that is none (0.0024) or one (0.0284), all five are kept instead.
    expected = 0.7 - 0.0284 / 5 + 0.0024 + 0.0284
    assert abs(heard.mean() - expected) < 4 * np.sqrt(0.25 / heard.size)


def test_simulated_samples_replace_the_asked_share(dataset: HeimdallDataset) -> None:
    radio_map = fit_radio_map(dataset.columns(), RadioMapConfig())
    augmentation = AugmentationConfig(simulated=0.4)
    batches = training_batches(dataset, batch_size=50, augmentation=augmentation, seed=0, radio_map=radio_map)
    truth = dataset.columns()["position_m"]
    moved = np.concatenate(
        [(b["position_m"] != truth[b["index"]]).any(axis=1) for b in (batches[s] for s in range(40))]
    )
    assert abs(moved.mean() - 0.4) < 4 * np.sqrt(0.4 * 0.6 / moved.size)
    real = batches[0]["index"][~moved[:50]]
    np.testing.assert_array_equal(batches[0]["rss_db"][~moved[:50]], dataset.columns()["rss_db"][real])


@pytest.mark.parametrize("drawn", [False, True], ids=["recorded", "radio map"])
def test_a_share_of_rows_is_these_rows_of_the_whole_batch(dataset, drawn):
    given = {"batch_size": 16, "seed": 0, "total_steps": 20, "close_ranks": True}
    given["augmentation"] = AugmentationConfig(
        receiver_dropout=0.3, power_offset_db=3.0, noise_db=2.0, simulated=0.5, fade_from=0.5
    )
    given["radio_map"] = fit_radio_map(dataset.columns(), RadioMapConfig()) if drawn else None
    rows = np.array([4, 5, 6, 7, 12])
    whole, share = training_batches(dataset, **given), training_batches(dataset, rows=rows, **given)
    for step in (0, 3, 17):  # the third of them is padded
        assert whole[step].keys() == share[step].keys()
        for key, values in whole[step].items():
            np.testing.assert_array_equal(share[step][key], values[rows], err_msg=key)
    one, other = evaluation_batches(dataset, 16), evaluation_batches(dataset, 16, rows=rows)
    for whole_batch, its in zip(one, other, strict=True):
        np.testing.assert_array_equal(its["index"], whole_batch["index"][rows])
        np.testing.assert_array_equal(its["weight"], whole_batch["weight"][rows])


def test_fresh_samples_are_made_for_a_share_of_rows_only(dataset):
    made = []

    def fresh(numbers):
        made.append(list(numbers))
        return dataset.gather(numbers % len(dataset)) | {"index": np.asarray(numbers, np.int32)}

    given = {"batch_size": 16, "augmentation": AugmentationConfig(noise_db=2.0), "seed": 0, "fresh": fresh}
    share = training_batches(dataset, rows=np.array([3, 9]), **given)[1]
    assert made == [list(share["index"])] == [[50 + 16 + 3, 50 + 16 + 9]]
    np.testing.assert_array_equal(share["rss_db"], training_batches(dataset, **given)[1]["rss_db"][[3, 9]])
