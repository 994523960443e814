"""Full keys: patterns for finding them again, and which keys L1 can hold."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

ANY_KEY: Final = "cachebridge-any-key"
ANY_VERSION: Final = "cachebridge-any-version"
MAX_L1_KEY_BYTES: Final = 0xFFFF
"""A longer key does not fit into a message; no process holds it in L1."""

_GLOB_MARKS: Final = re.compile(r"([*?\[\]\\])")


class KeyPattern(NamedTuple):
    """All keys of one cache: as a glob of Redis, and as the text they begin with."""

    glob: str
    prefix: str

    @property
    def is_told_by_prefix(self) -> bool:
        """Whether what begins with the prefix is of this cache, and nothing else.

        So it is with Django's own keys, ``prefix:version:key``, whatever the version,
        also with other marks between them.
        """
        rest = self.glob.removeprefix(escape_glob(self.prefix))
        return bool(self.prefix) and not any(map(str.isalnum, rest))


def escape_glob(text: str) -> str:
    """Make every character of ``text`` stand for itself in a Redis pattern."""
    return _GLOB_MARKS.sub(r"\\\1", text)


def pattern_of_prefix(prefix: str) -> KeyPattern:
    """Return the pattern of all keys that begin with ``prefix``."""
    return KeyPattern(escape_glob(prefix) + "*", prefix)


def pattern_of(make_key: Callable[[str, str], str]) -> KeyPattern | None:
    """Derive the pattern of ``make_key(key, version)`` by calling it with marks.

    None if the key does not show in the result, as when it is hashed, or if nothing
    else does: then no pattern can tell this cache's keys from others.
    """
    try:
        sample = make_key(ANY_KEY, ANY_VERSION)
    except (TypeError, ValueError):
        return None
    if sample.count(ANY_KEY) != 1:
        return None
    pieces = re.split(f"{ANY_KEY}|{ANY_VERSION}", sample)
    if not any(pieces):
        return None
    glob = "*".join(escape_glob(piece) for piece in pieces)
    return KeyPattern(glob, pieces[0])


def fits_message(key: str) -> bool:
    """Tell whether a key is short enough to be named in a message."""
    return len(key) * 4 <= MAX_L1_KEY_BYTES or (
        len(key.encode("utf-8", "surrogatepass")) <= MAX_L1_KEY_BYTES
    )
