"""Tags in Django: every call that writes or loads, pages, and template fragments."""

from __future__ import annotations

import asyncio

import pytest
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.template import TemplateSyntaxError, engines
from django.template.response import TemplateResponse
from django.test import RequestFactory

import cachebridge
from cachebridge.contrib.django.pages import cache_page
from tests.rig import engine_of, l2_of
from tests.unit.django.support import LOCMEM, entry, trusted

pytestmark = pytest.mark.every_store


@pytest.fixture
def cache(settings, place):
    """Return the default cache, trusted if it can be."""
    settings.CACHES = {
        "default": entry(place, KEY_PREFIX="shop"),
        "locmem": {"BACKEND": LOCMEM},
    }
    settings.TEMPLATES = [
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {
                "libraries": {
                    "cachebridge": (
                        "cachebridge.contrib.django.templatetags.cachebridge"
                    )
                }
            },
        }
    ]
    cache = caches["default"]
    if engine_of(cache).stores.has_bus:
        trusted(cache)
    return cache


def drop_l1(cache):
    engine_of(cache).rules.flush("clear")


def calls_of(cache):
    """Return what each call stores under its key, with tags."""
    return {
        "set": lambda: cache.set("set", 1, 60, tags=["x"]),
        "nx": lambda: cache.set("nx", 1, 60, nx=True, tags=["x"]),
        "many": lambda: cache.set_many({"many": 1}, 60, tags=["x"]),
        "add": lambda: cache.add("add", 1, 60, tags=["x"]),
        "or_set": lambda: cache.get_or_set("or_set", 1, 60, tags=["x"]),
        "or_load": lambda: cache.get_or_load("or_load", lambda: 1, 60, tags=["x"]),
        "aset": lambda: asyncio.run(cache.aset("aset", 1, 60, tags=["x"])),
        "aadd": lambda: asyncio.run(cache.aadd("aadd", 1, 60, tags=["x"])),
        "amany": lambda: asyncio.run(cache.aset_many({"amany": 1}, 60, tags=["x"])),
        "aor_set": lambda: asyncio.run(cache.aget_or_set("aor_set", 1, tags=["x"])),
    }


def test_every_call_that_writes_or_loads(cache):
    """One invalidation ends the use of all, in both levels, whatever the version."""
    calls = calls_of(cache)
    for call in calls.values():
        call()
    cache.set("v2", 1, 60, version=2, tags=["x"])
    drop_l1(cache)
    assert cache.get_many(calls) == dict.fromkeys(calls, 1)
    assert cache.get("v2", version=2) == 1
    assert cache.invalidate_tags("x")
    assert cache.get_many(calls) == {}
    assert cache.get("v2", version=2) is None
    assert not cache.set("set", 2, 60, xx=True)
    assert asyncio.run(cache.ainvalidate_tags("x"))


def test_the_key_of_a_stamp(cache):
    """It is one of the cache's own, so that an ACL for its keys will do."""
    cache.set("k", 1, 60, tags=["product:42"])
    assert len(l2_of(cache).get("shop:1:cachebridge-tag:product:42")[0]) == 8
    assert not cache.has_key("product:42")


def get(view, path="/", **kwargs):
    """Return what a view answers, rendered if need be."""
    response = view(RequestFactory().get(path), **kwargs)
    if asyncio.iscoroutine(response):
        response = asyncio.run(wait(response))
    if hasattr(response, "render"):
        response = response.render()
    return response.content.decode()


async def wait(response):
    return await response


def pages():
    """Return views that show how often they ran, by name."""
    numbers = iter(range(100))

    def plain(request, pk):
        cachebridge.tag("named")
        return HttpResponse(f"{pk}: {next(numbers)}")

    async def awaited(request, pk):
        await cachebridge.atag("named")
        return HttpResponse(f"{pk}: {next(numbers)}")

    def template(request, pk):
        cachebridge.tag("named")
        text = template_of("{{ pk }}: {{ number }}")
        return TemplateResponse(request, text, {"pk": pk, "number": next(numbers)})

    return {"plain": plain, "awaited": awaited, "template": template}


@pytest.mark.parametrize("kind", ["plain", "awaited", "template"])
def test_pages(cache, kind):
    """Tags of the decorator, of the URL, and those that the view names."""
    by_url = cache_page(60, tags=lambda request, pk: ["all", f"product:{pk}"])
    view = by_url(pages()[kind])
    expected = 0
    for tag in ("all", "product:42", "named"):
        for _ in range(2):
            assert get(view, "/42", pk=42) == f"42: {expected}"
            drop_l1(cache)
        cache.invalidate_tags(tag)
        expected += 1
    assert get(view, "/42", pk=42) == f"42: {expected}"
    cache.invalidate_tags("product:7")
    assert get(view, "/42", pk=42) == f"42: {expected}"


def test_a_page_from_before_an_invalidation_is_not_kept(cache):
    """It goes to the visitor who asked for it."""
    numbers = iter(range(100))

    @cache_page(60, tags=["x"])
    def view(request):
        number = next(numbers)
        if not number:
            cache.invalidate_tags("x")
        return HttpResponse(str(number))

    assert [get(view), get(view), get(view)] == ["0", "1", "1"]


def test_pages_of_other_backends(cache):
    """Tags need this backend."""
    view = cache_page(60, cache="locmem", tags=["x"])(pages()["plain"])
    with pytest.raises(ImproperlyConfigured, match="'locmem'"):
        get(view, pk=1)
    with pytest.raises(TypeError, match="must be a list"):
        cache_page(60, tags="x")


def template_of(text):
    return engines["django"].from_string(text)


def render(text, **context):
    return template_of("{% load cachebridge %}" + text).render(context)


def test_fragments(cache):
    """One tag or a list of them, in the template or of a variable."""
    numbers = iter(range(100)).__next__
    options = "tags=tags tags='box' using='default'"
    text = "{% cache 60 box who OPTIONS %}{{ number }}{% endcache %}"
    context = {"who": "me", "tags": ["a", "b"], "number": numbers}
    for expected, tag in enumerate(["a", "b", "box"]):
        for _ in range(2):
            shown = render(text.replace("OPTIONS", options), **context)
            assert shown == str(expected)
        cache.invalidate_tags(tag)
    assert render("{% cache None plain %}{{ 7 }}{% endcache %}") == "7"


def test_fragments_that_are_wrong(cache):
    """The error names what is wrong."""
    with pytest.raises(TemplateSyntaxError, match="a timeout and a name"):
        render("{% cache 60 %}{% endcache %}")
    with pytest.raises(TemplateSyntaxError, match="tags= needs a value"):
        render("{% cache 60 x tags= %}{% endcache %}")
    with pytest.raises(TemplateSyntaxError, match="timeout of x must be a number"):
        render("{% cache soon x %}{% endcache %}", soon="soon")
    for wrong, error, text in (
        (7, TypeError, "cache x: tags=given: tags must be a list"),
        ([7], TypeError, "cache x: tags=given: a tag must be a str, not int"),
        ("", ValueError, "cache x: tags=given: a tag must not be empty"),
        (["a"] * 33, ValueError, "cache x: tags=given: a value can have 32"),
    ):
        with pytest.raises(error, match=text):
            render("{% cache 60 x tags=given %}{% endcache %}", given=wrong)
    with pytest.raises(TemplateSyntaxError, match="no CACHES\\['gone'\\]"):
        render("{% cache 60 x using='gone' %}{% endcache %}")
    with pytest.raises(TemplateSyntaxError, match="'locmem'"):
        render("{% cache 60 x using='locmem' %}{% endcache %}")
