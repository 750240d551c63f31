"""Secrets come from the environment and the vendors' own files, never with a URL, which ends up in logs and configs."""

from __future__ import annotations

from urllib.parse import urlsplit

from heimdall_jax.errors import ConfigError, explain

CURES = {
    "postgresql": "Give it as PGPASSWORD or in ~/.pgpass.",
    "s3": "Give it as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or in ~/.aws/credentials.",
    "http": "Give it as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN.",
}
"""By the start of a URL's scheme."""
SECRET_PARAMETERS = ("password", "secret", "token", "sslpassword")


def refuse_secret(what: str, url: str) -> None:
    """Refuse a URL that carries a secret; the message does not repeat it.

    Raises:
        ConfigError: It has a password, or a parameter that is one; or it is no URL.
    """
    if "://" not in url:
        return
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError(explain(what, got=error, allowed="a URL", cure="Correct it.")) from error
    given = [pair.partition("=")[0].lower() for pair in parts.query.split("&")]
    if parts.password is None and not any(name in SECRET_PARAMETERS for name in given):
        return
    cure = next((text for start, text in CURES.items() if parts.scheme.startswith(start)), "Leave it out.")
    got, allowed = f"a {parts.scheme} URL with a secret in it", "a URL without one: it is kept with every run"
    raise ConfigError(explain(what, got=got, allowed=allowed, cure=cure))
