"""Expired entries leave though unread, and the thread goes with its caches."""

from __future__ import annotations

import gc
import os
import sys
import threading
import weakref
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachebridge import Cache
from cachebridge.config import EngineOptions
from cachebridge.core.entry import make_entry
from cachebridge.engine import janitor
from cachebridge.engine.janitor import JANITOR, SLICE, Janitor
from cachebridge.engine.registry import engine_apart
from cachebridge.l1.eviction import POLICIES
from cachebridge.local import ObjCache
from cachebridge.stats import Counters
from tests.rig import (
    PATIENCE_S,
    engine_of,
    eventually,
    listening,
    lone_cache,
)
from tests.threadless import refuse_threads
from tests.unit.engine.test_registry import FORKS, in_child

SOON = 0.02


class Owner:
    """Something to be swept, which counts the rounds."""

    def __init__(self):
        self.rounds = 0
        self.error = None

    def begin_sweep(self):
        self.rounds += 1
        if self.error is not None:
            raise self.error
        return 0

    def sweep_slice(self, _limit, _start):
        raise AssertionError("there is nothing to sweep")


class Shelf:
    """A bare store, swept as an engine does it."""

    def __init__(self, eviction):
        counters = Counters()
        self.store = POLICIES[eviction](
            max_entries=1 << 20, max_bytes=1 << 40, counters=counters
        )
        self.slices = 0

    def put(self, key, expires):
        self.store.put(key, make_entry(expires, "kind", "value", 64))

    def begin_sweep(self):
        return len(self.store)

    def sweep_slice(self, limit, start):
        self.slices += 1
        return len(self.store.sweep(1.0, limit, start))


@pytest.fixture
def no_pause(monkeypatch):
    monkeypatch.setattr(janitor, "PAUSE_S", 0)


@pytest.mark.parametrize("eviction", POLICIES)
@settings(max_examples=25, deadline=None)
@given(seed=st.randoms(use_true_random=False), share=st.floats(0, 1))
def test_no_entry_is_passed_over(eviction, seed, share):
    """A round removes every expired entry in its reach, wherever it stands."""
    shelf = Shelf(eviction)
    expired = set()
    for number in range(seed.randrange(6 * SLICE)):
        over = seed.random() < share
        shelf.put(str(number), 0.0 if over else 9.0)
        if over:
            expired.add(str(number))
        if not seed.randrange(3):
            shelf.store.note(str(number))
    kept = set(shelf.store.all_keys()) - expired
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(janitor, "PAUSE_S", 0)
        janitor.sweep(shelf)
    assert set(shelf.store.all_keys()) == kept


def test_all_of_many_go_at_once(no_pause):
    """However many have expired together, one round takes them, in slices."""
    shelf = Shelf("s3fifo")
    for number in range(20 * SLICE):
        shelf.put(str(number), 0.0)
    janitor.sweep(shelf)
    assert len(shelf.store) == 0
    assert shelf.slices == 20


def test_a_round_is_bounded(no_pause):
    """Of a large store that is fresh it looks at the old ends alone."""
    shelf = Shelf("s3fifo")
    for number in range(2 * janitor.REACH):
        shelf.put(str(number), 9.0)
    janitor.sweep(shelf)
    assert shelf.slices == janitor.REACH // SLICE
    assert len(shelf.store) == 2 * janitor.REACH


def test_expired_entries_go_unread():
    """Over ``memory://``, where no heartbeat comes: stats() shows memory going."""
    cache = listening(lone_cache("memory://janitor", l1_sweep=SOON))
    cache.set_many(dict.fromkeys(map(str, range(50)), "v"), ttl=0.05)
    cache.set("stays", "v", ttl=60)
    eventually(lambda: cache.stats().l1_entries == 1)
    stats = cache.stats()
    assert stats.expirations == 50
    assert 0 < stats.l1_bytes < 2000
    assert cache.get("stays") == "v"


def test_it_may_be_switched_off():
    """With L1_SWEEP=0 no thread comes for this cache."""
    cache = listening(lone_cache("memory://off", l1_sweep=0))
    assert engine_of(cache) not in JANITOR._due
    cache = listening(lone_cache("memory://on"))
    assert engine_of(cache) in JANITOR._due


def test_one_thread_for_all():
    """Owners come and go; while there is one there is one thread."""
    mine = Janitor()
    owners = [Owner() for _ in range(5)]
    for owner in owners:
        mine.watch(owner, SOON)
    thread = mine.thread
    eventually(lambda: all(owner.rounds > 2 for owner in owners))
    assert mine.thread is thread
    assert thread.daemon
    for owner in owners:
        mine.forget(owner)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert mine.thread is None
    mine.watch(owners[0], SOON)
    before = owners[0].rounds
    eventually(lambda: owners[0].rounds > before)
    mine.forget(owners[0])


