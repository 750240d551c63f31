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


LONGEST = 1000
"""Characters of what was got, and of what is allowed: both may quote input from outside."""


def explain(what: str, *, got: object, allowed: object, cure: str) -> str:
    """One-line message in the house's order: what, got, allowed, cure; control characters are written as escapes."""
    return f"{shown(what)}: got {shown(got)}; allowed: {shown(allowed)}. {shown(cure)}"


def shown(value: object) -> str:
    """A value as a message may hold it: printable, on one line, and not too long."""
    text = " ".join(str(value)[: 2 * LONGEST].split())
    text = text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
