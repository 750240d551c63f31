"""A synthetic network whose truth is known."""
