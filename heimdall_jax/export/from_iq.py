"""From raw IQ to the place: a trained network with the features before it, as one function of what receivers recorded.

The features are `features.extract.parts_to_features`, as training and evaluation call it, in float64: correlation peaks
in float32 differ by 1e-11 s from one runtime to another, which is metres where the receivers' geometry is weak.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from heimdall_jax.config import FeatureConfig, ModelConfig, TimingConfig
from heimdall_jax.features.extract import parts_to_features
from heimdall_jax.geodesy import degrees_to_enu
from heimdall_jax.models.build import input_names
from heimdall_jax.models.heads import Fix, Locator
from heimdall_jax.models.receiver_set import ReceiverSetNet

RECORDED = ("i", "q", "receiver_deg", "altitude_m", "clock_sigma_s", "heard", "present")
"""What every receiver of a transmission tells."""
TOLD = ("identity", "snr_db", "snr_known")
"""What IQ does not tell, asked for where the network was configured with it."""


def takes_iq(config: ModelConfig) -> bool:
    """Whether a model is exported from raw IQ on: where it reads arrival times, which nothing but IQ holds."""
    return config.timing


def raw_names(config: ModelConfig) -> tuple[str, ...]:
    """The inputs of `FromIq` for a configured network."""
    wanted = input_names(config)
    return (*RECORDED, *(name for name in TOLD if name in wanted))


class FromIq(Locator):
    """A network that fuses arrival times, asked with recordings.

    Args:
        network: Trained; shared, not copied.
        origin_deg: Of its local frame.
        features: How it reads IQ.
        timing: How it reads arrival times.
    """

    def __init__(
        self,
        network: ReceiverSetNet,
        *,
        origin_deg: tuple[float, float],
        features: FeatureConfig,
        timing: TimingConfig,
    ) -> None:
        self.network, self.double = network, True
        self.origin_deg, self.reading, self.timing = origin_deg, features, timing

    def __call__(self, **recorded: Array) -> Fix:
        """Locate, from what `features` takes, by name."""
        return self.network(**self.features(**recorded))

    def features(
        self,
        i: Float[Array, "B R T"],
        q: Float[Array, "B R T"],
        receiver_deg: Float[Array, "B R 2"],
        altitude_m: Float[Array, "B R"],
        clock_sigma_s: Float[Array, "B R"],
        heard: Bool[Array, "B R"],
        present: Bool[Array, "B R"] | None = None,
        identity: Int[Array, "B R"] | None = None,
        snr_db: Float[Array, "B R"] | None = None,
        snr_known: Bool[Array, "B R"] | None = None,
    ) -> dict[str, Array]:
        """What the network takes, by name.

        Args:
            i: Real part of the samples, full scale 1; ignored where not heard, as is `q`.
            q: Imaginary part.
            receiver_deg: Latitude, longitude (WGS84); ignored where not present, as is `altitude_m`.
            altitude_m: Of the antenna over the ellipsoid.
            clock_sigma_s: Of the receiver's clock.
            heard: It recorded the transmission.
            present: It took part; None: all did.
            identity: As the network's.
            snr_db: As the network's.
            snr_known: As the network's.
        """
        present = jnp.ones_like(heard) if present is None else present
        heard = heard & present
        spectrogram = self.network.spectrogram is not None
        timed = heard & (clock_sigma_s <= self.timing.max_clock_s)
        found = parts_to_features(i, q, self.reading, heard=timed, timing=self.timing, spectrogram=spectrogram)
        place_m = degrees_to_enu(receiver_deg, altitude_m, self.origin_deg, xp=jnp)
        named = {
            "rss_db": found["rss_db"],
            "receiver_m": place_m[..., :2],
            "receiver_up_m": place_m[..., 2],
            "heard": heard,
            "present": present,
            "identity": identity,
            "snr_db": snr_db,
            "snr_known": snr_known,
            "mel_spectrogram": found.get("mel_spectrogram"),
            "clock_sigma_s": clock_sigma_s,
            "tdoa_s": found["tdoa_s"],
            "arrival_precision_per_s2": found["arrival_precision_per_s2"],
            "timing_valid": found["timing_valid"] > 0.5,
        }
        return {name: values for name, values in named.items() if values is not None}
