"""Networks; no I/O, no losses."""
