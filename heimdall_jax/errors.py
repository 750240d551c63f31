"""The errors a user can cause. A message says what was wrong, what was got, what is allowed, and the cure."""


class HeimdallError(Exception):
    """Base of every error this package raises on purpose; scripts print it on one line and exit with 1."""


class ConfigError(HeimdallError, ValueError):
    """A setting is unknown or outside its range."""


class DataError(HeimdallError, ValueError):
    """A recording, table, split or array breaks its contract."""


class StorageError(HeimdallError, OSError):
    """A file, object or disk could not be read or written."""


class NonFiniteError(HeimdallError, ArithmeticError):
    """A training step gave NaN or Inf; the last good state is kept."""


class ExportError(HeimdallError, ValueError):
    """A model could not be exported, or its export is not the model it claims to be."""


def explain(what: str, *, got: object, allowed: object, cure: str) -> str:
    """One-line message in the house's order: what, got, allowed, cure."""
    return f"{what}: got {got}; allowed: {allowed}. {cure}"
