"""What an item of Memcached holds, in its flags and in its bytes.

The flags, 32 bits::

    0-4    as other clients use them: pickle, integer, long, compressed, text
           of our own items those that are tagged say pickle and compressed, which they
           are not
    5      WRAPPED: the bytes begin with a header: the key, and what a load has left
    6      KEPT: the item outlives the TTL of its value, as a copy; the header knows
    7      LOADING: no value; a load has begun
    8      NO_SUCH: no value; a loader has said that there is no such thing
    9-31   the stamp (``clears.py``); 0 in items of other writers

Items without a value hold a pickled None, which a sealed mark of absence follows, and
those with a header claim to be pickles, which they are not: other clients find nothing,
too.  Values of pymemcache, python-memcached and pylibmc have no stamp; they are
rewritten as our serializer would have written them.  The other clients read ours as
they are.
"""

from __future__ import annotations

import pickle
import re
import struct
import zlib
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from cachebridge.bounds import inflate
from cachebridge.core.dropping.tags import TAG_MARK
from cachebridge.core.entry import INT64
from cachebridge.core.lease import PLAIN_MARK
from cachebridge.core.ttl import GONE_MS
from cachebridge.l2.keys import encode_key
from cachebridge.l2.memcached.protocol import (
    MemcachedError,
    expiry,
    numbers_of,
    seconds,
)
from cachebridge.l2.store import GONE

if TYPE_CHECKING:
    from cachebridge.l2.memcached.clears import Clears
    from cachebridge.l2.memcached.protocol import Answer
    from cachebridge.l2.store import Read

PICKLE, INTEGER, LONG, COMPRESSED, TEXT = (1 << bit for bit in range(5))
WRAPPED, KEPT, LOADING, NO_SUCH = (1 << bit for bit in range(5, 9))
TAGGED: Final = PICKLE | COMPRESSED
STAMP_SHIFT: Final = 9
MOST_DIGITS: Final = 20

_PICKLE_MARK: Final = b"\x80"
_PICKLED_NONE: Final = b"N."
_UNREADABLE: Final = b"\xcb"
"""Stands for a value whose writer is unknown: no serializer makes anything of it."""
_FOREIGN: Final = PICKLE | INTEGER | LONG | COMPRESSED | TEXT
_INTEGER: Final = re.compile(rb"-?(?:0|[1-9][0-9]*)").fullmatch
_LIKE_AN_INTEGER: Final = re.compile(
    rb"\s*[+-]?[0-9]+(?:[\s\0].*)?", re.DOTALL
).fullmatch
"""Bytes that Memcached would count with although they are no integer for us: a header
in front prevents that."""
_HEADER: Final = struct.Struct(">III")
"""Length of the key, seconds for which a copy is kept past the TTL, cost in ms."""


class State(Enum):
    """What reading an item has found."""

    NOTHING = "no item, or a dead one"
    VALUE = "a value within its TTL"
    COPY = "a value past its TTL"
    LOADING = "it is being loaded"
    NO_SUCH = "there is no such thing"


class Item(NamedTuple):
    """An item as it was read."""

    state: State
    raw: bytes | None = None
    """Of NO_SUCH the mark of absence; of LOADING nothing of use."""
    ttl_ms: int = GONE_MS
    """What is left of the TTL: -1 no expiry, -2 nothing."""
    age_ms: int = 0
    """How long a copy is past its TTL."""
    cost_ms: int = 0
    cas: int = 0
    """0 if there is no item at all."""
    keep_s: int = 0
    """For how long it outlives its TTL as a copy."""
    is_tagged: bool = False
    """Whether the value is one that its tags may have made invalid."""

    @property
    def read(self) -> Read:
        """What a reader of the key gets to see."""
        return (self.raw, self.ttl_ms) if self.state is State.VALUE else GONE


NOTHING: Final = Item(State.NOTHING)


class Packed(NamedTuple):
    """An item as it is written."""

    flags: int
    expiry: int
    block: bytes

    @property
    def stamp(self) -> int:
        """The latest clear that the writer knew of."""
        return self.flags >> STAMP_SHIFT


def pack(
    key: str,
    raw: bytes,
    ttl_ms: int | None,
    stamp: int,
    *,
    is_hashed: bool,
    keep_ms: int = 0,
    cost_ms: int = 0,
) -> Packed:
    """Return the item of a value; ``keep_ms`` is how long a copy outlives its TTL."""
    flags = stamp << STAMP_SHIFT
    needs_header = is_hashed or (ttl_ms is not None and (keep_ms or cost_ms))
    if raw.startswith(_PICKLE_MARK):
        flags |= PICKLE
    elif raw.startswith(TAG_MARK):
        flags |= TAGGED
    elif is_int64(raw):
        flags |= INTEGER
    elif _LIKE_AN_INTEGER(raw):
        needs_header = True
    ttl_s = None if ttl_ms is None else seconds(ttl_ms)
    if not needs_header:
        return Packed(flags, expiry(ttl_s), raw)
    name = encode_key(key) if is_hashed else b""
    keep_s = 0 if ttl_s is None else seconds(keep_ms)
    header = _HEADER.pack(len(name), keep_s, cost_ms)
    if ttl_s is not None:
        ttl_s += keep_s
    flags = flags & COMPRESSED | stamp << STAMP_SHIFT | PICKLE | WRAPPED
    flags |= KEPT if keep_s else 0
    return Packed(flags, expiry(ttl_s), header + name + raw)


