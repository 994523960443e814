"""``purge``: cached pages go by URL and by view, with all their variants at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.urls import NoReverseMatch, URLResolver, get_resolver, reverse

from cachebridge.checking.checks import did_you_mean
from cachebridge.contrib.django.aliases import required_bridge
from cachebridge.identity.pages import tag_of_url, tag_of_view

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cachebridge.django_backend import CacheBridge


def purge(*urls: str, cache: str | None = None) -> bool:
    """Invalidate the pages at these URLs that our ``cache_page`` keeps.

    All variants: for every ``Vary`` header, language, time zone and method, in every
    process.  A URL with a query means that query, in any order of its names; one
    without means every query.  Scheme and host do not count.  ``cache`` is the alias,
    by default CACHE_MIDDLEWARE_ALIAS.

    Returns False while the shared store is away: then it is done when it is back.  In a
    ``transaction()`` of the cache it waits for the commit.  Raises TypeError and
    ValueError for what is no URL, ConfigError for an alias that is not cachebridge's.
    """
    return _pages_of("purge", cache).invalidate_tags(*map(tag_of_url, urls))


async def apurge(*urls: str, cache: str | None = None) -> bool:
    """See ``purge``."""
    return await _pages_of("purge", cache).ainvalidate_tags(*map(tag_of_url, urls))


def purge_view(
    view: str | Callable[..., Any],
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    cache: str | None = None,
) -> bool:
    """Invalidate the pages of a view; see ``purge``.

    ``view`` is the name of a URL pattern, or the view itself.  Without ``args`` and
    ``kwargs`` all its pages go, else those at the URL that Django reverses them to.

    Raises NoReverseMatch for a name that no pattern has.
    """
    tag = _tag_of_call(view, args, kwargs)
    return _pages_of("purge_view", cache).invalidate_tags(tag)


async def apurge_view(
    view: str | Callable[..., Any],
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    cache: str | None = None,
) -> bool:
    """See ``purge_view``."""
    tag = _tag_of_call(view, args, kwargs)
    return await _pages_of("purge_view", cache).ainvalidate_tags(tag)


def _pages_of(where: str, alias: str | None) -> CacheBridge:
    return required_bridge(where, alias or settings.CACHE_MIDDLEWARE_ALIAS)


def _tag_of_call(view: Any, args: Any, kwargs: Any) -> str:
    if args or kwargs:
        return tag_of_url(reverse(view, args=args, kwargs=kwargs))
    if isinstance(view, str):
        names = set(_names_below(get_resolver(), ""))
        if view not in names:
            raise NoReverseMatch(
                f"purge_view: no URL pattern is called {view!r}."
                f"{did_you_mean(view, names)}"
            )
    elif not callable(view):
        raise TypeError(f"purge_view: {view!r} is no view, and no name of one")
    return tag_of_view(view)


def _names_below(resolver: URLResolver, prefix: str) -> Iterator[str]:
    """Return the names of all patterns, with their namespaces."""
    for each in resolver.url_patterns:
        if isinstance(each, URLResolver):
            inner = f"{prefix}{each.namespace}:" if each.namespace else prefix
            yield from _names_below(each, inner)
        elif each.name:
            yield prefix + each.name
