"""What the no-radio control leaves and what it takes."""

import numpy as np

from heimdall_jax.evaluation.controls import no_radio


def test_only_heard_powers_change():
    samples = {
        "rss_db": np.array([[-80.0, -60.0], [0.0, -70.0]], np.float32),
        "heard": np.array([[True, True], [False, True]]),
        "receiver_m": np.ones((2, 2, 2), np.float32),
    }
    control = no_radio(samples, -70.0)
    assert control["rss_db"].tolist() == [[-70.0, -70.0], [0.0, -70.0]]
    assert control["rss_db"].dtype == np.float32
    assert samples["rss_db"][0, 0] == -80.0
    assert all(control[key] is samples[key] for key in ("heard", "receiver_m"))


def test_spectrograms_do_not_leak_the_powers():
    mel = np.arange(12, dtype=np.float32).reshape(1, 2, 3, 2)
    control = no_radio({"mel_spectrogram": mel, "heard": np.array([[True, False]])}, -70.0)["mel_spectrogram"]
    assert (control[0, 0] == -70.0).all()
    np.testing.assert_array_equal(control[0, 1], mel[0, 1])
    assert control.dtype == np.float32
