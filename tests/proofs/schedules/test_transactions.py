"""Every order of a transaction's steps and of a load: nothing uncommitted, nothing old.

The writer's steps lie between change, invalidation, commit and delete; the reader's, in
the writer's process or in another, between the database's answer and the storing of it.
"""

from __future__ import annotations

from itertools import count
from unittest.mock import patch

import pytest
from greenlet import greenlet

from cachebridge.django_backend import CacheBridge
from cachebridge.engine import engine, registry
from cachebridge.engine.holding.blocks import Block
from cachebridge.engine.holding.operations import HeldOperations
from cachebridge.engine.outage.fallbacks import ResilientOperations
from cachebridge.l2.memory.server import MemoryServer
from cachebridge.waiting.run import run
from tests.proofs.schedules.orders import BrokenInvariantError, orders
from tests.rig import engine_of

pytestmark = pytest.mark.proof

OLD, NEW = "old", "new"
WRITER_STEPS, READER_STEPS = 5, 5
_numbers = count()


def process(server, **options):
    """Return a cache with an engine of its own, as in a process of its own."""
    with (
        patch.object(registry, "_engines", {}),
        patch.object(engine, "MemoryServer", lambda _clock: server),
    ):
        return CacheBridge(f"memory://schedule-{next(_numbers)}", {"OPTIONS": options})


def pause():
    greenlet.getcurrent().parent.switch()


class World:
    """A row, a transaction that changes it, and a reader."""

    def __init__(self, writing, reading, *, commits):
        self.key = f"row:{next(_numbers)}"
        self.writing = writing
        self.reading = reading
        self.commits = commits
        self.committed = OLD
        self.hooks = []
        self.is_open = True
        self.due = OLD
        """What a load that begins now must not be older than."""
        self.actors = [greenlet(self.write), greenlet(self.read)]

    # -- as ``holding.Transaction`` ----------------------------------------------------

    @property
    def database(self):
        return self

    def here(self):
        return self

    def at_commit(self, invalidate):
        self.hooks.append(invalidate)

    # -- the actors --------------------------------------------------------------------

    def write(self):
        pause()  # the row has changed, for this transaction alone
        cache = self.writing
        with Block(cache._binding.held, self):
            self.demand(
                cache.get_or_load(self.key, lambda: NEW) in {OLD, NEW}, "nothing"
            )
            pause()
            cache.delete(self.key)
            self.demand(cache.get(self.key) is None, "its own change hidden")
            self.demand(
                cache.get_or_load(self.key, lambda: NEW) == NEW, "its own change"
            )
            pause()
        if self.commits:
            self.committed = NEW
            self.is_open = False
            pause()
            while self.hooks:
                self.hooks.pop(0)()
            self.due = NEW
        self.is_open = False
        self.hooks.clear()

    def read(self):
        for _ in range(2):
            pause()
            due = self.due
            seen = self.reading.get_or_load(self.key, self.load)
            may_be = {OLD, self.committed} if due == OLD else {NEW}
            self.demand(seen in may_be, f"no {seen}")

    def load(self):
        answer = self.committed
        pause()
        return answer

    def demand(self, holds, what):
        if not holds:
            raise BrokenInvariantError(f"the caller has {what}")

    def run(self, order):
        for caller in order:
            self.actors[caller].switch()
        for actor in self.actors:
            while not actor.dead:
                actor.switch()
        for cache in (self.writing, self.reading):
            self.demand(
                cache.get(self.key) in {None, self.committed}, "no old value at rest"
            )
            self.demand(not cache._binding.held.in_use, "nothing held at rest")


@pytest.fixture
def caches():
    """Return the caches of the writer, and of another process.

    That has no L1: how long a message takes is not what is studied here.
    """
    server = MemoryServer()
    made = [process(server), process(server, L1_MAX_ENTRIES=0)]
    yield made
    for cache in made:
        engine_of(cache).stop()


@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize("same_process", [True, False])
def test_every_order(caches, commits, same_process):
    """Of five steps of either."""
    writing, other = caches
    reading = writing if same_process else other
    try_every_order(writing, reading, commits=commits)


def try_every_order(writing, reading, *, commits):
    for order in orders((WRITER_STEPS, READER_STEPS)):
        World(writing, reading, commits=commits).run(order)


def _act_at_once(self, block, keys):
    """Delete in the block, not at the commit."""
    assert block is self._view.block
    run(self._real.delete_many(list(keys)))


MUTANTS = {
    "deletes before the commit": ("_hold", _act_at_once, True),
    "stores what it loads": ("get_or_load", ResilientOperations.get_or_load, False),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(caches, name):
    """Without the rule some order breaks an invariant."""
    method, instead, commits = MUTANTS[name]
    with (
        patch.object(HeldOperations, method, instead),
        pytest.raises(BrokenInvariantError),
    ):
        try_every_order(*caches, commits=commits)
