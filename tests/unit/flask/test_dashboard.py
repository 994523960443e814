"""The page as a blueprint: ``authorize`` decides, and other sites' forms do nothing."""

from __future__ import annotations

import re

import pytest
from flask import Flask, abort

from cachebridge import ConfigError
from cachebridge.flask_ext import Cache, dashboard
from cachebridge.flask_ext.page import GUARD
from tests.unit.django.support import trusted

PAGE = "/caches/"
RIGHTS = {"view_cache", "inspect_key", "clear_cache"}


@pytest.fixture
def cache_and_client(redis_url):
    """Return a function that makes an app with a page, and a client of it."""

    def make(authorize=lambda _right: True, **how):
        app = Flask("scratch")
        app.testing = True
        config = {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": redis_url}
        cache = trusted(Cache(app, config=config))
        app.register_blueprint(dashboard(authorize=authorize, **how))
        return cache, app.test_client()

    return make


def token_of(client, page=PAGE):
    return client.get_cookie(GUARD, path=page).value


def test_authorize_is_mandatory():
    """Without one there is an error that says what to give."""
    with pytest.raises(TypeError, match="authorize"):
        dashboard()
    with pytest.raises(ConfigError, match="There is no default"):
        dashboard(authorize=None)


@pytest.mark.parametrize(
    ("rights", "allowed"),
    [
        (set(), set()),
        (RIGHTS - {"view_cache"}, set()),
        ({"view_cache"}, {"page", "state"}),
        ({"view_cache", "inspect_key"}, {"page", "state", "key"}),
        (RIGHTS, {"page", "state", "key", "act"}),
    ],
)
def test_rights(cache_and_client, rights, allowed):
    """Each address needs the page's right and its own; the page offers no more."""
    asked = set()

    def authorize(right):
        asked.add(right)
        return right in rights

    _, client = cache_and_client(authorize)
    page = client.get(PAGE)
    form = {"cache": "cache 1", "key": "k", "verb": "clear"}
    if page.status_code == 200:
        form[GUARD] = token_of(client)
        assert ('id="cb-key"' in page.text) == ("key" in allowed)
        assert ('value="clear"' in page.text) == ("act" in allowed)
    got = {
        "page": page.status_code,
        "state": client.get(f"{PAGE}state/").status_code,
        "key": client.post(f"{PAGE}key/", data=form).status_code,
        "act": client.post(f"{PAGE}act/", data=form).status_code,
    }
    assert got == {name: 200 if name in allowed else 403 for name in got}
    assert asked <= RIGHTS


@pytest.mark.parametrize("answer", [None, 1, "yes", object()])
def test_what_is_no_answer(cache_and_client, answer):
    """Truth is not guessed: a coroutine or an object is always true."""
    _, client = cache_and_client(lambda _right: answer)
    with pytest.raises(TypeError, match=r"authorize\('view_cache'\).*return True"):
        client.get(PAGE)


def test_coroutine_functions_and_aborts(cache_and_client):
    """``authorize`` may await, and may answer by itself."""

    async def no(_right):
        return False

    _, client = cache_and_client(no)
    assert client.get(PAGE).status_code == 403
    _, client = cache_and_client(lambda _right: abort(401))
    assert client.get(PAGE).status_code == 401


def test_what_it_shows(cache_and_client):
    """The process, a key at each level without its value, and nothing inline."""
    cache, client = cache_and_client()
    cache.set("k", "a secret value")
    page = client.get(PAGE)
    assert "trusted</span>" in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page.text)
    form = {"cache": "cache 1", "key": "k", GUARD: token_of(client)}
    found = client.post(f"{PAGE}key/", data=form).text
    assert "in L1 and trusted" in found
    assert "secret" not in found
    for name in re.findall(r'(?:href|src)="(/caches/page[^"]+)"', page.text):
        assert client.get(name).status_code == 200


def test_switches(cache_and_client):
    """Asked first, then done."""
    cache, client = cache_and_client()
    cache.set("k", 1)
    client.get(PAGE)
    form = {"cache": "cache 1", "verb": "clear", GUARD: token_of(client)}
    assert "Delete all keys" in client.post(f"{PAGE}act/", data=form).text
    assert cache.get("k") == 1
    done = client.post(
        f"{PAGE}act/", data={**form, "sure": "yes"}, follow_redirects=True
    )
    assert "The cache cache 1 was cleared." in done.text
    assert cache.get("k") is None


@pytest.mark.parametrize("path", ["act", "key"])
def test_forms_of_other_sites(cache_and_client, path):
    """Without cookie or field, with another's, or sent from elsewhere: 403."""
    cache, client = cache_and_client()
    cache.set("k", 1)
    form = {"cache": "cache 1", "verb": "clear", "sure": "yes", "key": "k"}
    assert client.post(f"{PAGE}{path}/", data={**form, GUARD: ""}).status_code == 403
    client.get(PAGE)
    cookie = client.get_cookie(GUARD, path=PAGE)
    assert (cookie.same_site, cookie.http_only) == ("Strict", True)
    for wrong in ("", "x", "\xe4"):
        response = client.post(f"{PAGE}{path}/", data={**form, GUARD: wrong})
        assert response.status_code == 403
    form[GUARD] = cookie.value
    for site in ("cross-site", "same-site"):
        headers = {"Sec-Fetch-Site": site}
        response = client.post(f"{PAGE}{path}/", data=form, headers=headers)
        assert response.status_code == 403
    assert client.get(f"{PAGE}{path}/").status_code == 302
    assert cache.get("k") == 1


def test_another_place(cache_and_client):
    """Name and address of the blueprint; an app without caches says so."""
    _, client = cache_and_client(name="ops", url_prefix="/ops/cache")
    assert client.get("/ops/cache/").status_code == 200
    assert token_of(client, "/ops/cache/")
    app = Flask("empty")
    app.register_blueprint(dashboard(authorize=lambda _right: True))
    Cache(app, config={"CACHE_TYPE": "NullCache", "CACHE_NO_NULL_WARNING": True})
    assert "No cache here" in app.test_client().get(PAGE).text
