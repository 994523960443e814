"""The admin's page "Caches": who may see what, what it shows, and its switches."""

from __future__ import annotations

import re
import threading
from html import escape

import pytest
from django.contrib.auth.models import Permission, User
from django.core.cache import caches
from django.core.management import call_command
from django.db import connection
from django.test import Client

from cachebridge.contrib.django.admin import CacheAdmin
from cachebridge.testing import FaultProxy
from tests.rig import after_heartbeats, eventually, listening, lone_cache
from tests.unit.django.support import LOCMEM, entry, trusted

pytestmark = pytest.mark.django_db

PAGE = "/admin/cachebridge/cache/"
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
SHORT = {"SOCKET_TIMEOUT": 0.3, "SOCKET_CONNECT_TIMEOUT": 0.3}
HOSTILE = "<script>alert('1')</script>"


@pytest.fixture(autouse=True)
def site(settings):
    settings.ROOT_URLCONF = "tests.unit.contrib.admin_urls"
    settings.MIDDLEWARE = MIDDLEWARE
    CacheAdmin._serving._collector.forget()


@pytest.fixture
def as_user():
    """Return a function that makes the logged-in client of a user with rights."""

    def make(*rights, enforce_csrf_checks=False, **kind):
        user = User.objects.create_user("operator", is_staff=True, **kind)
        user.user_permissions.set(Permission.objects.filter(codename__in=rights))
        client = Client(enforce_csrf_checks=enforce_csrf_checks)
        client.force_login(user, "django.contrib.auth.backends.ModelBackend")
        return client

    return make


@pytest.fixture
def operator(as_user):
    return as_user(is_superuser=True)


@pytest.fixture
def cache(set_caches, redis_url):
    """The default cache, with L1 at work, beside one that is none of ours."""
    set_caches(default=entry(redis_url), local={"BACKEND": LOCMEM})
    return trusted(caches["default"])


def test_no_table_and_no_migration():
    """The model asks for nothing but its permissions."""
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
    assert "cachebridge_cache" not in connection.introspection.table_names()
    names = Permission.objects.filter(content_type__app_label="cachebridge")
    assert {each.codename for each in names} == {
        "view_cache",
        "inspect_key",
        "clear_cache",
    }


VIEWS = {
    "page": lambda client: client.get(PAGE),
    "state": lambda client: client.get(f"{PAGE}state/"),
    "key": lambda client: client.post(f"{PAGE}key/", {"cache": "default", "key": "k"}),
    "act": lambda client: client.post(
        f"{PAGE}act/", {"cache": "default", "verb": "clear"}
    ),
}


@pytest.mark.parametrize(
    ("rights", "allowed"),
    [
        ([], []),
        (["inspect_key", "clear_cache"], []),
        (["view_cache"], ["page", "state"]),
        (["view_cache", "inspect_key"], ["page", "state", "key"]),
        (["view_cache", "clear_cache"], ["page", "state", "act"]),
    ],
)
def test_rights(as_user, cache, rights, allowed):
    """Each address needs the page's right and its own; the page offers no more."""
    client = as_user(*rights)
    got = {name: view(client).status_code for name, view in VIEWS.items()}
    assert got == {name: 200 if name in allowed else 403 for name in VIEWS}
    if "page" in allowed:
        text = client.get(PAGE).content.decode()
        assert ('id="cb-key"' in text) == ("key" in allowed)
        assert ('value="clear"' in text) == ("act" in allowed)
        assert PAGE in client.get("/admin/").content.decode()


def test_strangers(cache):
    """A visitor is sent to the login; style and script are for every visitor."""
    for name, view in VIEWS.items():
        response = view(Client())
        assert response.status_code == 302, name
        assert "/admin/login/" in response.url
    for name in ("page.css", "page.js"):
        assert Client().get(f"{PAGE}{name}").status_code == 200


def test_what_it_shows(operator, cache, redis_url):
    """All processes, by trust; and nothing inline, which the policy would refuse."""
    other = listening(lone_cache(redis_url, KEY_PREFIX=":1:"))
    response = operator.get(PAGE)
    text = response.content.decode()
    assert text.count("trusted</span>") >= 2
    assert redis_url in text
    policy = response["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>", text)
    assert not re.search(r"<style|\sstyle=|\son\w+=", text)
    state = operator.get(f"{PAGE}state/").json()
    (server,) = state["state"]["servers"]
    assert len(server["processes"]) == 2
    assert {each["trust"] for each in server["processes"]} == {"trusted"}
    assert other.stats().trusted
    assert set(state["parts"]) == set(re.findall(r'<div id="(cb-[a-z]+)">', text))


