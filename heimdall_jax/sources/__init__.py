"""Bytes to sessions, NumPy only."""
