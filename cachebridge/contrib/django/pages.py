"""``cache_page`` with tags: what a page shows changes, and the page goes at once."""

from __future__ import annotations

from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.middleware.cache import CacheMiddleware
from django.utils.decorators import decorator_from_middleware_with_args

from cachebridge.core.keys import tags_of
from cachebridge.django_backend import CacheBridge
from cachebridge.identity.pages import tags_of_page
from cachebridge.waiting.io import TASKS, THREADS
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

    from cachebridge.core.keys import Tags
    from cachebridge.engine.tagging.running import LoadTags
    from cachebridge.waiting.io import IO

__all__ = ["cache_page"]

_MADE_WITH = "_cachebridge_tags"
"""The attribute of a request that has the tags of its page, by decorator.

Views that call each other may share a request.
"""
_storing: ContextVar[LoadTags | None] = ContextVar("cachebridge_storing", default=None)


def cache_page(
    timeout: float | None,
    *,
    cache: str | None = None,
    key_prefix: str | None = None,
    tags: Tags | Callable[..., Tags] = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Keep the pages of a view, plain or ``async``, as Django's decorator does.

    ``tags`` is a list, or a function that gets what the view gets and returns one.  A
    page has those of its URL and its view besides, for ``purge`` and ``purge_view``.
    They are read before the view runs, which may name more with ``cachebridge.tag``
    (``await cachebridge.atag`` in a coroutine).  ``invalidate_tags`` of one of them on
    the same cache ends the use of the page, and of one that is being made.

    The others are Django's: seconds, the alias of the cache, a prefix for keys.  Raises
    TypeError and ValueError for what are no tags, ImproperlyConfigured, by the first
    request, for an alias of another backend.
    """
    if not callable(tags):
        tags_of(tags)
    keep = decorator_from_middleware_with_args(_PageMiddleware)

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        mark = object()
        kept = keep(
            page_timeout=timeout, cache_alias=cache, key_prefix=key_prefix, mark=mark
        )
        decorated: Callable[..., Any] = kept(_tagging(view, cache, tags, mark))
        return decorated

    return decorate


def _tagging(
    view: Callable[..., Any], alias: str | None, tags: Any, mark: object
) -> Any:
    """Return the view as it is called for a page that is not kept."""

    def begin(
        io: IO, request: HttpRequest, args: Any, kwargs: Any
    ) -> tuple[LoadTags, Any]:
        given = tags(request, *args, **kwargs) if callable(tags) else tags
        begun = _bridge(alias).new_tags(io)
        request.__dict__.setdefault(_MADE_WITH, {})[mark] = begun
        return begun, (*_tags_of_page(request, view), *tags_of(given))

    def make(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        begun, names = begin(THREADS, request, args, kwargs)
        with begun, begun:
            run(begun.begin(names, THREADS))
            response: HttpResponse = view(request, *args, **kwargs)
        return response

    async def make_in_task(
        request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        begun, names = begin(TASKS, request, args, kwargs)
        with begun, begun:
            await begun.begin(names, TASKS)
            response: HttpResponse = await view(request, *args, **kwargs)
        return response

    if iscoroutinefunction(view):
        return markcoroutinefunction(wraps(view)(make_in_task))
    return wraps(view)(make)


def _tags_of_page(request: HttpRequest, view: Any) -> tuple[str, ...]:
    match = request.resolver_match
    query = request.META.get("QUERY_STRING", "")
    if match is None:
        return tags_of_page(request.path, query, view)
    # A class whose ``dispatch`` is decorated is known to the resolver alone.
    return tags_of_page(request.path, query, view, match.func, match.view_name)


def _bridge(alias: str | None) -> CacheBridge:
    from django.conf import settings  # noqa: PLC0415 not configured at import
    from django.core.cache import caches  # noqa: PLC0415 the same

    name = settings.CACHE_MIDDLEWARE_ALIAS if alias is None else alias
    cache = caches[name]
    if not isinstance(cache, CacheBridge):
        raise ImproperlyConfigured(
            f"cache_page with tags: CACHES[{name!r}] is no "
            "cachebridge.django_backend.CacheBridge"
        )
    return cache


class _PageMiddleware(CacheMiddleware):
    """Django's, which stores a page with the tags that its view began with."""

    def __init__(self, get_response: Any, *, mark: object, **how: Any) -> None:
        super().__init__(get_response, **how)
        self._mark = mark

    def process_response(self, request: HttpRequest, response: Any) -> Any:
        """See there."""
        token = _storing.set(request.__dict__.get(_MADE_WITH, {}).get(self._mark))
        try:
            return super().process_response(request, response)
        finally:
            _storing.reset(token)

    @property
    def cache(self) -> Any:
        tags = _storing.get()
        cache = super().cache
        return cache if tags is None else _TaggingCache(cache, tags)


class _TaggingCache:
    """The cache as the middleware uses it to store a page."""

    def __init__(self, cache: Any, tags: LoadTags) -> None:
        self._cache = cache
        self._tags = tags

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def set(self, key: str, value: Any, timeout: Any) -> None:
        """Store with the tags: the page, and the list of headers it varies by."""
        self._cache.set_computed(key, value, timeout, self._tags)
