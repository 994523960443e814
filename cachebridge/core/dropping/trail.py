"""What has happened to keys in L1, for ``why`` and ``tail``: the last drops.

Kept under the engine's lock, and off the way of a hit.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

KEPT: Final = 256
"""Drops that are remembered: a later one takes the place of the oldest."""
WAITS_KEPT: Final = 32
"""The same of waits, which would push out the drops."""
MOST_NAME: Final = 200
"""Characters of a key that are remembered beside its hash."""

MESSAGE: Final = "message"
"""A peer changed the key."""
OWN_WRITE: Final = "own write"
"""This process changed the key, and has not read it since."""
EVICTED: Final = "evicted"
"""L1 needed room."""
TOGETHER: Final = "together"
"""It went with others of its prefix or tag."""
WAITED: Final = "waited"
"""No drop: a caller waited for the load of another process."""
FLUSHED: Final = "flushed"
"""L1 was emptied; the cause stands where the name of the key would."""
PROBED: Final = "probed"
"""A probe has found it older than the staleness bound."""
REFUSED: Final = {
    name: f"refused: {name}" for name in ("conflict", "off", "tags", "token")
}
"""A value was read and not stored, by the names in ``stats().fills_refused``."""


class Drop(NamedTuple):
    """One of them."""

    key_hash: int | None
    """None if L1 was emptied."""
    cause: str
    origin: bytes
    """Which process's message it was; empty for other causes."""
    write_id: int
    at: float
    """By the engine's clock."""
    key: str
    """The beginning of the full key."""


class Trail:
    """The drops of one L1.  It is bounded, and keeps no long key alive."""

    __slots__ = ("_clock", "_drops", "_waits", "last_flush")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Forget everything, as in a forked child."""
        self._drops: deque[tuple[int | None, str, bytes, int, float, str]]
        self._drops = deque(maxlen=KEPT)
        self._waits: deque[tuple[int | None, str, bytes, int, float, str]]
        self._waits = deque(maxlen=WAITS_KEPT)
        self.last_flush: tuple[str, float] | None = None
        """Why L1 was emptied last, and when."""

    def note(
        self, key: str, cause: str, origin: bytes = b"", write_id: int = 0
    ) -> None:
        """Note that a key has left L1, or did not enter it; under the lock."""
        self._drops.append(
            (hash(key), cause, origin, write_id, self._clock(), key[:MOST_NAME])
        )

    def note_all(self, keys: Sequence[str], cause: str) -> None:
        """Note the same of several keys."""
        for key in keys[-KEPT:]:
            self.note(key, cause)

    def flushed(self, cause: str) -> None:
        """Note that L1 was emptied."""
        now = self._clock()
        self.last_flush = cause, now
        self._drops.append((None, FLUSHED, b"", 0, now, cause))

    def waited(self, key: str) -> None:
        """Note that a caller waits for the load of another process.  Any thread."""
        told = (hash(key), WAITED, b"", 0, self._clock(), key[:MOST_NAME])
        self._waits.append(told)

    def last_of(self, key: str) -> Drop | None:
        """Return what happened to a key last; None if that is forgotten.  Any thread.

        Another key may have the same hash, once in about 10^16 times.
        """
        wanted = hash(key)
        for each in reversed(self._drops.copy()):
            if each[0] == wanted:
                return Drop(*each)
        return None

    def since(self, at: float) -> list[Drop]:
        """Return what is remembered from this time on, the newest last.  Any thread."""
        found = [*self._drops.copy(), *self._waits.copy()]
        lately = [Drop(*each) for each in found if each[4] >= at]
        return sorted(lately, key=lambda each: each.at)

    def reaches_back_to(self) -> float | None:
        """Return the time before which drops are forgotten; None if none is."""
        drops = self._drops.copy()
        return drops[0][4] if len(drops) == KEPT else None
