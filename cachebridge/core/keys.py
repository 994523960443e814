"""Full keys: patterns for finding them again, and which keys L1 can hold."""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from cachebridge.errors import EntryNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

E = TypeVar("E", bound=Exception)

SHOWN_KEY: Final = 80
"""Characters of a key in an error or a log."""
COUNTER_PREFIX: Final = "cachebridge-counter:"
"""How the keys of counters begin; L1 holds none of their values."""
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

        True for Django's own keys, ``prefix:version:key``, whatever the version, and
        for keys with other marks between the parts.
        """
        rest = self.glob.removeprefix(escape_glob(self.prefix))
        return bool(self.prefix) and not any(map(str.isalnum, rest))


def matcher_of(glob: str) -> Callable[[str], object]:
    """Return what tells the keys that a pattern of Redis matches: with it, not None."""
    # fnmatch has no backslash: a class of one character stands for itself as well.
    pieces = [f"[{piece[1]}]" if piece[0] == "\\" else piece for piece in _pieces(glob)]
    return re.compile(fnmatch.translate("".join(pieces))).match


def _pieces(glob: str) -> list[str]:
    return re.findall(r"\\.|[^\\]", glob, re.DOTALL)


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


def not_found(key: object) -> EntryNotFoundError:
    """Return the exception of ``cache[key]`` for a key that does not exist."""
    return EntryNotFoundError(f"there is no entry for {shown_key(key)}")


def shown_key(key: object) -> str:
    """Return a key for errors and logs: escaped, and shortened if it is long."""
    text = repr(key)
    return text if len(text) <= SHOWN_KEY else f"{text[: SHOWN_KEY - 4]}...'"


def named(exc: E, where: str) -> E:
    """Let the text of an exception begin with what it is about; its type stays."""
    if len(exc.args) == 1 and isinstance(exc.args[0], str):
        exc.args = (f"{where}: {exc.args[0]}",)
    else:
        exc.add_note(where)
    return exc


def fits_message(key: str) -> bool:
    """Return whether a key is short enough to be named in a message."""
    return len(key) * 4 <= MAX_L1_KEY_BYTES or (
        len(key.encode("utf-8", "surrogatepass")) <= MAX_L1_KEY_BYTES
    )
