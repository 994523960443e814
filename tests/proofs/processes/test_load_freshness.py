"""A follower of a load is told nothing older than what its process knew before."""

from __future__ import annotations

import threading
import time

import pytest

from cachebridge import Cache
from cachebridge.engine.loading.load import Load
from tests.proofs.processes.test_fork import wait_for
from tests.rig import PATIENCE_S, PATIENT, engine_of

KEY = "key"


class SlowLeader:
    """A cache whose first load stops between L2's answer to a request and landing."""

    def __init__(self, cache, request, monkeypatch):
        self.cache = cache
        self.engine = engine_of(cache)
        self.answered = threading.Event()
        self.goes_on = threading.Event()
        self.results = []
        self._original = getattr(Load, request)

        async def stop_once(*args):
            return await self._stop_once(*args)

        monkeypatch.setattr(Load, request, stop_once)
        self._leader = threading.Thread(target=self._load)
        self._leader.start()
        assert self.answered.wait(PATIENCE_S)

    async def _stop_once(self, *args):
        answer = await self._original(*args)
        if threading.current_thread() is self._leader and not self.goes_on.is_set():
            self.answered.set()
            assert self.goes_on.wait(PATIENCE_S)
        return answer

    def _load(self):
        self.results.append(self.cache.get_or_load(KEY, lambda: "loaded"))

    def follow(self, value):
        """Ask from another thread; let the leader land once that one waits for it."""
        follower = threading.Thread(
            target=lambda: self.results.append(
                self.cache.get_or_load(KEY, lambda: value)
            )
        )
        follower.start()
        wait_for(lambda: self.engine.single_flight._waiting)
        self.goes_on.set()
        follower.join(PATIENCE_S)
        self._leader.join(PATIENCE_S)
        return self.results


@pytest.fixture
def cache(redis_url):
    """Without L1, so that every answer comes from L2 or from a leader."""
    return Cache(redis_url, L1_MAX_ENTRIES=0, **PATIENT)


def test_a_follower_sees_what_was_set_before_it_asked(cache, monkeypatch):
    """The leader had read the old value by then."""
    cache.set(KEY, "old")
    leader = SlowLeader(cache, "get_or_lease", monkeypatch)
    cache.set(KEY, "new")
    assert sorted(leader.follow("unused")) == ["new", "old"]


def test_a_follower_sees_what_was_deleted_before_it_asked(cache, monkeypatch):
    """The leader had added what it loaded by then; the follower loads again."""
    leader = SlowLeader(cache, "store_loaded", monkeypatch)
    cache.delete(KEY)
    assert sorted(leader.follow("loaded later")) == ["loaded", "loaded later"]


def test_followers_of_a_slow_loader_do_not_load(cache):
    """All who ask while the loader runs get what it gives: it runs once."""
    loads = []
    results = []

    def load():
        loads.append(1)
        time.sleep(0.2)  # all ask meanwhile; who comes later finds the value
        return "loaded"

    threads = [
        threading.Thread(target=lambda: results.append(cache.get_or_load(KEY, load)))
        for _ in range(32)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert results == ["loaded"] * 32
    assert len(loads) == 1


@pytest.mark.parametrize("l1_entries", [0, 100])
def test_read_your_writes_beside_busy_loaders(redis_url, l1_entries):
    """One thread sets and loads; the others only load: it never gets an older value."""
    cache = Cache(redis_url, L1_MAX_ENTRIES=l1_entries, **PATIENT)
    over = threading.Event()

    def load():
        while not over.is_set():
            cache.get_or_load(KEY, lambda: 0)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(1, 150):
            cache.set(KEY, number)
            assert cache.get_or_load(KEY, lambda: 0) == number
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENCE_S)
