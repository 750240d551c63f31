"""Speed beside peers on the same work in the same run; `scripts/bench.py` prints it."""
