"""Warm-up by itself: workers publish the keys of their L1, a new one reads them.

The bus's thread gives the beat; a thread of the refresher does the work.  So nothing
happens where no thread may run, and nothing while L1 is not trusted.
"""

from __future__ import annotations

import logging
import time
from itertools import groupby
from os import getpid
from typing import TYPE_CHECKING, Final, Protocol
from weakref import WeakValueDictionary

from cachebridge.core.entry import ABSENT, KIND
from cachebridge.core.notice import Notice
from cachebridge.engine.warming.lists import (
    ANY_HOST,
    KEPT_MS,
    MOST_KEYS,
    ORDERED,
    Run,
    decode_list,
    encode_list,
    name_of_host,
)
from cachebridge.errors import L2Error
from cachebridge.events import event
from cachebridge.waiting.io import THREADS
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cachebridge.core.breaker import Breaker
    from cachebridge.core.coherence import Coherence
    from cachebridge.engine.loading.refresh import Refresher
    from cachebridge.l1.store import L1Store
    from cachebridge.l2.store import L2Store
    from cachebridge.stats import Counters
    from cachebridge.waiting.io import IO

_log = logging.getLogger("cachebridge.engine")

WARMING: Final = "\0warming"
"""The name under which the work is done in the background."""
BATCH: Final = 500
PAUSE_S: Final = 0.05
"""Between two batches, so that the callers of a new worker are not held up."""
MOST_PREFIXES: Final = 1000
EVERY_S: Final = 60.0
"""How often a worker publishes its list."""


class WarmUpHost(Protocol):
    """What the warm-up needs of its engine."""

    pid: int
    l1: L1Store
    l2: L2Store
    rules: Coherence
    counters: Counters
    breaker: Breaker
    refresher: Refresher
    clock: Callable[[], float]
    chance: Callable[[], float]


class Target(Protocol):
    """A cache that knows which keys it may fill, and how."""

    def lacking_of_own(self, keys: Iterable[str]) -> list[str]:
        """Return the full keys of those that L1 may hold and does not."""

    async def warm(self, io: IO, full_keys: list[str]) -> bool:
        """Read these from L2 into L1, if the rules allow."""


class _Work:
    """What one life of the engine has done so far."""

    def __init__(self, publish_at: float) -> None:
        self.todo: list[Run] | None = None
        """What is still to be read; None before a list was looked for."""
        self.evictions = 0
        """The counter's value when the list was read: once it grows, L1 is full."""
        self.publish_at = publish_at
        self.least = 0
        """A list of fewer keys does not replace the one that was found."""
        self.ordered: bytes | None = None
        self.is_over = False


