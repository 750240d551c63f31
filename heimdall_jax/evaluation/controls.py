"""Controls: what a model can do without the thing it is said to use."""

from __future__ import annotations

import numpy as np

from heimdall_jax.types import Sample


def no_radio(samples: Sample, power_db: float) -> Sample:
    """Samples (N, ...) in which every heard power is one constant, in dB; all else is as it was.

    What a model still knows of the place then comes from who heard and where they were, not from the radio. A
    spectrogram, were it left, would tell the powers: every band and frame of it becomes the constant too.

    Args:
        samples: Stacked samples; what receivers that did not hear hold stays as it is.
        power_db: The mean of the training samples' heard powers (`Domain.feature_mean`).
    """
    heard = samples["heard"]
    silenced = dict(samples)
    for key in {"rss_db", "mel_spectrogram"} & samples.keys():
        values = samples[key]
        mask = heard.reshape(heard.shape + (1,) * (values.ndim - heard.ndim))
        silenced[key] = np.where(mask, np.float32(power_db), values)
    return silenced
