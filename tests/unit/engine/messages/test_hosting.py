"""No thread of ours in a process that only forks, or whose threads stand still."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import threading
from types import SimpleNamespace

import pytest

from cachebridge.engine.messages.hosting import (
    NO_THREADS,
    freezes_threads,
    only_forks,
)
from tests.rig import engine_of, eventually, lone_cache


class Uwsgi:
    """The module that uWSGI gives to its applications, as far as it is asked."""

    has_threads = 1

    def __init__(self, *, worker=0, mule=0, master=None):
        self.worker, self.mule = worker, mule
        self.master = os.getpid() if master is None else master

    def worker_id(self):
        return self.worker

    def mule_id(self):
        return self.mule

    def masterpid(self):
        return self.master


@pytest.fixture
def host(monkeypatch):
    """Return a function that says what kind of uWSGI process this is."""

    def host(module):
        monkeypatch.setitem(sys.modules, "uwsgi", module)
        return module

    return host


@pytest.mark.parametrize(
    ("module", "answer"),
    [
        (Uwsgi(), True),
        (Uwsgi(master=0), True),
        (Uwsgi(worker=1), False),
        (Uwsgi(mule=1), False),
        (Uwsgi(master=1), False),
        (SimpleNamespace(), False),
    ],
    ids=["master", "no master", "worker", "mule", "spooler", "another uwsgi"],
)
def test_who_only_forks(host, module, answer):
    """The process that loads the application, until it is a worker."""
    host(module)
    assert only_forks() is answer
    assert not freezes_threads()


def test_nothing_is_asked_outside_of_uwsgi():
    """Without uWSGI there is nothing to wait for."""
    assert not only_forks()
    assert not freezes_threads()


def test_no_listener_in_the_master(redis_url, host):
    """It starts as soon as the process is a worker."""
    module = host(Uwsgi())
    cache = lone_cache(redis_url)
    cache.set("k", 1)
    for _ in range(5):
        assert cache.get("k") == 1
    assert not engine_of(cache).listening.is_running()
    module.worker = 1
    eventually(lambda: cache.get("k") == 1 and cache.stats().trusted)


def test_refreshes_of_the_master_run_at_once(redis_url, host):
    """Without a thread; a failure is logged, and its caller does not see it."""
    host(Uwsgi())
    cache = lone_cache(redis_url)
    refresher, threads = engine_of(cache).refresher, []
    assert refresher.submit("k", lambda: threads.append(threading.current_thread()))
    assert threads == [threading.current_thread()]
    assert refresher.submit("k", lambda: 1 / 0)
    assert refresher.submit("k", lambda: threads.append(refresher.submit("k", list)))
    assert threads[1:] == [False]
    assert refresher.is_idle()


def test_threads_that_stand_still(redis_url, host, caplog):
    """L1 stays off; one line in the log and health() say what to do."""
    host(Uwsgi(worker=1)).has_threads = 0
    cache = lone_cache(redis_url)
    with caplog.at_level(logging.WARNING, "cachebridge"):
        for _ in range(10):
            cache.get("k")
    assert [record.getMessage() for record in caplog.records] == [NO_THREADS]
    assert cache.health().error == NO_THREADS
    assert not engine_of(cache).listening.is_running()


def test_fork_without_hooks(redis_url):
    """The child's first call notices, and takes nothing of the parent's."""
    cache = lone_cache(redis_url)
    cache.set("k", "the parent's")
    engine = engine_of(cache)
    origin, chance = engine.rules.origin, engine.random.getstate()
    child = ctypes.PyDLL(None).fork()
    if child == 0:
        problem = "unfinished"
        try:
            problem = _in_child(cache, origin, chance)
        finally:
            os._exit(0 if problem is None else 1)
    for number in range(50):
        assert cache.set("parent", number)
        assert cache.get("parent") == number
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert engine.rules.origin == origin


def _in_child(cache, origin, chance):
    engine = engine_of(cache)
    for number in range(50):
        if not cache.set("child", number) or cache.get("child") != number:
            return "another's answer"
    if engine.rules.origin == origin:
        return "the parent's origin"
    if engine.random.getstate() == chance:
        return "the parent's chance"
    return None
