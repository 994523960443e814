"""Backends come and go with requests and threads; their engine stays."""

from __future__ import annotations

import gc
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.core import signals
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.db import close_old_connections
from django.test import override_settings

from cachebridge.django_backend import CacheBridge, bindings
from tests.rig import binding_of, engine_of, eventually
from tests.unit.django.support import entry, hits_of, trusted


def _listeners():
    return [t for t in threading.enumerate() if t.name == "cachebridge-listener"]


def _descriptors():
    table = Path("/proc/self/fd")
    return len(list(table.iterdir())) if table.is_dir() else 0


@pytest.fixture
def no_databases():
    """Let a request's signals reach no database: a test may have left one open."""
    told = (signals.request_started, signals.request_finished)
    for each in told:
        each.disconnect(close_old_connections)
    yield
    for each in told:
        each.connect(close_old_connections)


def test_closing_after_a_request_leaves_l1_and_the_listener_alone(cache, no_databases):
    """Django closes every cache after every request."""
    cache.set("k", 1)
    listeners = _listeners()
    for _ in range(3):
        signals.request_started.send(sender=object)
        signals.request_finished.send(sender=object)
        assert hits_of(cache, lambda: cache.get("k")) == 1
    assert cache.stats().flushes == {"subscribe": 1}
    assert _listeners() == listeners
    assert cache.stats().trusted


def test_the_backend_of_another_thread_shares_l1(cache):
    """Django makes one backend per thread; a new thread begins warm."""
    cache.set("k", "warm")

    def ask():
        mine = caches["default"]
        assert mine is not cache
        return mine.get("k"), hits_of(mine, lambda: mine.get("k"))

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(ask).result() == ("warm", 1)


def test_a_known_entry_is_not_parsed_again(cache, monkeypatch):
    """Under ASGI a backend is made for every request."""
    parsed = []
    original = bindings.parse_options

    def counting(*args, **kwargs):
        parsed.append(args)
        return original(*args, **kwargs)

    monkeypatch.setattr(bindings, "parse_options", counting)
    before = _listeners()
    made = [caches.create_connection("default") for _ in range(200)]
    assert parsed == []
    assert {id(binding_of(each)) for each in made} == {id(binding_of(cache))}
    assert {*_listeners()} <= {*before}


def test_making_a_backend_costs_little_more_than_a_locmem_one(cache):
    """Counted in calls, which no busy machine changes; in time it is 2.8 times."""
    params = {key: v for key, v in cache_params().items() if key != "LOCATION"}
    location = cache_params()["LOCATION"]

    def calls(make):
        counted = []
        make()
        sys.setprofile(lambda _frame, event, _arg: counted.append(event))
        try:
            make()
        finally:
            sys.setprofile(None)
        return len(counted)

    ours = calls(lambda: CacheBridge(location, params))
    locmem = calls(lambda: LocMemCache("ratio", {}))
    assert ours < 3 * locmem


def cache_params():
    params = dict(caches.settings["default"])
    del params["BACKEND"]
    return params


def test_options_given_anew_each_time_do_not_pile_up(redis_url):
    """Who makes backends by hand passes a new dict each time."""
    made = [
        CacheBridge(redis_url, {"OPTIONS": {"BUS": "none"}, "KEY_PREFIX": "p"})
        for _ in range(300)
    ]
    assert len({id(engine_of(each)) for each in made}) == 1
    assert len({id(binding_of(each)) for each in made}) == 1
    before = len(bindings._bindings)
    assert before < 10
    for number in range(3000):
        CacheBridge(
            redis_url, {"OPTIONS": {"BUS": "none"}, "KEY_PREFIX": f"{number % 3}"}
        )
    assert len(bindings._bindings) == before + 3
    assert len(bindings._memo) <= 1000
    bindings._forget_settings(setting="CACHES")


def test_changing_settings_leaves_no_threads_and_descriptors(redis_url):
    """override_settings in hundreds of tests, each with a cache that listens."""
    base = {"CACHES": {"default": entry(redis_url)}}
    others = set(_listeners())  # of tests before

    def have_ended():
        return set(_listeners()) <= others

    def cycle():
        with override_settings(**base):
            trusted(caches["default"]).set("k", 1)

    for _ in range(5):
        cycle()
    eventually(have_ended, "listeners end")
    gc.collect()
    threads, descriptors = threading.active_count(), _descriptors()
    for _ in range(25):
        cycle()
    with override_settings(**base):
        for _ in range(475):  # without a listener it is quick
            with override_settings(**base):
                caches["default"].set("k", 1)
    eventually(have_ended, "listeners end")
    gc.collect()
    eventually(lambda: threading.active_count() <= threads, "no more threads")
    eventually(lambda: _descriptors() <= descriptors, "no more descriptors")
    assert not bindings._bindings


def test_methods_may_be_replaced_on_one_object(cache):
    """debug-toolbar wraps the methods of each cache object it meets."""
    calls = []
    names = [
        name
        for name in dir(BaseCache)
        if not name.startswith(("_", "a")) or name == "add"
    ]
    others = caches.create_connection("default")
    for name in names:
        original = getattr(cache, name)
        if not callable(original):
            continue

        def wrapper(*args, _name=name, _original=original, **kwargs):
            calls.append(_name)
            return _original(*args, **kwargs)

        setattr(cache, name, wrapper)
        assert getattr(cache, name) is wrapper
    cache.set("k", 1)
    for _ in range(2):
        assert cache.get("k") == 1
        assert cache.get_many(["k"]) == {"k": 1}
    assert "k" in cache
    assert cache.get_or_set("k", 2) == 1
    assert [name for name in calls if name in {"set", "get", "get_many"}] == [
        "set",
        "get",
        "get_many",
        "get",
        "get_many",
    ]
    count = len(calls)
    assert others.get("k") == 1
    assert len(calls) == count
    cache.any_attribute = 1


def test_the_class_has_no_slots_and_hides_no_method():
    """Patching, subclassing and isinstance work as with any backend."""
    assert not hasattr(CacheBridge, "__slots__")
    assert issubclass(CacheBridge, BaseCache)
    surface = [name for name in dir(BaseCache) if not name.startswith("_")]
    assert all(hasattr(CacheBridge, name) for name in surface)


def test_a_cache_held_over_a_change_of_settings_goes_on(set_caches, redis_url):
    """Modules keep references; such a cache must stay coherent, not break."""
    set_caches(default=entry(redis_url))
    held = trusted(caches["default"])
    held.set("k", 1)
    set_caches(default=entry(redis_url, KEY_PREFIX=""))
    new = trusted(caches["default"])
    assert engine_of(new) is not engine_of(held)
    trusted(held)
    new.set("k", 2)
    eventually(lambda: held.get("k") == 2, "the held cache hears of the write")
    engine_of(held).stop()
