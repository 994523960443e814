"""The health view tells what a cache's own set and get cannot: whether L2 answers."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, fields
from datetime import timedelta
from enum import Enum

import pytest
from django.core.cache import caches
from django.db import connections
from django.test import Client
from django.urls import reverse

from cachebridge import Health
from cachebridge.django_backend import CacheBridge
from cachebridge.testing import FaultProxy
from tests.rig import PATIENCE_S, PATIENT_SETTINGS, eventually
from tests.unit.django.support import LOCMEM, entry, hits_of, trusted

ALL = "/health/cache/"
LIVE = "/health/cache/live/"
TIMEOUT_S = 1.0
SHORT = {"SOCKET_TIMEOUT": TIMEOUT_S, "SOCKET_CONNECT_TIMEOUT": TIMEOUT_S}


@pytest.fixture
def client(settings):
    settings.ROOT_URLCONF = "tests.unit.contrib.urls"
    return Client()


@pytest.fixture
def server(redis_server_factory, set_caches):
    """Return a server of the test's own, which the default cache uses."""
    server = redis_server_factory()
    set_caches(default=entry(server.url, OPTIONS=SHORT))
    return server


def test_all_is_well(client, set_caches, redis_url):
    """200, with every field of health() and ok, for all aliases of ours alone."""
    set_caches(
        default=entry(redis_url),
        other=entry(redis_url, KEY_PREFIX="other"),
        local={"BACKEND": LOCMEM},
    )
    response = client.get(ALL)
    assert response.status_code == 200
    body = response.json()
    assert body["ok"] is True
    assert list(body["caches"]) == ["default", "other"]
    names = {each.name for each in fields(Health)} | {"ok"}
    for state in body["caches"].values():
        assert set(state) == names
        assert state["l2_reachable"] is True
        assert state["ok"] is True


def test_an_l1_at_work_shows(client, set_caches, redis_url):
    """The process's own state is in the report of both views."""
    set_caches(default=entry(redis_url))
    assert client.get(LIVE).json()["caches"]["default"]["l1_trusted"] is False
    trusted(caches["default"])
    assert client.get(LIVE).json()["caches"]["default"]["l1_trusted"] is True
    state = client.get(ALL).json()["caches"]["default"]
    assert state["l1_trusted"] is state["bus_connected"] is True


def test_only_one_alias(client, server, set_caches):
    """An alias asked for by name answers for itself alone."""
    dead = entry("redis://127.0.0.1:1/0", OPTIONS=SHORT)
    set_caches(default=entry(server.url, OPTIONS=SHORT), dead=dead)
    assert client.get(f"{ALL}default/").status_code == 200
    assert list(client.get(f"{ALL}default/").json()["caches"]) == ["default"]
    assert client.get(f"{ALL}dead/").status_code == 503
    whole = client.get(ALL)
    assert whole.status_code == 503
    assert whole.json()["caches"]["default"]["ok"] is True
    assert whole.json()["caches"]["dead"]["ok"] is False


@pytest.mark.parametrize("alias", ["unknown", "local"])
def test_an_unknown_alias(client, set_caches, redis_url, alias):
    """404 naming the valid ones; another backend's alias is none of them."""
    set_caches(default=entry(redis_url), local={"BACKEND": LOCMEM})
    response = client.get(f"{ALL}{alias}/")
    assert response.status_code == 404
    assert response.json()["valid"] == ["default"]
    assert repr(alias) in response.json()["error"]


def test_nothing_to_ask(client, set_caches):
    """Where no cache is ours, the report does not claim that all is well."""
    set_caches()
    assert client.get(ALL).status_code == 404
    assert client.get(LIVE).status_code == 200


@pytest.mark.parametrize("path", [ALL, LIVE, f"{ALL}default/", f"{ALL}unknown/"])
def test_methods_and_caching(client, set_caches, redis_url, path):
    """GET and HEAD only, and no answer of any kind may be stored."""
    set_caches(default=entry(redis_url))
    assert client.head(path).content == b""
    for response in (client.get(path), client.head(path), client.post(path)):
        assert "no-store" in response["Cache-Control"]
    assert client.post(path).status_code == 405


def test_the_cache_middleware_does_not_keep_it(client, settings, server):
    """A site that caches all its pages still asks anew each time."""
    settings.MIDDLEWARE = [
        "django.middleware.cache.UpdateCacheMiddleware",
        "django.middleware.cache.FetchFromCacheMiddleware",
    ]
    settings.CACHES = {**settings.CACHES, "pages": {"BACKEND": LOCMEM}}
    settings.CACHE_MIDDLEWARE_ALIAS = "pages"
    assert client.get(ALL).status_code == 200
    server.kill()
    assert client.get(ALL).status_code == 503


@pytest.mark.parametrize("path", [ALL, LIVE])
def test_no_database_is_needed(client, set_caches, redis_url, monkeypatch, path):
    """With ATOMIC_REQUESTS, too, the database may be away."""
    set_caches(default=entry(redis_url))
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)
    assert client.get(path).status_code == 200  # pytest-django would refuse a query


def test_redis_killed_and_back(client, server):
    """503 with the reason while Redis is down, 200 again afterwards; live all along."""
    trusted(caches["default"])
    server.kill()
    response = client.get(ALL)
    assert response.status_code == 503
    state = response.json()["caches"]["default"]
    assert state["l2_reachable"] is state["ok"] is False
    assert state["error"]
    assert client.get(LIVE).status_code == 200
    server.restart()
    eventually(lambda: client.get(ALL).status_code == 200, "healthy again")