def test_two_aliases(operator, set_caches, redis_url):
    """Of one server, once; a process that does not use one of them is told apart."""
    set_caches(default=entry(redis_url), shop=entry(redis_url, KEY_PREFIX="shop"))
    trusted(caches["shop"])
    other = listening(lone_cache(redis_url, KEY_PREFIX="shop:1:"))
    (server,) = operator.get(f"{PAGE}state/").json()["state"]["servers"]
    assert server["caches"] == ["default", "shop"]
    used = [each["caches"] for each in server["processes"]]
    assert sorted(used) == [["default", "shop"], ["shop"]]
    assert other.stats().trusted


def test_a_key(operator, cache, redis_url):
    """L2 and each L1, side by side, and never the value."""
    other = listening(lone_cache(redis_url, KEY_PREFIX=":1:"))
    cache.set("k", "a secret value")
    after_heartbeats(other)  # the message has arrived, so the read may stay
    assert other.get("k") == "a secret value"
    response = operator.post(f"{PAGE}key/", {"cache": "default", "key": "k"})
    text = response.content.decode()
    assert "&#x27;:1:k&#x27;" in text
    assert text.count("in L1 and trusted") == 2
    assert ">L2 <" in text
    assert "secret" not in text


def test_hot_keys(as_user, cache):
    """Names of keys are for those who may ask for keys."""
    cache.set(HOSTILE, 1)
    cache.set_many({"cold": 1})
    assert cache.get(HOSTILE) == 1
    done = threading.Event()

    def hit():
        while not done.is_set():
            cache.get(HOSTILE)

    hitting = threading.Thread(target=hit)
    hitting.start()
    try:
        client = as_user("view_cache", "inspect_key")
        state = client.get(f"{PAGE}state/").json()
    finally:
        done.set()
        hitting.join()
    (hot, *_) = state["state"]["servers"][0]["hot"]
    assert (hot["cache"], hot["key"]) == ("default", HOSTILE)
    assert escape(HOSTILE) in state["parts"]["cb-servers"]
    user = User.objects.get()
    user.user_permissions.set(Permission.objects.filter(codename="view_cache"))
    state = client.get(f"{PAGE}state/").json()
    assert state["state"]["servers"][0]["hot"] == []


@pytest.mark.parametrize("key", [HOSTILE, "k" * 5000, "\x1b[2J", "'\"&", "\n"])
def test_a_hostile_key(operator, cache, key):
    """It is escaped, and answered."""
    response = operator.post(f"{PAGE}key/", {"cache": "default", "key": key})
    assert response.status_code == 200
    text = response.content.decode()
    assert "<script>alert" not in text
    assert 'id="cb-found"' in text or "is no key" in text


@pytest.mark.parametrize(
    "form", [{}, {"cache": "nobody"}, {"cache": "default", "key": ""}]
)
def test_no_key(operator, cache, form):
    """The page without an answer."""
    response = operator.post(f"{PAGE}key/", form)
    assert response.status_code == 200
    assert b"cb-found" not in response.content


def test_clear(operator, cache):
    """Asked first; a GET changes nothing; what was done is said."""
    cache.set("k", 1)
    form = {"cache": "default", "verb": "clear"}
    asked = operator.post(f"{PAGE}act/", form)
    assert "Delete all keys of the cache default" in asked.content.decode()
    assert operator.get(f"{PAGE}act/", {**form, "sure": "yes"}).status_code == 302
    assert cache.get("k") == 1
    done = operator.post(f"{PAGE}act/", {**form, "sure": "yes"}, follow=True)
    assert "The cache default was cleared." in done.content.decode()
    assert cache.get("k") is None


def test_l1_off_and_on(operator, cache, caplog):
    """In the whole fleet; the log says who did it."""
    caplog.set_level("INFO", "cachebridge.dashboard")
    for verb, word in (("l1_off", "switched off"), ("l1_on", "trusted")):
        form = {"cache": "default", "verb": verb, "sure": "yes"}
        assert operator.post(f"{PAGE}act/", form).status_code == 302
        trusted_now = verb == "l1_on"
        eventually(lambda wanted=trusted_now: cache.stats().trusted is wanted)
        CacheAdmin._serving._collector.forget()
        assert f"{word}</span>" in operator.get(PAGE).content.decode()
    (_, last) = [each for each in caplog.records if "page" in str(each.cachebridge)]
    assert last.cachebridge["verb"] == "l1_on"
    assert last.cachebridge["by"].startswith("user ")


