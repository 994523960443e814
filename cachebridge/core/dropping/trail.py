"""Why keys are not in L1: the last few hundred drops, for ``why``.

Kept under the engine's lock, and off the way of a hit.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

KEPT: Final = 256
"""Drops that are remembered: a later one takes the place of the oldest."""

MESSAGE: Final = "message"
"""A peer changed the key."""
OWN_WRITE: Final = "own write"
"""This process changed the key, and has not read it since."""
EVICTED: Final = "evicted"
"""L1 needed room."""
TOGETHER: Final = "together"
"""It went with others of its prefix or tag."""
REFUSED: Final = {
    name: f"refused: {name}" for name in ("conflict", "off", "tags", "token")
}
"""A value was read and not stored, by the names in ``stats().fills_refused``."""


class Drop(NamedTuple):
    """One of them."""

    key_hash: int
    cause: str
    origin: bytes
    """Which process's message it was; empty for other causes."""
    write_id: int
    at: float
    """By the engine's clock."""


class Trail:
    """The drops of one L1.  It holds hashes of keys, never a key."""

    __slots__ = ("_clock", "_drops", "last_flush")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Forget everything, as in a forked child."""
        self._drops: deque[tuple[int, str, bytes, int, float]] = deque(maxlen=KEPT)
        self.last_flush: tuple[str, float] | None = None
        """Why L1 was emptied last, and when."""

    def note(
        self, key: str, cause: str, origin: bytes = b"", write_id: int = 0
    ) -> None:
        """Note that a key has left L1, or did not enter it; under the lock."""
        self._drops.append((hash(key), cause, origin, write_id, self._clock()))

    def note_all(self, keys: Iterable[str], cause: str) -> None:
        """Note the same of several keys."""
        for key in keys:
            self.note(key, cause)

    def flushed(self, cause: str) -> None:
        """Note that L1 was emptied."""
        self.last_flush = cause, self._clock()

    def last_of(self, key: str) -> Drop | None:
        """Return what happened to a key last; None if that is forgotten.  Any thread.

        Another key may have the same hash, once in about 10^16 times.
        """
        wanted = hash(key)
        for each in reversed(self._drops.copy()):
            if each[0] == wanted:
                return Drop(*each)
        return None
