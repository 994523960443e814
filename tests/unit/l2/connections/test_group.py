"""Servers that fail one by one: the store is away when all are, and not before."""

from __future__ import annotations

import logging
import threading

import pytest

from cachebridge.core.breaker import Breaker
from cachebridge.errors import L2UnavailableError
from cachebridge.l2.connections import group as group_module
from cachebridge.l2.connections.group import ServerGroup, ping_any
from cachebridge.waiting.run import run
from tests.rig import PATIENCE_S, FakeClock, Watcher


@pytest.fixture
def main():
    watcher = Watcher()
    made = Breaker(
        threshold=1,
        retry_s=1.0,
        clock=FakeClock(),
        jitter=lambda low, _high: low,
        watcher=watcher,
    )
    made.reports = watcher.reports
    return made


@pytest.fixture
def group(main):
    return ServerGroup(main)


@pytest.fixture
def pair(group):
    breakers = {label: group.breaker_for(label) for label in "ab"}
    group.set_members("ab")
    return breakers


def test_away_when_all_are(main, pair, caplog):
    """The first to come back ends the outage; each change is logged once."""
    with caplog.at_level(logging.WARNING):
        pair["a"].fail("no route")
        pair["a"].fail("no route")
        assert not main.is_open
        pair["b"].fail("refused")
        assert main.is_open
        assert main.reports == ["refused"]
        pair["b"].succeed()
        assert not main.is_open
        assert pair["a"].is_open
        pair["b"].fail("refused")
        assert main.is_open
        pair["a"].succeed()
        assert not main.is_open
    assert main.reports == ["refused", "closed"] * 2
    assert caplog.text.count("a is away, its keys are degraded: no route") == 1
    assert caplog.text.count("is back") == 2


def test_a_server_that_leaves_counts_no_more(main, group, pair):
    """If all that remain are away, there is an outage; a new one ends it."""
    pair["a"].fail("gone")
    pair["b"].fail("gone")
    group.set_members("abc")
    assert not main.is_open
    group.set_members("c")
    group.breaker_for("c").fail("gone")
    assert main.is_open
    pair["a"].succeed()  # it is no member: what it says is about nothing
    assert main.is_open
    pair["b"].fail("again")
    group.set_members("ac")
    assert not main.is_open


def test_a_new_server_may_be_away_already(main, group, pair):
    """Its breaker has opened before it became a member, and reports nothing anew."""
    guest = group.breaker_for("c")
    guest.fail("gone")
    pair["a"].fail("gone")
    pair["b"].fail("gone")
    group.set_members("abc", away=["c"])
    pair["a"].succeed()
    assert not main.is_open
    pair["a"].fail("gone")
    assert main.is_open


def test_a_fork_begins_anew(main, group, pair):
    """Also if another thread of the parent held the lock."""
    pair["a"].fail("gone")
    pair["b"].fail("gone")
    group._lock.acquire()
    group.reset()
    assert not main.is_open
    for each in pair.values():
        each.reset()
    pair["a"].fail("gone")
    assert not main.is_open


def test_many_threads(main, pair):
    """Whatever the order of failures and answers, the last of all decides."""
    barrier = threading.Barrier(4)

    def change(number):
        barrier.wait(PATIENCE_S)
        for _ in range(300):
            pair["ab"[number % 2]].fail("gone")
            pair["ab"[number % 2]].succeed()

    threads = [threading.Thread(target=change, args=(each,)) for each in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE_S)
    assert not main.is_open
    pair["a"].fail("gone")
    pair["b"].fail("gone")
    assert main.is_open


# -- a ping ----------------------------------------------------------------------------


class Asked:
    """Servers that answer, or whose call fails after so many seconds of the clock."""

    def __init__(self, monkeypatch, breakers):
        self.clock = FakeClock()
        monkeypatch.setattr(group_module, "monotonic", self.clock)
        self.breakers = breakers
        self.names = []

    def ping(self, **takes_s):
        def of(name):
            async def ask():
                self.names.append(name)
                if takes_s[name] is not None:
                    self.clock.advance(takes_s[name])
                    raise L2UnavailableError(name)

            return ask

        run(ping_any([(self.breakers[name], of(name)) for name in takes_s]))


def test_one_that_answers_is_enough(pair, monkeypatch):
    """Those that are known to be away are asked last."""
    asked = Asked(monkeypatch, pair)
    pair["a"].fail("away")
    asked.ping(a=None, b=None)
    assert asked.names == ["b", "a"]
    asked.ping(a=9.0, b=None)


def test_a_caller_waits_for_one_timeout(pair, monkeypatch):
    """Not for one of each server that is away; one that refuses takes no time."""
    asked = Asked(monkeypatch, pair)
    for each in pair.values():
        each.fail("away")
    with pytest.raises(L2UnavailableError, match="a"):
        asked.ping(a=1.0, b=None)
    assert asked.names == ["a"]
    asked.ping(a=0.0, b=None)
    with pytest.raises(L2UnavailableError, match="no servers"):
        run(ping_any([]))
