"""Which hash tag the keys of the session at each master of a cluster have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from cachebridge.bus.settings import HOME
from cachebridge.l2.cluster.slots import slot_of, tags

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from random import Random

T = TypeVar("T")


class SessionTags(Generic[T]):
    """A tag for each master, of a slot that it has.  For one thread at a time."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._slots: dict[T, int] = {}

    def of(self, masters: Iterable[T], owners: Sequence[T]) -> dict[T, bytes]:
        """Return a tag for each master; it stays while the master has its slot.

        ``owners`` has the master of each slot.  That of the home has the tag that the
        whole fleet knows.
        """
        slots = {}
        for master in masters:
            slot = self._slots.get(master, slot_of(HOME))
            if owners[slot] is not master:
                held = [at for at, owner in enumerate(owners) if owner is master]
                slot = self._random.choice(held or [slot])
            slots[master] = slot
        self._slots = slots
        home = owners[slot_of(HOME)]
        return {
            master: HOME if master is home else tags()[slot]
            for master, slot in slots.items()
        }
