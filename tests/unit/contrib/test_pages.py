"""``cache_page`` and ``purge``: a page goes with all its variants, in every process."""

from __future__ import annotations

import asyncio

import pytest
from django.core.cache import caches
from django.db.transaction import atomic
from django.test import Client, RequestFactory
from django.urls import NoReverseMatch

from cachebridge.contrib.django import (
    apurge,
    apurge_view,
    cache_page,
    purge,
    purge_view,
)
from cachebridge.errors import ConfigError
from tests.unit.contrib import page_site
from tests.unit.django.databases import sqlite_files
from tests.unit.django.support import LOCMEM, entry, hits_of, trusted

pytestmark = pytest.mark.every_store

ALICE, BOB = {"HTTP_COOKIE": "user=alice"}, {"HTTP_COOKIE": "user=bob"}


@pytest.fixture
def cache(settings, place):
    """Return the cache of a site."""
    settings.ROOT_URLCONF = "tests.unit.contrib.page_site"
    settings.MIDDLEWARE = ["tests.unit.contrib.page_site.InZone"]
    settings.CACHES = {
        "default": entry(place),
        "pages": entry(place, KEY_PREFIX="pages"),
        "locmem": {"BACKEND": LOCMEM, "LOCATION": "pages"},
    }
    page_site.during.clear()
    return trusted(caches["default"])


def get(path, **headers):
    """Return what the site answers."""
    return Client().get(path, **headers).content.decode()


def is_kept(path, **headers):
    """Return whether two requests get one page."""
    return get(path, **headers) == get(path, **headers)


def test_every_visitor_language_zone_and_method(cache):
    """All variants go at once; those of other pages stay."""
    variants = [
        {},
        {"HTTP_X_LANGUAGE": "nl"},
        {"HTTP_X_LANGUAGE": "nl", "HTTP_X_ZONE": "Europe/Amsterdam"},
    ]
    before = [get("/where/", **variant) for variant in variants]
    assert before == [get("/where/", **variant) for variant in variants]
    assert len({page.rpartition(" ")[0] for page in before}) == 3
    visitors = [get("/shop/product/7/", **who) for who in (ALICE, BOB)]
    other = get("/shop/product/8/", **ALICE)
    assert purge("/where/")
    assert purge("/shop/product/7/")
    after = [get("/where/", **variant) for variant in variants]
    assert not set(before) & set(after)
    assert after == [get("/where/", **variant) for variant in variants]
    again = [get("/shop/product/7/", **who) for who in (ALICE, BOB)]
    assert not set(visitors) & set(again)
    assert get("/shop/product/8/", **ALICE) == other


def test_a_page_of_head_goes_as_well(cache):
    """Its headers are kept apart from those of GET."""
    made = []
    for _ in range(2):
        Client().head("/where/")
        made.append(next(page_site.numbers))
    assert made[1] == made[0] + 1  # the second was no new page
    purge("/where/")
    Client().head("/where/")
    assert next(page_site.numbers) == made[1] + 2


def test_query_strings(cache):
    """A URL with a query means that one, in any order; one without means all."""
    pages = {
        query: get(f"/shop/catalogue/?{query}")
        for query in ("a=1&b=2&b=3", "a=1&b=3&b=2", "", "q=%C3%A9")
    }

    def left():
        return [
            query for query in pages if get(f"/shop/catalogue/?{query}") == pages[query]
        ]

    assert len(left()) == 4
    purge("https://example.org/shop/catalogue/?b=2&b=3&a=1")
    assert left() == ["a=1&b=3&b=2", "", "q=%C3%A9"]
    purge("/shop/catalogue/?q=é")
    assert left() == ["a=1&b=3&b=2", ""]
    purge("/shop/catalogue/")
    assert left() == []


def test_by_view(cache):
    """By its name, or as itself: all its pages, or those of some arguments."""
    paths = [
        "/shop/product/7/",
        "/shop/product/8/",
        "/shop/catalogue/",
        "/shop/catalogue/lamps/",
        "/shop/terms/",
        "/shop/imprint/",
    ]
    pages = {path: get(path) for path in paths}

    def gone():
        now = {path: get(path) for path in paths}
        found = [path for path in paths if now[path] != pages[path]]
        pages.update(now)
        return found

    assert gone() == []
    purge_view("shop:product", kwargs={"pk": 7})
    assert gone() == paths[:1]
    purge_view("shop:product", [8])
    assert gone() == paths[1:2]
    purge_view("shop:product")
    assert gone() == paths[:2]
    purge_view("shop:category")
    assert gone() == paths[3:4]
    purge_view(page_site.catalogue)
    assert gone() == paths[2:4]
    purge_view(page_site.Terms)
    assert gone() == paths[4:5]
    purge_view(page_site.Imprint)
    assert gone() == paths[5:]
    purge("/shop/terms/", "/shop/catalogue/lamps/")
    assert gone() == paths[3:5]


