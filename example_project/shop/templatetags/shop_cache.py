"""``{% cache ... tags= %}`` for the shop; without the tags on Django's own backends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.template import Library
from django.templatetags.cache import do_cache as do_plain_cache

from cachebridge.contrib.django.templatetags.cachebridge import do_cache
from example_project.shop.cached import HAS_TAGS

if TYPE_CHECKING:
    from django.template import Node
    from django.template.base import Parser, Token

register = Library()


@register.tag("cache")
def do_cache_if_it_can(parser: Parser, token: Token) -> Node:
    """Keep a fragment, with its tags where the cache has some."""
    if HAS_TAGS:
        return do_cache(parser, token)
    words = token.split_contents()
    token.contents = " ".join(word for word in words if not word.startswith("tags="))
    return do_plain_cache(parser, token)
