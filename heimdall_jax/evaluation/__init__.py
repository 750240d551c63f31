"""Honest numbers: summaries, baselines, bounds."""