def test_awaited(cache):
    """The twins do the same."""
    before = get("/where/"), get("/shop/terms/")
    assert asyncio.run(apurge("/where/"))
    assert asyncio.run(apurge_view("shop:terms"))
    after = get("/where/"), get("/shop/terms/")
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_own_tags(cache):
    """Of the decorator, and what the view names while it runs."""
    pages = {path: get(f"/shop/{path}/") for path in ("product/7", "catalogue/lamps")}
    cache.invalidate_tags("product:7")
    assert get("/shop/product/7/") != pages["product/7"]
    assert get("/shop/catalogue/lamps/") == pages["catalogue/lamps"]
    for tag in ("category:lamps", "catalogue"):
        before = get("/shop/catalogue/lamps/")
        cache.invalidate_tags(tag)
        assert get("/shop/catalogue/lamps/") != before


def test_a_page_that_is_being_made_is_not_kept(cache):
    """It may show what was there before the purge."""
    purges = {
        "url": lambda: purge("/shop/catalogue/url/"),
        "view": lambda: purge_view("shop:category"),
        "named": lambda: cache.invalidate_tags("category:named"),
    }
    for slug, each in purges.items():
        page_site.during.append(each)
        first = get(f"/shop/catalogue/{slug}/")
        assert not page_site.during
        assert first != get(f"/shop/catalogue/{slug}/")
        assert is_kept(f"/shop/catalogue/{slug}/")


def test_pages_come_from_l1_and_leave_that_of_other_processes(cache, place):
    """A hit of a tagged page is a hit of L1."""
    page = get("/where/")
    assert hits_of(cache, lambda: get("/where/")) >= 2  # the headers' list and the page
    assert get("/where/") == page
    purge("/where/")
    assert get("/where/") != page


def test_template_responses(cache):
    """They are rendered later, and kept then."""
    page = get("/template/")
    assert get("/template/") == page
    purge("/template/")
    assert get("/template/") != page


def test_a_view_that_calls_another(cache):
    """Each page has the tags of its own view, although they share a request."""

    @cache_page(60, key_prefix="inner", tags=["inner"])
    def inner(request):
        return page_site.page(request)

    @cache_page(60, key_prefix="outer", tags=["outer"])
    def outer(request):
        inner(request)
        return page_site.page(request)

    factory = RequestFactory()
    page = outer(factory.get("/w")).content
    assert outer(factory.get("/w")).content == page
    cache.invalidate_tags("outer")
    assert outer(factory.get("/w")).content != page
    kept = inner(factory.get("/w")).content
    cache.invalidate_tags("inner")
    assert inner(factory.get("/w")).content != kept


def test_what_django_does_not_cache(cache):
    """Other methods, and responses that say no."""
    factory = RequestFactory()

    @cache_page(60)
    def view(request):
        response = page_site.page(request)
        if request.GET:
            response["Cache-Control"] = "private"
        return response

    for request in (factory.post, lambda path: factory.get(path, {"a": "1"})):
        pages = {view(request("/x")).content for _ in range(2)}
        assert len(pages) == 2
    assert len({view(factory.get("/x")).content for _ in range(2)}) == 1
    purge_view(view)
    purge("/x")


def test_other_aliases(cache):
    """Pages of an alias are purged there; another backend has no tags."""

    def view(request):
        return page_site.page(request)

    factory = RequestFactory()
    kept = cache_page(60, cache="pages", key_prefix="pages")(view)
    before = kept(factory.get("/y")).content
    assert kept(factory.get("/y")).content == before
    purge("/y")
    assert kept(factory.get("/y")).content == before
    purge("/y", cache="pages")
    assert kept(factory.get("/y")).content != before
    with pytest.raises(ConfigError, match="locmem"):
        purge("/y", cache="locmem")


def test_in_a_transaction(cache, tmp_path, django_db_blocker):
    """A purge waits for the commit."""
    with django_db_blocker.unblock(), sqlite_files(tmp_path, "shop"):
        page = get("/where/")
        with atomic("shop"), cache.transaction("shop"):
            purge("/where/")
            own = get("/where/")
            assert own != page
            assert get("/where/") != own
        after = get("/where/")
        assert after not in {page, own}
        assert get("/where/") == after


WRONG = {
    "no str": (lambda: purge(7), TypeError, "a URL must be a str, not int"),
    "no path": (lambda: purge("shop"), ValueError, "begins with a slash"),
    "a typo": (
        lambda: purge_view("shop:prodct"),
        NoReverseMatch,
        "mean 'shop:product'",
    ),
    "no view": (lambda: purge_view(7), TypeError, "is no view"),
    "no alias": (lambda: purge("/", cache="defualt"), ConfigError, "mean 'default'"),
    "one tag": (lambda: cache_page(60, tags="a"), TypeError, "tags must be a list"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_used(cache, name):
    """It is named."""
    call, error, text = WRONG[name]
    with pytest.raises(error, match=text):
        call()


def test_coroutine_functions(cache):
    """Their pages are purged as others are."""

    @cache_page(60)
    async def view(request):
        return page_site.page(request)

    def get_page():
        return asyncio.run(view(RequestFactory().get("/z"))).content

    page = get_page()
    assert get_page() == page
    purge("/z")
    second = get_page()
    assert second != page
    asyncio.run(apurge_view(view))
    assert get_page() != second
