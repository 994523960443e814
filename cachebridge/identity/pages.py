"""What cached pages are called: tags by URL and by view."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from cachebridge.core.keys import MAX_TAG_BYTES

_PAGE: Final = "page:"
_VIEW: Final = "view:"


def tags_of_page(path: str, query: str, *views: Any) -> tuple[str, ...]:
    """Return the tags of a page.

    ``path`` is decoded, ``query`` is as in the URL, ``views`` are what its view can be
    called: functions, and names of patterns or endpoints, which may be None.
    """
    tags = [tag_of_path(path), _tag_of_query(path, query)]
    tags += [tag_of_view(view) for view in views if view is not None]
    return tuple(dict.fromkeys(tags))


def tag_of_url(url: Any) -> str:
    """Return the tag of the pages at a URL: with its query, or else with any.

    Scheme and host do not count.  Raises TypeError and ValueError for what is no URL.
    """
    if not isinstance(url, str):
        raise TypeError(f"a URL must be a str, not {type(url).__name__}: {url!r}")
    parts = urlsplit(url)
    if not parts.path.startswith("/"):
        raise ValueError(f"a URL must have a path that begins with a slash: {url!r}")
    path = unquote(parts.path)
    return _tag_of_query(path, parts.query) if parts.query else tag_of_path(path)


def tag_of_view(view: Any) -> str:
    """Return the tag of all pages of a view: of a function, or by its name."""
    return _tag(_VIEW, view if isinstance(view, str) else _path_of_view(view))


def _path_of_view(view: Any) -> str:
    """Return the dotted name of a view, or of the class that it was made of."""
    view = getattr(view, "view_class", view)
    name = getattr(view, "__qualname__", type(view).__qualname__)
    return f"{getattr(view, '__module__', '')}.{name}"


def tag_of_path(path: str) -> str:
    """Return the tag of the pages at a path, as it is decoded, with any query."""
    return _tag(_PAGE, path)


def _tag_of_query(path: str, query: str) -> str:
    """Return the tag of a page with a query, the same in any order of its names."""
    pairs = parse_qsl(query, keep_blank_values=True)
    pairs.sort(key=lambda pair: pair[0])  # the values of one name keep their order
    return _tag(_PAGE, f"{path}?{urlencode(pairs)}")


def _tag(kind: str, name: str) -> str:
    """Return a tag; a long name, or one with control characters, by its hash."""
    tag = kind + name
    raw = tag.encode("utf-8", "surrogatepass")
    if len(raw) <= MAX_TAG_BYTES and tag.isprintable():
        return tag
    return f"{kind}#{sha256(raw).hexdigest()}"
