"""Callers that waited for a load share how it ends, also badly (I25)."""

from __future__ import annotations

import threading
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

from cachebridge.errors import L2Error
from tests.rig import (
    PATIENCE_S,
    engine_of,
    eventually,
    followers_in,
    is_idle,
    lone_cache,
)
from tests.unit.django.support import trusted

FOLLOWERS = 15


class DownError(Exception):
    pass


class Ending:
    """A loader that ends as told, once all callers are there."""

    def __init__(self, *endings):
        self._endings = list(endings)
        self.calls = 0
        self.go_on = threading.Event()

    def __call__(self):
        self.calls += 1
        ending = self._endings.pop(0)
        assert self.go_on.wait(PATIENCE_S)
        if isinstance(ending, BaseException):
            raise ending
        return ending


def ask_together(cache, loader, **options):
    """Ask from many threads, of which one leads; return what each of them gets."""

    def ask():
        try:
            return cache.get_or_load("k", loader, **options)
        except BaseException as exc:
            return exc

    with ThreadPoolExecutor(FOLLOWERS + 1) as pool:
        asked = [pool.submit(ask) for _ in range(FOLLOWERS + 1)]
        eventually(lambda: followers_in(cache) == FOLLOWERS)
        loader.go_on.set()
        return [each.result(PATIENCE_S) for each in asked]


@pytest.fixture(params=["redis", "memory"])
def cache(request):
    url = "memory://" if request.param == "memory" else None
    return lone_cache(url or request.getfixturevalue("redis_url"), lease_ttl=600)


def test_one_loader_fails_for_all(cache):
    """Once; every caller's traceback shows the loader and its own frames alone."""
    loader = Ending(DownError("down"))
    errors = ask_together(cache, loader)
    assert loader.calls == 1
    assert {str(each) for each in errors} == {"down"}
    for error in errors:
        names = [each.name for each in traceback.extract_tb(error.__traceback__)]
        assert names.count("ask") == 1
        assert names[-1] == "__call__"
    assert is_idle(cache)
    assert cache.get_or_load("k", lambda: "value") == "value"


def test_one_loader_fails_for_all_while_the_bus_is_heard(cache):
    """The echo of the lease's release parts no caller from the failure."""
    trusted(cache)
    loader = Ending(DownError("down"))
    errors = ask_together(cache, loader)
    assert {str(each) for each in errors} == {"down"}
    assert loader.calls == 1


def test_a_stale_value_serves_all(cache):
    """With STALE_IF_ERROR the failure is the old value, for all and after one try."""
    cache.get_or_load("k", lambda: "old", ttl=0.02, stale_if_error=600)
    eventually(lambda: cache.get("k") is None)
    loader = Ending(DownError("down"))
    assert ask_together(cache, loader, stale_if_error=600) == ["old"] * (FOLLOWERS + 1)
    assert loader.calls == 1


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_leader_that_dies_hands_over(cache, ending):
    """It alone gets the exception; the next one loads, for all the others."""
    loader = Ending(ending(), "value")
    results = ask_together(cache, loader)
    assert sum(isinstance(each, ending) for each in results) == 1
    assert results.count("value") == FOLLOWERS
    assert loader.calls == 2
    assert is_idle(cache)


def test_a_value_that_cannot_be_written_fails_for_each(cache):
    """The loader has not failed: each caller runs its own, as for one's own value."""

    class Unwritable:
        def __reduce__(self):
            raise DownError("unwritable")

    loader = Ending(*[Unwritable() for _ in range(FOLLOWERS + 1)])
    errors = ask_together(cache, loader)
    assert all("unwritable" in str(each) for each in errors)
    assert loader.calls == FOLLOWERS + 1
    assert is_idle(cache)


def test_a_caller_that_knows_better_loads(cache):
    """A failure from before a write of the key is none for those that asked later."""
    loader, after = Ending(DownError("no such row")), []
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(cache.get_or_load, "k", loader)
        eventually(lambda: loader.calls)
        cache.delete("k")  # the row is there now
        follower = pool.submit(cache.get_or_load, "k", lambda: after.append(1) or "row")
        eventually(lambda: followers_in(cache) == 1)
        loader.go_on.set()
        assert isinstance(leader.exception(PATIENCE_S), DownError)
        assert follower.result(PATIENCE_S) == "row"
    assert after == [1]


def test_l2_fails_for_all_at_once(redis_url, monkeypatch):
    """With ON_ERROR="raise" no follower asks again what the leader asked in vain."""
    cache = lone_cache(redis_url, on_error="raise", lease_ttl=600)
    asked, go_on = [], threading.Event()
    loader = Ending()
    loader.go_on = go_on

    async def fail(*_args):
        asked.append(1)
        assert go_on.wait(PATIENCE_S)
        raise L2Error("refused")

    monkeypatch.setattr(engine_of(cache).l2, "get_or_lease", fail)
    errors = ask_together(cache, loader)
    assert [type(each) for each in errors] == [L2Error] * (FOLLOWERS + 1)
    assert len(set(map(id, errors))) == FOLLOWERS + 1
    assert asked == [1]
