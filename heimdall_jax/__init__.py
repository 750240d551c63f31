"""Learn where a radio transmitter is, and how sure one can be, from what a few receivers heard."""

__version__ = "0.1.0"
