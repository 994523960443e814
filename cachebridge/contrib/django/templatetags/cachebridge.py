"""``{% cache %}`` with tags: ``{% load cachebridge %}``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.cache import caches
from django.core.cache.utils import make_template_fragment_key
from django.template import Context, Library, Node, NodeList, TemplateSyntaxError

from cachebridge.core.keys import named, tags_of
from cachebridge.django_backend import CacheBridge

if TYPE_CHECKING:
    from django.template.base import FilterExpression, Parser, Token

register = Library()
_LEAST_WORDS = 3


class TaggedCacheNode(Node):
    """See ``do_cache``."""

    def __init__(
        self,
        nodelist: NodeList,
        name: str,
        timeout: FilterExpression,
        vary_on: list[FilterExpression],
        options: dict[str, list[FilterExpression]],
    ) -> None:
        self.nodelist = nodelist
        self._name = name
        self._timeout = timeout
        self._vary_on = vary_on
        self._options = options

    def render(self, context: Context) -> Any:
        """Return the kept fragment, or render and keep it."""
        cache = self._cache(context)
        vary_on = [each.resolve(context) for each in self._vary_on]
        return cache.get_or_load(
            make_template_fragment_key(self._name, vary_on),
            lambda: self.nodelist.render(context),
            timeout=self._seconds(context),
            stale_ttl=0,  # it is never rendered in the background: it needs the context
            early_refresh=0,
            tags=self._tags(context),
        )

    def _cache(self, context: Context) -> CacheBridge:
        using = self._options["using"]
        name = str(using[0].resolve(context)) if using else "template_fragments"
        if not using and name not in caches.settings:
            name = "default"
        if name not in caches.settings:
            raise TemplateSyntaxError(f"cache: there is no CACHES[{name!r}]")
        cache = caches[name]
        if not isinstance(cache, CacheBridge):
            raise TemplateSyntaxError(
                f"cache with tags: CACHES[{name!r}] is no "
                "cachebridge.django_backend.CacheBridge"
            )
        return cache

    def _seconds(self, context: Context) -> int | None:
        timeout = self._timeout.resolve(context)
        try:
            return None if timeout is None else int(timeout)
        except (TypeError, ValueError, OverflowError):
            raise TemplateSyntaxError(
                f"cache: the timeout of {self._name} must be a number of seconds, "
                f"{self._timeout} is {timeout!r}"
            ) from None

    def _tags(self, context: Context) -> tuple[str, ...]:
        found: list[str] = []
        for each in self._options["tags"]:
            given = each.resolve(context)
            try:
                found += [given] if isinstance(given, str) else tags_of(given)
                tags_of(found)
            except (TypeError, ValueError) as exc:
                raise named(exc, f"cache {self._name}: tags={each}")  # noqa: B904 the same exception
        return tags_of(found)


@register.tag("cache")
def do_cache(parser: Parser, token: Token) -> TaggedCacheNode:
    """Keep a fragment, as Django's tag of this name does, with tags.

    ::

        {% load cachebridge %}
        {% cache 500 sidebar user.pk tags=product.tag tags="catalogue" %}
            ..
        {% endcache %}

    ``tags`` is one tag or a list of them, None for none, and may be repeated.
    ``using`` names an alias of CACHES.  One thread of all processes renders what is not
    kept.
    """
    nodelist = parser.parse(("endcache",))
    parser.delete_first_token()
    words = token.split_contents()
    options: dict[str, list[FilterExpression]] = {"tags": [], "using": []}
    while len(words) > _LEAST_WORDS:
        name, is_option, text = words[-1].partition("=")
        if not is_option or name not in options:
            break
        if not text:
            raise TemplateSyntaxError(f"cache: {name}= needs a value")
        options[name].insert(0, parser.compile_filter(text))
        words.pop()
    if len(words) < _LEAST_WORDS:
        raise TemplateSyntaxError("cache needs a timeout and a name of the fragment")
    return TaggedCacheNode(
        nodelist,
        words[2],  # as in Django's tag no variable
        parser.compile_filter(words[1]),
        [parser.compile_filter(word) for word in words[3:]],
        options,
    )
