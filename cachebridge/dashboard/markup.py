"""HTML from texts: whatever is no ``Html`` is escaped, so nothing can be forgotten."""

from __future__ import annotations

from html import escape
from typing import Final

_EMPTY: Final = frozenset({"input", "link", "meta"})


class Html(str):
    """A text that is HTML already; templates of Django and Jinja take it as it is."""

    __slots__ = ()

    def __html__(self) -> str:
        """Return itself, as templates ask."""
        return self


def join(*parts: object) -> Html:
    """Return the parts one after the other; None and empty ones are left out."""
    return Html("".join(_html(each) for each in parts if each is not None))


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """Return an element.

    ``class_`` stands for ``class``, ``aria_label`` for ``aria-label``.  An attribute
    that is True has no value; one that is None or False is left out.
    """
    told = "".join(
        f" {_name(each)}" + ("" if value is True else f'="{escape(str(value))}"')
        for each, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _EMPTY:
        return Html(f"<{name}{told}>")
    return Html(f"<{name}{told}>{join(*children)}</{name}>")


def _html(value: object) -> str:
    return value if isinstance(value, Html) else escape(str(value))


def _name(attribute: str) -> str:
    return attribute.rstrip("_").replace("_", "-")
