"""Locate with ONNX Runtime and NumPy alone: python locate.py model.onnx receivers.json.

receivers.json is a list with one object per receiver, all of one transmission and one start:
{"recording": "a.npy", "latitude": 45.03, "longitude": 7.73, "altitude_m": 240, "clock_sigma_s": 5e-8}
The recording is complex64, one dimension, full scale 1, at the sample rate that the model's manifest.json names. Its
path is relative to the JSON file.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def read_inputs(path: Path, samples: int) -> dict[str, np.ndarray]:
    """One transmission (B = 1) as the graph takes it; the first `samples` of each recording."""
    receivers = json.loads(path.read_text(encoding="utf-8"))
    iq = np.stack([np.load(path.parent / one["recording"], allow_pickle=False)[:samples] for one in receivers])
    return {
        "i": iq.real[None].astype(np.float32),
        "q": iq.imag[None].astype(np.float32),
        "receiver_deg": np.array([[[one["latitude"], one["longitude"]] for one in receivers]], np.float64),
        "altitude_m": np.array([[one["altitude_m"] for one in receivers]], np.float32),
        "clock_sigma_s": np.array([[one["clock_sigma_s"] for one in receivers]], np.float32),
        "heard": np.ones((1, len(receivers)), np.float32),  # 0 for one that recorded nothing of use
    }


def radius_68_m(covariance_m2: np.ndarray) -> float:
    """Of the circle that holds 68 % of a Gaussian with this covariance: bisected, its mass averaged over directions."""
    (a, b), (_, d) = covariance_m2.astype(np.float64)
    root = np.hypot((a - d) / 2, b)
    angle = (np.arange(1000) + 0.5) * np.pi / 2000
    spread = ((a + d) / 2 - root) * np.cos(angle) ** 2 + ((a + d) / 2 + root) * np.sin(angle) ** 2
    low, high = 0.0, -2 * np.log(0.32) * ((a + d) / 2 + root)
    for _ in range(60):
        middle = (low + high) / 2
        if np.mean(1 - np.exp(-middle / (2 * spread))) < 0.68:
            low = middle
        else:
            high = middle
    return float(np.sqrt(high))


def main() -> None:
    """Print latitude, longitude (degrees, WGS84) and the 68 % radius (metres)."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(sys.argv[1], options)
    taken = {tensor.name: tensor.shape for tensor in session.get_inputs()}
    if "i" not in taken or "identity" in taken:
        sys.exit(f"{sys.argv[1]} takes {', '.join(taken)}; this sample serves models that take raw IQ alone")
    _, position_deg, covariance_m2 = session.run(
        ["position_m", "position_deg", "covariance_m2"], read_inputs(Path(sys.argv[2]), taken["i"][2])
    )
    latitude, longitude = position_deg[0]
    print(f"{latitude:.7f} {longitude:.7f} {radius_68_m(covariance_m2[0]):.2f}")


if __name__ == "__main__":
    main()
