"""cache_page: no visitor ever sees a page, a header or a cookie of another.

One case per flaw of cached pages that was published in 2026.  What Django itself
decides, it decides the same way with every backend; ours must not add a leak, in L1
least of all.
"""

from __future__ import annotations

import pytest
from django.core.cache import caches
from django.test import Client

from tests.unit.django import pages
from tests.unit.django.support import LOCMEM, entry, hits_of, trusted

pytestmark = pytest.mark.every_store

COOKIES = ({"HTTP_COOKIE": "user=alice"}, {"HTTP_COOKIE": "user=bob"})
NEW = ({}, {"HTTP_COOKIE": "user=bob"})
AUTHORIZATION = ({"HTTP_AUTHORIZATION": "alice"}, {"HTTP_AUTHORIZATION": "bob"})

PERSONAL = {
    "vary-cookie": COOKIES,
    "vary-star": COOKIES,
    "vary-star-among": COOKIES,
    "vary-star-spaced": COOKIES,
    "vary-upper": COOKIES,
    "private": COOKIES,
    "private-upper": COOKIES,
    "private-shouted": COOKIES,
    "no-store-upper": COOKIES,
    "no-cache-upper": COOKIES,
    "authorization": AUTHORIZATION,
    "authorization-max-age": AUTHORIZATION,
    "set-cookie": COOKIES,
    "set-cookie-spaced": COOKIES,
    "set-cookie-upper": COOKIES,
}


@pytest.fixture
def site(settings, place):
    """Return a function that serves requests with the cache of an alias."""
    settings.ROOT_URLCONF = "tests.unit.django.pages"
    settings.CACHES = {
        "default": entry(place),
        "locmem": {"BACKEND": LOCMEM, "LOCATION": "pages"},
    }
    trusted(caches["default"])
    caches["locmem"].clear()

    def serve(alias, path, visitors):
        settings.CACHE_MIDDLEWARE_ALIAS = alias
        answers = []
        for number in (0, 0, 1, 1, 0):
            response = Client().get(f"/{path}", **visitors[number])
            answers.append(
                (
                    number,
                    response.content.decode(),
                    sorted(morsel.value for morsel in response.cookies.values()),
                    response.headers.get("Vary"),
                    response.headers.get("X-For"),
                )
            )
        return answers

    return serve


def _leaks(answers, visitors):
    """Return the answers that tell one visitor about the other."""
    names = [str(visitor).partition("alice")[1] or "bob" for visitor in visitors]
    return [answer for answer in answers if names[1 - answer[0]] in str(answer[1:])]


@pytest.mark.parametrize(("path", "visitors"), PERSONAL.items(), ids=PERSONAL)
def test_a_page_made_for_one_is_not_served_to_another(site, path, visitors):
    """And the answers are those that Django gives with LocMemCache."""
    answers = site("default", path, visitors)
    assert _leaks(answers, visitors) == []
    assert answers == site("locmem", path, visitors)


def test_where_django_itself_mistakes_the_visitor_ours_does_as_well(site):
    """Django 5.2.19 reads no header's name with spaces around it out of Vary.

    The key of the page is Django's, so no backend can tell the visitors apart.
    """
    path, visitors = "vary-spaced", COOKIES
    assert site("default", path, visitors) == site("locmem", path, visitors)


def test_a_public_page_is_made_once_and_comes_from_l1(site):
    """Nothing of the above is true just because nothing is cached."""
    pages.rendered.clear()
    hits = hits_of(caches["default"], lambda: site("default", "public", COOKIES))
    assert pages.rendered == ["/public"]
    assert hits >= 7  # of five requests: the headers' list and the page


def test_a_page_that_varies_is_made_once_per_visitor(site):
    """Both come from L1 afterwards."""
    pages.rendered.clear()
    site("default", "vary-cookie", COOKIES)
    assert pages.rendered == ["/vary-cookie"] * 2


def test_what_a_middleware_adds_to_a_hit_is_not_kept(site, settings):
    """A hit is a new object: one visitor's cookie must not stick to the page."""
    settings.MIDDLEWARE = ["tests.unit.django.pages.CookieForEach"]
    answers = site("default", "public", COOKIES)
    assert [answer[2] for answer in answers] == [
        ["alice"],
        ["alice"],
        ["bob"],
        ["bob"],
        ["alice"],
    ]
    assert _leaks(answers, COOKIES) == []


def test_a_first_visit_that_sets_a_cookie_is_not_given_to_the_next(site):
    """Neither body nor cookie of a visitor who came without any."""
    answers = site("default", "set-cookie", NEW)
    assert answers == site("locmem", "set-cookie", NEW)
    assert all("anonymous" not in str(answer) for answer in answers if answer[0])


def test_the_site_wide_middleware_mixes_no_pages(site, settings):
    """The same with the two middlewares in the place of the decorator."""
    settings.MIDDLEWARE = [
        "django.middleware.cache.UpdateCacheMiddleware",
        "tests.unit.django.pages.CookieForEach",
        "django.middleware.cache.FetchFromCacheMiddleware",
    ]
    for path in ("vary-cookie", "authorization", "vary-star"):
        visitors = PERSONAL[path]
        answers = site("default", path, visitors)
        assert _leaks(answers, visitors) == []
