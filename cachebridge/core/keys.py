"""Full keys: patterns for finding them again, which L1 can hold; and what a tag is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeVar

from cachebridge.errors import EntryNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

E = TypeVar("E", bound=Exception)

SHOWN_KEY: Final = 80
"""Characters of a key in an error or a log."""
OWN_PREFIX: Final = "cachebridge-"
"""How the keys begin that are no caller's: of counters, and of stamps."""
COUNTER_PREFIX: Final = "cachebridge-counter:"
"""How the keys of counters begin; L1 holds none of their values."""
ANY_KEY: Final = "cachebridge-any-key"
ANY_VERSION: Final = "cachebridge-any-version"
MAX_L1_KEY_BYTES: Final = 0xFFFF
"""A longer key does not fit into a message; no process holds it in L1."""

MAX_START: Final = 8192
"""Characters of the beginning of a pattern's keys that peers are told."""

NO_TAGS: Final = ()
MAX_TAGS: Final = 32
"""Of one value."""
MAX_TAG_BYTES: Final = 200
Tags: TypeAlias = Sequence[str] | AbstractSet[str] | None
"""What a caller gives: a list, a tuple or a set of str."""
_LAST_CONTROL: Final = "\x1f"
_DELETE: Final = "\x7f"

_GLOB_MARKS: Final = re.compile(r"([*?\[\]\\])")
_PIECES: Final = re.compile(r"\\.|.", re.DOTALL)


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


def escape_glob(text: str) -> str:
    """Make every character of ``text`` stand for itself in a Redis pattern."""
    return _GLOB_MARKS.sub(r"\\\1", text)


class Affixes(NamedTuple):
    """What stands before and behind a caller's key in its full key."""

    before: str
    after: str = ""

    def pattern(self, glob: str) -> KeyPattern:
        """Return the pattern of the full keys whose caller's part ``glob`` matches."""
        if self.after and (len(glob) - len(glob.rstrip("\\"))) % 2:
            glob += "\\"  # the last one stands for itself
        whole = escape_glob(self.before) + glob + escape_glob(self.after)
        start = self.before + literal_start(glob)
        return KeyPattern(whole, start[:MAX_START])

    def key_of(self, full_key: str) -> str:
        """Return the caller's part of a full key."""
        return full_key.removeprefix(self.before).removesuffix(self.after)


def affixes_of(make_key: Callable[[str], str]) -> Affixes | None:
    """Derive what ``make_key`` puts around a key; None if the key does not show."""
    try:
        before, key, after = make_key(ANY_KEY).partition(ANY_KEY)
    except (TypeError, ValueError):
        return None
    return Affixes(before, after) if key and ANY_KEY not in after else None


def matches_everything(glob: str) -> bool:
    """Return whether the pattern is made of ``*`` and ``?`` alone: it leaves no key."""
    return "*" in glob and set(glob) <= {"*", "?"}


def literal_start(glob: str) -> str:
    """Return the text with which everything begins that the pattern matches."""
    text = []
    for piece in _PIECES.findall(glob):
        if piece in {"*", "?", "["}:
            break
        text.append(piece[-1])
    return "".join(text)


def matcher_of(glob: str) -> Callable[[str], object]:
    """Return what tells the keys that a pattern of Redis matches: with it, not None.

    As in Redis ``?`` and a class stand for one byte, of which some letters have more.
    """
    match = re.compile(_regex_of(_to_bytes(glob)), re.DOTALL).fullmatch
    return lambda key: match(_to_bytes(key))


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _regex_of(glob: bytes) -> bytes:
    """Return the same pattern for ``re``, which never tries a ``*`` twice."""
    parts, at = [b""], 0
    while at < len(glob):
        mark, at = glob[at : at + 1], at + 1
        if mark == b"*":
            parts.append(b"")
        elif mark == b"?":
            parts[-1] += b"."
        elif mark == b"[":
            members, at = _members_of(glob, at)
            parts[-1] += b"[%b]" % members if members else b"(?!)"
        else:
            if mark == b"\\" and at < len(glob):
                mark, at = glob[at : at + 1], at + 1
            parts[-1] += re.escape(mark)
    if len(parts) == 1:
        return parts[0]
    first, *inner, last = parts
    found = [b"(?>.*?%b)" % part for part in inner if part]
    return b"%b%b.*%b" % (first, b"".join(found), last)


def _members_of(glob: bytes, at: int) -> tuple[bytes, int]:
    """Return the bytes of the class whose inside begins at ``at``, and where it ends.

    One that is not closed goes on to the end, as in Redis.
    """
    is_negated = glob[at : at + 1] == b"^"
    at += is_negated
    members: set[int] = set()
    while at < len(glob) and glob[at : at + 1] != b"]":
        if glob[at : at + 1] == b"\\" and at + 1 < len(glob):
            members.add(glob[at + 1])
            at += 2
        elif glob[at + 1 : at + 2] == b"-" and at + 2 < len(glob):
            low, high = sorted((glob[at], glob[at + 2]))
            members.update(range(low, high + 1))
            at += 3
        else:
            members.add(glob[at])
            at += 1
    if is_negated:
        members = set(range(256)) - members
    return b"".join([b"\\x%02x" % member for member in sorted(members)]), at + 1


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


def tags_of(tags: Any) -> tuple[str, ...]:
    """Return the tags that a caller gives, each once; None is none.

    Raises TypeError and ValueError for what cannot be tags of one value.
    """
    if tags is None:
        return NO_TAGS
    if not isinstance(tags, (list, tuple, set, frozenset)):
        hint = f": write [{shown_key(tags)}]" if isinstance(tags, str) else ""
        raise TypeError(
            f"tags must be a list, tuple or set of str, not {type(tags).__name__}{hint}"
        )
    if len(tags) > MAX_TAGS:
        raise ValueError(
            f"a value can have {MAX_TAGS} tags at most, these are {len(tags)}"
        )
    return names_of(tags)


def names_of(tags: Any) -> tuple[str, ...]:
    """Return the tags of a call that takes any number of them, each once.

    Raises TypeError and ValueError for what is no tag.
    """
    names = list(tags)
    for name in names:
        _require_tag(name)
    return tuple(dict.fromkeys(names))


def _require_tag(name: Any) -> None:
    """Raise TypeError or ValueError for what is no tag."""
    if not isinstance(name, str):
        raise TypeError(
            f"a tag must be a str, not {type(name).__name__}: {shown_key(name)}"
        )
    if not name:
        raise ValueError("a tag must not be empty")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ValueError(
            f"a tag must be valid Unicode, without lone surrogates: {shown_key(name)}"
        ) from None
    if size > MAX_TAG_BYTES:
        raise ValueError(
            f"a tag can have {MAX_TAG_BYTES} bytes of UTF-8, {shown_key(name)} has "
            f"{size}"
        )
    if any(char <= _LAST_CONTROL or char == _DELETE for char in name):
        raise ValueError(f"a tag must have no control characters: {shown_key(name)}")
