"""The only feature code; pure and jit-able."""