def is_int64(raw: bytes) -> bool:
    """Return whether Memcached and we read the same number from these bytes."""
    return len(raw) <= MOST_DIGITS and bool(_INTEGER(raw)) and int(raw) in INT64


def pack_mark(kind: int, ttl_s: int, stamp: int, absence: bytes = PLAIN_MARK) -> Packed:
    """Return an item without a value: LOADING, or NO_SUCH with its mark of absence."""
    flags = PICKLE | kind | stamp << STAMP_SHIFT
    sealed = b"" if absence == PLAIN_MARK else absence
    return Packed(flags, expiry(ttl_s), _PICKLED_NONE + sealed)


def is_kept(answer: Answer) -> bool:
    """Return whether the reply to ``look_at`` may be of a value or of a copy."""
    if isinstance(answer, MemcachedError):
        raise answer
    numbers = numbers_of(answer)
    if numbers is None:
        return False
    flags = numbers[0]
    return bool(flags & KEPT and flags >> STAMP_SHIFT)


def read_item(answer: Answer, key: str, clears: Clears, *, is_hashed: bool) -> Item:
    """Return what the reply to ``protocol.read`` or ``look_at`` says of a key.

    The bytes are in ``raw`` if they were asked for.
    """
    if isinstance(answer, MemcachedError):
        raise answer
    numbers, block = numbers_of(answer), answer.block
    if numbers is None:
        return NOTHING
    flags, ttl_s, cas = numbers
    if clears.is_dead(key, flags >> STAMP_SHIFT):
        return Item(State.NOTHING, cas=cas)
    ttl_ms = ttl_s * 1000 if ttl_s >= 0 else -1
    if not flags >> STAMP_SHIFT and not is_hashed:
        raw = None if block is None else _adopt(block, flags)
        return Item(State.VALUE, raw, ttl_ms, cas=cas)
    if flags & (LOADING | NO_SUCH):
        state = State.LOADING if flags & LOADING else State.NO_SUCH
        mark = (block or b"")[len(_PICKLED_NONE) :] or PLAIN_MARK
        return Item(state, mark, ttl_ms, cas=cas)
    is_tagged = flags & TAGGED == TAGGED
    if flags & WRAPPED and block is not None:
        item = _unwrap(block, key, ttl_s, cas, is_hashed=is_hashed)
        return item._replace(is_tagged=is_tagged)
    if block is not None and flags & INTEGER:
        block = block.rstrip(b" ")  # digits grown fewer
    state = State.NOTHING if is_hashed else State.VALUE  # hashed, but without the key
    return Item(state, block, ttl_ms, cas=cas, is_tagged=is_tagged)


def _unwrap(block: bytes, key: str, ttl_s: int, cas: int, *, is_hashed: bool) -> Item:
    if len(block) < _HEADER.size:
        return Item(State.NOTHING, cas=cas)
    length, keep_s, cost_ms = _HEADER.unpack_from(block)
    start = _HEADER.size + length
    if is_hashed and block[_HEADER.size : start] != encode_key(key):
        return Item(State.NOTHING, cas=cas)
    raw = block[start:]
    if ttl_s < 0:
        return Item(State.VALUE, raw, -1, 0, cost_ms, cas)
    left_s = ttl_s - keep_s
    if left_s > 0:
        return Item(State.VALUE, raw, left_s * 1000, 0, cost_ms, cas, keep_s)
    # The server counts whole seconds: the copy may be as old as that.
    return Item(State.COPY, raw, GONE_MS, (1 - left_s) * 1000, cost_ms, cas, keep_s)


def _adopt(block: bytes, flags: int) -> bytes:
    """Return what our serializer would have written for another client's value."""
    if flags & ~_FOREIGN:
        return _UNREADABLE
    try:
        if flags & COMPRESSED:
            block = inflate(block)
        if flags & TEXT:
            return pickle.dumps(block.decode())
    except (
        zlib.error,
        OverflowError,
        UnicodeDecodeError,
    ):  # libmc's flags have other meanings
        return _UNREADABLE
    if flags & (INTEGER | LONG):
        return block.rstrip(b" ")
    return block if flags & PICKLE else pickle.dumps(block)