def test_redis_silent(client, server):
    """A server that says nothing is reported; live does not ask it."""
    assert client.get(ALL).status_code == 200
    server.pause()
    response = client.get(ALL)
    assert response.status_code == 503
    assert not response.json()["caches"]["default"]["ok"]
    assert client.get(LIVE).status_code == 200


def test_several_that_are_silent(client, redis_server_factory, set_caches):
    """They are asked together: all have been before the first one answers."""
    with ExitStack() as running:
        servers = [redis_server_factory() for _ in range(4)]
        proxies = [
            running.enter_context(FaultProxy(server.host, server.port))
            for server in servers
        ]
        set_caches(
            **{
                f"cache{number}": entry(proxy.url, OPTIONS=PATIENT_SETTINGS)
                for number, proxy in enumerate(proxies)
            }
        )
        assert client.get(ALL).status_code == 200
        for proxy in proxies:
            proxy.silence()
        pool = running.enter_context(ThreadPoolExecutor(1))
        response = pool.submit(client.get, ALL)
        eventually(lambda: all(proxy.fired["silence"] for proxy in proxies))
        began = time.monotonic()
        assert client.get(LIVE).status_code == 200
        assert time.monotonic() - began < PATIENCE_S  # the sockets' time is longer
        assert not response.done()
        for proxy in proxies:
            proxy.restore()
        assert response.result(PATIENCE_S).status_code == 200


def test_a_round_trip_says_less(client, server, set_caches):
    """What L1 answers proves nothing about L2: the reason for this view."""
    set_caches(default=entry(server.url, OPTIONS={**SHORT, "BUS_TRUST": 10.0}))
    cache = trusted(caches["default"])
    cache.set("kept", "works")
    assert cache.get("kept") == "works"
    server.pause()
    assert hits_of(cache, lambda: cache.get("kept")) == 1
    assert cache.get("kept") == "works"
    response = client.get(ALL)
    assert response.status_code == 503
    assert response.json()["caches"]["default"]["l1_trusted"] is True


def test_a_round_trip_with_a_dead_redis(client, server):
    """A warm key does not show that Redis is gone, a new one not why; the view does."""
    cache = trusted(caches["default"])
    cache.set("warm", "works")
    server.kill()
    assert cache.get("warm") == "works"
    cache.set("new", "works", 5)
    assert cache.get("new") is None
    response = client.get(ALL)
    assert response.status_code == 503
    state = response.json()["caches"]["default"]
    assert state["l2_reachable"] is False
    assert "refused" in state["error"]
    assert cache.get("warm") == "works"

    def breaker_open(path):
        cache.get("never-set")
        return client.get(path).json()["caches"]["default"]["breaker_open"]

    eventually(lambda: breaker_open(ALL) and breaker_open(LIVE), "the breaker opens")
    assert client.get(LIVE).status_code == 200


def test_a_wrong_password(client, redis_server_factory, set_caches):
    """503 with the reason, and neither the right nor the wrong password in it."""
    server = redis_server_factory(args=("--requirepass", "the-right-one"))
    address = f"{server.host}:{server.port}/0"
    set_caches(
        url=entry(f"redis://:my-secret%21@{address}", OPTIONS=SHORT),
        kwargs=entry(
            f"redis://{address}",
            OPTIONS={**SHORT, "CLIENT_KWARGS": {"password": "my-secret!"}},
        ),
        right=entry(f"redis://:the-right-one@{address}", OPTIONS=SHORT),
    )
    response = client.get(ALL)
    states = response.json()["caches"]
    assert response.status_code == 503
    assert "password" in states["url"]["error"]
    assert "password" in states["kwargs"]["error"]
    assert states["right"]["ok"] is True
    for secret in ("my-secret", "the-right-one"):
        assert secret not in response.content.decode()


def test_an_alias_that_cannot_be_made(client, set_caches, redis_url):
    """Both views say 503 and why; the others are reported as they are."""
    set_caches(
        default=entry(redis_url),
        wrong=entry(
            "redis://user:my-secret@127.0.0.1:1/0",
            OPTIONS={"CONNECTION_POOL_KWARGS": ["my-secret"]},
        ),
    )
    for path in (ALL, LIVE):
        response = client.get(path)
        assert response.status_code == 503
        assert response.json()["caches"]["default"]["ok"] is True
        assert "CONNECTION_POOL_KWARGS" in response.json()["caches"]["wrong"]["error"]
        assert "my-secret" not in response.content.decode()


def test_whatever_health_has(client, set_caches, redis_url, monkeypatch):
    """Fields of any type become plain JSON, without secrets, when Health gets more."""

    class State(Enum):
        OPEN = "open"

    @dataclass(frozen=True)
    class Extended:
        breaker: State
        bound_s: float
        waited: timedelta
        queue: tuple[str, ...]
        counts: dict[str, int]
        ok: bool = False

    extended = Extended(
        State.OPEN, float("inf"), timedelta(seconds=1), ("my-secret",), {"deletes": 2}
    )
    monkeypatch.setattr(CacheBridge, "health", lambda _cache: extended)
    set_caches(
        default=entry(redis_url, OPTIONS={"username": "a", "password": "my-secret"})
    )
    response = client.get(ALL)
    assert response.status_code == 503
    assert json.loads(response.content)["caches"]["default"] == {
        "breaker": "open",
        "bound_s": None,
        "waited": "0:00:01",
        "queue": ["***"],
        "counts": {"deletes": 2},
        "ok": False,
    }


def test_names_of_the_addresses(client):
    """Templates and tools can find the views by name."""
    assert reverse("cachebridge:health", "tests.unit.contrib.urls") == ALL
    assert reverse("cachebridge:live", "tests.unit.contrib.urls") == LIVE
    assert reverse("cachebridge:health-alias", args=["default"]) == f"{ALL}default/"
