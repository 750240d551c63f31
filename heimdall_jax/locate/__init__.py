"""Where a transmitter is, from several receivers' recordings of it: `scripts/locate.py`."""
