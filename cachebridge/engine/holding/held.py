"""Which keys of a cache wait for a commit, and for whom.

Nothing of this is on the way of a hit: while a key is held, the fast path to L1 does
not know it.
"""

from __future__ import annotations

import os
from collections import deque
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine

    from cachebridge.core.coherence import Coherence

    Delete = Callable[[list[str]], Coroutine[Any, Any, object]]


_NONE: set[Any] = set()


class Owner:
    """A thread or task, with what it has started, while it holds something."""

    def __init__(self) -> None:
        self.marks: set[Mark] = set()
        """Those that are not over."""
        self.of_tags: dict[Held, set[Mark]] = {}
        """Those of them that hold the stamps of tags."""
        self.views: dict[Any, Any] = {}
        """What ``KeyOperations.seen_by`` has made for it."""


class Mark:
    """Says of some keys that they are held, until it is over."""

    __slots__ = (
        "__weakref__",
        "database",
        "delete",
        "is_over",
        "keys",
        "of_tags",
        "owner",
    )

    def __init__(
        self,
        owner: Owner,
        keys: Collection[str],
        delete: Delete,
        database: object,
        *,
        of_tags: bool,
    ) -> None:
        """``delete`` is called when the ``database`` has committed.

        ``of_tags``: the keys are the stamps of tags.
        """
        self.owner = owner
        self.keys = keys
        self.delete = delete
        self.database = database
        self.of_tags = of_tags
        self.is_over = False

    def goes_with(self, other: Mark) -> bool:
        """Return whether one call can delete the keys of both."""
        return self.delete == other.delete and self.database is other.database


class Held:
    """The keys of one cache that are held.  Thread safe."""

    def __init__(
        self,
        rules: Coherence,
        aliases: dict[str, str],
        alias_of: Callable[[str], str | None],
    ) -> None:
        """``aliases`` has full keys by the caller's keys, for the fast path.

        ``alias_of`` returns the caller's key of a full key.
        """
        self._rules = rules
        self.in_use = False
        """Whether any caller holds something, or is in a block.  Read without lock."""
        self._aliases = aliases
        self._alias_of = alias_of
        self._marks: dict[str, list[Mark]] = {}
        self._over: deque[Mark] = deque()
        self._blocks = 0
        self.renew_lock()
        _alive.add(self)

    def renew_lock(self) -> None:
        """Make the lock anew: another thread may have had it at a fork."""
        self._lock = Lock()

    def is_held(self, owner: Owner, full_key: str) -> bool:
        """Return whether the owner has changed the key, and has not committed."""
        marks = self._marks.get(full_key)
        return marks is not None and any(
            mark.owner is owner and not mark.is_over for mark in tuple(marks)
        )

    def add_alias(self, key: str, full_key: str) -> None:
        """Let the fast path find the key, unless it is held."""
        with self._lock:
            if full_key not in self._marks:
                self._aliases[key] = full_key

    def add(self, mark: Mark) -> None:
        """Say that the keys of a mark are held from now on.

        Which entries hang on a tag the fast path cannot know: no caller takes it then.
        """
        mark.owner.marks.add(mark)
        with self._lock:
            if mark.of_tags:
                mark.owner.of_tags.setdefault(self, set()).add(mark)
                self._rules.enter_bypass(mark)
            for full_key in mark.keys:
                self._marks.setdefault(full_key, []).append(mark)
                alias = self._alias_of(full_key)
                if alias is not None:
                    self._aliases.pop(alias, None)
            self._settle()

    def end(self, mark: Mark) -> None:
        """End a mark.  Takes no lock: the garbage collector may call it anywhere."""
        try:
            mark.owner.marks.remove(mark)
        except KeyError:
            return
        mark.owner.of_tags.get(self, _NONE).discard(mark)
        mark.is_over = True
        self._over.append(mark)

    def settle(self) -> None:
        """Forget the marks that are over."""
        if self._over:
            with self._lock:
                self._settle()

    def count_blocks(self, change: int) -> None:
        """Count the blocks that callers are in."""
        with self._lock:
            self._blocks += change
            self._settle()

    def _settle(self) -> None:
        while self._over:
            mark = self._over.popleft()
            self._rules.leave_bypass(mark)
            for full_key in mark.keys:
                marks = self._marks[full_key]
                marks.remove(mark)
                if not marks:
                    del self._marks[full_key]
        self.in_use = bool(self._blocks or self._marks)


_alive: WeakSet[Held] = WeakSet()


def _after_fork_in_child() -> None:
    for each in tuple(_alive):
        each.renew_lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