def test_csrf(as_user, cache):
    """A form without its token changes nothing."""
    client = as_user(is_superuser=True, enforce_csrf_checks=True)
    cache.set("k", 1)
    form = {"cache": "default", "verb": "clear", "sure": "yes"}
    assert client.post(f"{PAGE}act/", form).status_code == 403
    assert client.post(f"{PAGE}key/", {"cache": "default"}).status_code == 403
    assert cache.get("k") == 1
    page = client.get(PAGE).content.decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]
    form["csrfmiddlewaretoken"] = token
    assert client.post(f"{PAGE}act/", form).status_code == 302


@pytest.mark.parametrize(
    "form", [{}, {"verb": "drop", "cache": "default"}, {"verb": "clear", "cache": "x"}]
)
def test_no_such_switch(operator, cache, form):
    """400, with the valid ones."""
    response = operator.post(f"{PAGE}act/", {**form, "sure": "yes"})
    assert response.status_code == 400
    assert b"no such switch or cache; caches are default" in response.content


def test_redis_away(operator, redis_server_factory, set_caches):
    """The page says so, with the figures of its own process; what is asked fails."""
    server = redis_server_factory()
    set_caches(default=entry(server.url, OPTIONS=SHORT))
    cache = trusted(caches["default"])
    cache.set("k", 1)
    server.kill()
    text = operator.get(PAGE).content.decode()
    assert "cannot be asked" in text
    assert "those of the process that made this page" in text
    state = operator.get(f"{PAGE}state/").json()["state"]
    assert len(state["servers"][0]["processes"]) == 1
    key = operator.post(f"{PAGE}key/", {"cache": "default", "key": "k"})
    assert "cannot be asked" in key.content.decode()
    form = {"cache": "default", "verb": "l1_off", "sure": "yes"}
    refused = operator.post(f"{PAGE}act/", form)
    assert refused.status_code == 503
    assert b"this was not done" in refused.content
    form["verb"] = "clear"
    later = operator.post(f"{PAGE}act/", form, follow=True).content.decode()
    assert "is cleared when it is back" in later


def test_a_silent_redis(operator, redis_url, redis_server_factory, set_caches):
    """The page comes within the timeouts of the cache, whatever else is silent."""
    server = redis_server_factory()
    with FaultProxy(server.host, server.port) as proxy:
        set_caches(
            default=entry(proxy.url, OPTIONS=SHORT),
            other=entry(redis_url, OPTIONS=SHORT),
        )
        trusted(caches["other"])
        proxy.silence()
        servers = operator.get(f"{PAGE}state/").json()["state"]["servers"]
        assert proxy.fired["silence"]
    assert "cannot be asked" in servers[0]["trouble"]
    assert servers[1]["trouble"] == ""


def test_secrets(operator, redis_server_factory, set_caches):
    """No password reaches the page."""
    server = redis_server_factory(args=("--requirepass", "my-secret"))
    url = server.url.replace("redis://", "redis://:wrong-secret@")
    set_caches(default=entry(url, OPTIONS=SHORT))
    for view in VIEWS.values():
        assert b"secret" not in view(operator).content


def test_no_cache_of_ours(operator, set_caches):
    """It says so."""
    set_caches()
    assert b"No cache here is one of cachebridge" in operator.get(PAGE).content


def test_another_policy(operator, cache, monkeypatch):
    """A project's theme may need another, or its own middleware."""
    monkeypatch.setattr(CacheAdmin, "content_security_policy", "default-src 'self'")
    assert operator.get(PAGE)["Content-Security-Policy"] == "default-src 'self'"
    monkeypatch.setattr(CacheAdmin, "content_security_policy", None)
    assert "Content-Security-Policy" not in operator.get(PAGE)


def test_static_files_elsewhere(operator, cache, settings):
    """The policy allows the host that the admin's own styles come from."""
    settings.STATIC_URL = "https://static.example.com/s/"
    policy = operator.get(PAGE)["Content-Security-Policy"]
    assert "style-src 'self' https://static.example.com;" in policy