class WarmUp:
    """Publishes and reads lists for one engine.  Thread safe."""

    def __init__(self, host: WarmUpHost, *, is_on: bool) -> None:
        self._host = host
        self._is_on = is_on
        self._failing = Notice()
        self.targets: WeakValueDictionary[str, Target] = WeakValueDictionary()
        """The caches whose keys are their prefix and the caller's key, by prefix."""
        self._prefixes: set[str] = set()
        """Also those of caches that are gone: L1 may hold their keys."""
        self._work = self._begin()

    def _begin(self) -> _Work:
        host = self._host
        return _Work(host.clock() + EVERY_S * (0.5 + host.chance()))

    def reset(self) -> None:
        """End what runs, and begin anew: after a stop, and in the child of a fork."""
        self._work.is_over = True
        self._work = self._begin()

    def register(self, prefix: str, target: Target) -> None:
        """Let this cache fill the keys with its prefix; it is not kept alive."""
        self.targets[prefix] = target
        if len(self._prefixes) < MOST_PREFIXES:
            self._prefixes.add(prefix)

    def beat(self) -> None:
        """Do in the background what is due; called by the bus's thread, often."""
        if not self._is_on:
            return
        host, work = self._host, self._work
        if host.clock() >= work.publish_at:
            host.refresher.submit(WARMING, lambda: self._try(self._publish, work))
        elif work.todo is None or any(
            prefix in self.targets for prefix, _ in work.todo
        ):
            host.refresher.submit(WARMING, lambda: self._try(self._fill, work))

    def publish_last(self) -> None:
        """Publish at the end of the process, for the worker that takes its place."""
        host, work = self._host, self._work
        has_begun = work.todo is not None and host.pid == getpid()
        if self._is_on and has_begun and not host.breaker.is_open:
            self._try(self._keep_list, work)

    def _try(self, step: Callable[[_Work], None], work: _Work) -> None:
        try:
            step(work)
        except L2Error as exc:
            if self._failing.begins(self._host.clock(), type(exc).__name__):
                _log.warning(
                    "L1_WARM: the lists of keys cannot be used: %s",
                    exc,
                    extra=event("warm.failed"),
                )

    # -- publishing --------------------------------------------------------------------

    def _publish(self, work: _Work) -> None:
        work.publish_at = self._host.clock() + EVERY_S
        self._keep_list(work)
        ordered = run(self._host.l2.kept_list(ORDERED))
        if ordered != work.ordered:
            work.ordered = ordered
            self._take(work, decode_list(ordered))

    def _keep_list(self, work: _Work) -> None:
        """Publish the keys of L1, unless they are few, as those of a command."""
        host = self._host
        with host.rules.lock:
            youngest = host.l1.youngest(MOST_KEYS)
        look = host.l1.look
        keys = [
            key
            for key in youngest
            if (entry := look(key)) is not None and entry[KIND] is not ABSENT
        ]
        runs = self._runs_of(keys)
        if runs and len(keys) >= work.least:
            raw = encode_list(runs)
            for name in (name_of_host(), ANY_HOST):
                run(host.l2.keep_list(name, raw, KEPT_MS))

    def _runs_of(self, keys: Iterable[str]) -> list[Run]:
        """Divide full keys by the caches that make them, in their order."""
        prefixes = sorted(self._prefixes, key=len, reverse=True)

        def prefix_of(key: str) -> str | None:
            return next(filter(key.startswith, prefixes), None)

        return [
            (prefix, [key.removeprefix(prefix) for key in group])
            for prefix, group in groupby(keys, prefix_of)
            if prefix is not None
        ]

    # -- filling -----------------------------------------------------------------------

    def _take(self, work: _Work, runs: list[Run]) -> None:
        work.evictions = self._host.counters.evictions
        work.todo = runs

    def _find(self, work: _Work) -> None:
        """Read what was ordered and the newest list, of this host if it has one."""
        l2 = self._host.l2
        work.ordered = run(l2.kept_list(ORDERED))
        raw = run(l2.kept_list(name_of_host())) or run(l2.kept_list(ANY_HOST))
        found = decode_list(raw)
        work.least = sum(len(keys) for _, keys in found) // 2
        self._take(work, decode_list(work.ordered) + found)

    def _fill(self, work: _Work) -> None:
        """Read batch after batch until L1 is full, or is not trusted for a while."""
        if work.todo is None:
            work.todo = []  # if that fails, this worker begins cold
            self._find(work)
        rules, clock = self._host.rules, self._host.clock
        while not work.is_over and rules.is_on(clock()):
            if (batch := self._next(work)) is None:
                return
            target, full_keys = batch
            if full_keys:
                if not run(target.warm(THREADS, full_keys)):
                    return
                time.sleep(PAUSE_S)

    def _next(self, work: _Work) -> tuple[Target, list[str]] | None:
        """Take the next keys off the list; None if there are none for now."""
        host, todo = self._host, work.todo or []
        room = host.l1.max_entries - len(host.l1)
        if room <= 0 or host.counters.evictions > work.evictions:
            work.todo = []
            return None
        for each in todo:
            prefix, keys = each
            target = self.targets.get(prefix)
            if target is not None:
                taken = keys[: min(BATCH, room)]
                del keys[: len(taken)]
                if not keys:
                    todo.remove(each)
                return target, target.lacking_of_own(taken)
        return None
