"""Fences: from a won ``add`` to its echo nothing hits L1 (I23)."""

from __future__ import annotations

import threading

from cachebridge.core.fence import Fence
from tests.rig import STRANGER, entry_of

NUMBER = 7


def hits(rules):
    return rules.clock() < rules.gate.until


def win(rules, number=NUMBER):
    """Win an ``add`` whose echo has not come."""
    rules.fences.awaited.add(number)
    rules.raise_fence(number, is_announced=True)
    rules.fences.awaited.discard(number)


def test_no_hit_until_the_echo(rules, store):
    """The fence stops hits and no more: L1 keeps, and takes, what it may."""
    store.put("k", entry_of("v"))
    win(rules)
    assert not hits(rules)
    assert rules.is_on(rules.clock())
    rules.on_keys(STRANGER, NUMBER, ["other"])
    rules.on_keys(rules.origin, NUMBER + 1, ["other"])
    assert not hits(rules)
    rules.on_keys(rules.origin, NUMBER, ["lock"])
    assert hits(rules)
    assert store.look("k") is not None


def test_echo_before_the_reply(rules):
    """What was heard before is not waited for."""
    rules.fences.awaited.add(NUMBER)
    rules.on_keys(rules.origin, NUMBER, ["lock"])
    rules.raise_fence(NUMBER, is_announced=True)
    assert hits(rules)


def test_each_fence_has_its_own_echo(rules):
    """Two ``add``s that win at the same time: the second echo opens the gate."""
    win(rules, 1)
    win(rules, 2)
    rules.on_keys(rules.origin, 2, ())
    assert not hits(rules)
    rules.on_keys(rules.origin, 1, ())
    assert hits(rules)


def test_heartbeat_sent_since(rules, clock):
    """An echo that never comes: a heartbeat proves the same if it was sent later."""
    win(rules)
    rules.on_heartbeat(clock())
    assert not hits(rules)
    clock.advance(0.001)
    rules.on_heartbeat(clock())
    assert hits(rules)


def test_new_subscription_ends_every_fence(rules, clock):
    """L1 is empty then, and takes nothing from before."""
    win(rules)
    rules.on_break()
    rules.on_subscribed()
    rules.extend_trust(clock() + 100)
    assert hits(rules)


def test_no_fence_while_disconnected(rules, clock):
    """L1 is off, and will be emptied before it is on again."""
    rules.on_break()
    win(rules)
    assert not rules.fences.up


def test_no_fence_outlives_a_fork(rules):
    """The child has an empty L1; a lock of a parent's waiter must not matter."""
    win(rules)
    rules.fences.up[NUMBER].ended()._lock.acquire()
    rules.reset()
    assert not rules.fences.up


def test_waiters_are_woken():
    """A caller that waits before the end, and one that comes after it, go on."""
    fence = Fence(0.0, is_announced=True)
    signal = fence.ended()
    waiting = threading.Thread(target=signal.wait)
    waiting.start()
    fence.end()
    waiting.join(30)
    assert not waiting.is_alive()
    assert fence.ended().is_set()
    late = Fence(0.0, is_announced=True)
    late.end()
    assert late.ended().is_set()