def test_a_failing_owner_stops_no_other(caplog):
    """Its exception is logged; the others are visited."""
    mine = Janitor()
    bad, good = Owner(), Owner()
    bad.error = LookupError("broken")
    for owner in (bad, good):
        mine.watch(owner, SOON)
    eventually(lambda: bad.rounds > 1 and good.rounds > 1)
    for owner in (bad, good):
        mine.forget(owner)
    assert "LookupError: broken" in caplog.text


@pytest.mark.parametrize("make", [Owner, lambda: engine_apart("memory://", ENGINE)])
def test_the_thread_goes_with_its_last_owner(make):
    """It is collected although it is watched; the thread ends before a round is due."""
    mine = Janitor()
    owner = make()
    mine.watch(owner, 4 * PATIENCE_S)
    thread, gone = mine.thread, weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


ENGINE = EngineOptions()


def test_close_ends_it():
    """A closed cache is not visited any more, and holds nothing."""
    cache = listening(Cache("memory://closed", l1_sweep=SOON))
    engine = engine_of(cache)
    cache.set("k", "v")
    assert engine in JANITOR._due
    cache.close()
    assert engine not in JANITOR._due
    assert len(engine.l1) == 0


def test_a_dropped_cache_retires(monkeypatch):
    """Without an adapter the engine stops: its memory goes, and the visits end."""
    monkeypatch.setattr("cachebridge.engine.messages.listening.UNUSED_S", 0.0)
    cache = listening(lone_cache("memory://dropped", l1_sweep=SOON))
    engine = engine_of(cache)
    cache.set("k", "v", ttl=600)
    assert len(engine.l1) == 1
    del cache
    gc.collect()
    eventually(lambda: engine not in JANITOR._due)
    eventually(lambda: len(engine.l1) == 0)


def test_objects_go_unread(monkeypatch):
    """Of an ``ObjCache``, too, which hears of it; and the cache can be collected."""
    monkeypatch.setattr("cachebridge.local.SWEEP_S", SOON)
    left = []
    cache = ObjCache(ttl=0.05, on_evicted=lambda *what: left.append(what))
    cache.set("k", "v")
    sweeping = cache._sweeping
    eventually(lambda: left == [("k", "v", "expired")])
    assert len(cache) == 0
    gone = weakref.ref(cache)
    del cache
    gc.collect()
    assert gone() is None
    assert sweeping.begin_sweep() == sweeping.sweep_slice(1, 0) == 0


@FORKS
def test_it_comes_back_after_a_fork():
    """A child has no janitor until it reads; the parent keeps its own."""
    cache = listening(lone_cache("memory://forking", l1_sweep=SOON))
    engine = engine_of(cache)

    def child():
        before = JANITOR.thread, len(JANITOR._due)
        eventually(lambda: cache.get("k") or cache.stats().trusted)
        cache.set("k", "v", ttl=0.05)
        eventually(lambda: cache.stats().expirations == 1)
        return before, JANITOR.thread.is_alive()

    assert in_child(child) == "((None, 0), True)"
    assert engine in JANITOR._due
    assert JANITOR.thread.is_alive()


def test_a_fork_without_hooks(monkeypatch):
    """UWSGI forks in C: the child finds out by its number."""
    mine = Janitor()
    parents = Owner()
    mine.watch(parents, 600)
    thread = mine.thread
    child = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: child)
    childs = Owner()
    mine.watch(childs, 600)
    assert list(mine._due) == [childs]
    assert mine.thread is not thread
    mine.forget(childs)


@pytest.mark.parametrize("master", [0, None])
def test_no_thread_where_none_may_run(monkeypatch, master):
    """In a master of uWSGI, which forks in C, and where threads stand still."""
    uwsgi = SimpleNamespace(
        worker_id=lambda: master is None,
        mule_id=lambda: 0,
        masterpid=lambda: master,
        has_threads=0,
    )
    monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
    mine = Janitor()
    mine.watch(Owner(), SOON)
    assert mine.thread is None
    assert not mine._due


def test_garbage_that_asks_for_it():
    """A ``__del__`` may fill a cache wherever garbage is found, also under the lock."""
    mine, owner = Janitor(), Owner()

    def watch():
        with mine._lock:
            mine.watch(owner, SOON)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    eventually(lambda: owner.rounds)
    mine.forget(owner)


def test_no_thread_is_to_be_had(monkeypatch):
    """At the limit of threads, or at exit, there are no visits, and no error."""
    mine, owner = Janitor(), Owner()
    with monkeypatch.context() as patch:
        refuse_threads(patch)
        mine.watch(owner, SOON)
    assert mine.thread is None
    mine.watch(owner, SOON)
    eventually(lambda: owner.rounds)
    mine.forget(owner)
