"""Templates of pages, and what several of them show."""

from __future__ import annotations

from typing import Any, NamedTuple


class Sheet(NamedTuple):
    """A table that stands for itself."""

    title: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def render(template: str, **values: Any) -> str:
    """A page from one of the templates in this room; whatever comes from outside is escaped.

    Args:
        template: File that extends `base.html.jinja`, which takes `title`, `subtitle`, `warnings` and `headlines`.
        values: For the template; a missing one raises `jinja2.UndefinedError`.
    """
    import jinja2  # with what needs it: only pages do

    loader = jinja2.PackageLoader("heimdall_jax", "pages")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template(template).render(**values)
