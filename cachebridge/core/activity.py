"""What the rules keep of each key with running calls, and until when L1 may hit."""

from __future__ import annotations

from typing import Any, Final

from cachebridge.core.outage import NEVER

NO_TOKEN: Final = -1
"""The token of a fill that may not store whatever happens."""
NONE: Final[frozenset[Any]] = frozenset()
"""No members, no writes."""


class KeyActivity:
    """The running fills and writes of one key.

    The sets are frozen: the keys of one call share them.  Two sets for each key would
    be most of the memory that ``set_many`` touches.
    """

    __slots__ = ("generation", "members", "writes")

    def __init__(self, members: frozenset[object]) -> None:
        self.members = members
        self.generation = 0
        self.writes: frozenset[int] = NONE


class Gate:
    """Until when a look-up may hit: the one figure that the hit path compares."""

    __slots__ = ("until",)

    def __init__(self) -> None:
        self.until = NEVER
