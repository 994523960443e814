"""The commands of the Redis store: how they are packed, and how replies are read.

One Lua script per kind of write: it PUBLISHes first, then changes.  Redis does not roll
a script back, so a user without the right to the channel must fail before the change.
No other client can observe the order inside a script.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from cachebridge.core.dropping.tags import TAG_MARK
from cachebridge.l2.redis.names import is_own, is_record, key_of
from cachebridge.l2.store import NOT_AN_INTEGER, TAGGED, Counted
from cachebridge.resp import pack, pack_after, wrong_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from cachebridge.l2.store import Read

    Call: TypeAlias = tuple["Request", Callable[[list[Any]], "T"]]
    """A request, and what reads its replies."""

T = TypeVar("T")
Words = tuple[bytes, ...]
MOST_DIGITS: Final = 20


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script, and the hash under which the server keeps it."""

    text: bytes
    sha: bytes
    idempotent: bool
    """Whether running it twice does no harm."""
    heads: _Heads
    """What a call begins with, by its numbers of keys and of arguments."""


class _Heads(dict[tuple[int, int], bytes]):
    """Up to the keys, each call of a script with as many words is the same."""

    def __init__(self, sha: bytes) -> None:
        self._rest = b"\r\n$7\r\nEVALSHA\r\n$%d\r\n%b\r\n" % (len(sha), sha)

    def __missing__(self, counts: tuple[int, int]) -> bytes:
        keys = b"%d" % counts[0]
        total = 3 + sum(counts)
        head = b"*%d%b$%d\r\n%b" % (total, self._rest, len(keys), keys)
        if total < _FEW:
            self[counts] = head
        return head


_FEW: Final = 32


class Request(NamedTuple):
    """What one call sends and how many replies come back."""

    packed: bytes
    replies: int = 1
    idempotent: bool = True
    """Whether sending it twice does no harm."""
    script: Script | None = None
    keys: Words = ()
    args: Words = ()
    token: bytes = b""
    """The token of the lease that it may take."""
    reads: bool = False
    """Whether a replica may answer; so it may the script READ."""


def call_script(
    script: Script, keys: Words, args: Words, token: bytes = b""
) -> Request:
    """Run a script by its hash."""
    packed = pack_after(script.heads[len(keys), len(args)], (*keys, *args))
    return Request(packed, 1, script.idempotent, script, keys, args, token)


def load_script(request: Request) -> Request:
    """Send the script's text instead: the server keeps it for the next call."""
    script = request.script
    if script is None:
        raise AssertionError("only a script can be loaded")
    packed = pack(
        b"EVAL", script.text, b"%d" % len(request.keys), *request.keys, *request.args
    )
    return request._replace(packed=packed)


# -- what needs no script ---------------------------------------------------------


def get(key: bytes) -> Request:
    """GET and PTTL in one send; a write in between closes the fill by its message."""
    size = len(key)
    return Request(
        b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n*2\r\n$4\r\nPTTL\r\n$%d\r\n%b\r\n"
        % (size, key, size, key),
        2,
        keys=(key,),
        reads=True,
    )


def asking(request: Request, read: Callable[[list[Any]], T]) -> Call[T]:
    """Return the request as a node executes it that is being given the slot.

    The node must be told anew before each command; a script goes with its text.
    """
    ask = pack(b"ASKING")
    if request.script is not None:
        request = load_script(request)
    elif request.replies > 1:
        (key,) = request.keys
        if request.packed == standing(key).packed:
            pair = pack(b"EXISTS", key), pack(b"GETRANGE", key, b"0", b"1")
        else:
            pair = pack(b"GET", key), pack(b"PTTL", key)
        packed = ask.join([b"", *pair])
        return request._replace(packed=packed, replies=4), lambda r: read(r[1::2])
    packed = ask + request.packed
    return request._replace(packed=packed, replies=2), lambda r: read(r[1:])


def keep(key: bytes, raw: bytes, ttl_ms: int) -> Request:
    """SET of a key of cachebridge's own, which no message tells of."""
    return Request(pack(b"SET", key, raw, b"PX", b"%d" % ttl_ms), keys=(key,))


def exists(key: bytes) -> Request:
    """Whether the key exists."""
    return Request(pack(b"EXISTS", key), keys=(key,), reads=True)


def pttl(key: bytes) -> Request:
    """The rest of a key's TTL."""
    return Request(pack(b"PTTL", key), keys=(key,))


def standing(key: bytes) -> Request:
    """Whether the key exists, and how its value begins."""
    packed = pack(b"EXISTS", key) + pack(b"GETRANGE", key, b"0", b"1")
    return Request(packed, 2, keys=(key,), reads=True)


def scan(pattern: bytes, cursor: int, count: int) -> Request:
    """One step of a SCAN; a restarted server knows no earlier cursor."""
    return Request(
        pack(b"SCAN", b"%d" % cursor, b"MATCH", pattern, b"COUNT", b"%d" % count),
        idempotent=cursor == 0,
    )


def flush_db(channel: bytes, message: bytes) -> Request:
    """FLUSHDB and its message in one transaction; the last reply is EXEC's.

    Without a channel, FLUSHDB alone.
    """
    if not channel:
        return Request(pack(b"FLUSHDB"))
    words = ((b"MULTI",), (b"PUBLISH", channel, message), (b"FLUSHDB",), (b"EXEC",))
    return Request(b"".join([pack(*each) for each in words]), len(words))


def publish(channel: bytes, message: bytes) -> Request:
    """PUBLISH alone."""
    return Request(pack(b"PUBLISH", channel, message))


def ping() -> Request:
    """PING."""
    return Request(pack(b"PING"))


# -- replies -----------------------------------------------------------------------


def last_of(replies: list[Any]) -> Any:
    """Return the last reply; raise it if it is an error."""
    reply = replies[-1]
    if isinstance(reply, Exception):
        raise reply
    return reply


def of_kind(kind: type[T], reply: Any) -> T:
    """Return the reply if it is of this kind; raise it if it is an error."""
    if type(reply) is kind:
        return reply
    if isinstance(reply, Exception):
        raise reply
    raise wrong_kind(reply)


def read_pair(replies: list[Any]) -> Read:
    """Read the replies to ``get``."""
    raw, ttl_ms = replies
    if raw is not None and type(raw) is not bytes:
        of_kind(bytes, raw)
    if type(ttl_ms) is not int:
        of_kind(int, ttl_ms)
    return raw, ttl_ms


def read_pairs(count: int, replies: list[Any]) -> list[Read]:
    """Read the reply to ``READ``: the values of ``count`` keys, then their PTTLs."""
    reply = of_kind(list, last_of(replies))
    raws, ttls = reply[:count], reply[count:]
    if len(ttls) != count or not {*map(type, ttls)} <= {int}:
        raise wrong_kind(reply)
    if not {*map(type, raws)} <= {bytes, NoneType}:
        raise wrong_kind(reply)
    return list(zip(raws, ttls, strict=True))


def read_flag(replies: list[Any]) -> bool:
    """Read a reply that is 0 or 1."""
    return bool(of_kind(int, replies[-1]))


_STANDINGS: Final[dict[int, bool | str]] = {0: False, 1: True, 2: TAGGED}


def read_standing(replies: list[Any]) -> bool | str:
    """Read 0, 1, or 2 for a value that is tagged."""
    reply = of_kind(int, replies[-1])
    if reply not in _STANDINGS:
        raise wrong_kind(reply)
    return _STANDINGS[reply]


def read_existing(replies: list[Any]) -> bool | str:
    """Read the replies to ``standing``; no right to the second may hide a tag."""
    there, begin = replies
    if not of_kind(int, there):
        return False
    if isinstance(begin, Exception):
        text = str(begin)
        if text.startswith("NOPERM"):
            return TAGGED
        if not text.startswith("WRONGTYPE"):
            raise begin
        return True
    return TAGGED if of_kind(bytes, begin) == TAG_MARK else True


def read_count(replies: list[Any]) -> int:
    """Read a reply that is a number."""
    return of_kind(int, replies[-1])


def read_done(replies: list[Any]) -> None:
    """Read a reply that only says that the command was carried out."""
    last_of(replies)


def read_any(replies: list[Any]) -> None:
    """Read a reply that only says that the node is there, be it the wrong one."""
    if not str(replies[-1]).startswith("MOVED "):
        last_of(replies)


def read_stored(replies: list[Any]) -> Sequence[str]:
    """Read the reply to ``STORE``: Redis has room for all items, or refuses all."""
    last_of(replies)
    return ()


def read_counter(replies: list[Any]) -> int | str | None:
    """Read the reply to ``INCR``; NOT_AN_INTEGER if the server says so."""
    reply = replies[-1]
    if isinstance(reply, Exception):
        text = str(reply)
        if "not an integer" in text or "would overflow" in text:
            return NOT_AN_INTEGER
        raise reply
    return None if reply is None else _digits(of_kind(bytes, reply))


def read_counted(replies: list[Any]) -> Counted | None:
    """Read the reply to ``COUNT``."""
    match last_of(replies):
        case None:
            return None
        case [int(changed), bytes(digits), int(ttl_ms)]:
            return Counted(bool(changed), _digits(digits), ttl_ms)
        case reply:
            raise wrong_kind(reply)


def read_scan(replies: list[Any], *, records: bool) -> tuple[int, list[str]]:
    """Read the reply to ``scan``: a record stands for its key, if it counts."""
    match last_of(replies):
        case [bytes(cursor), list(names)] if {*map(type, names)} <= {bytes}:
            found = [
                key_of(name)
                for name in names
                if not is_own(name) and (records or not is_record(name))
            ]
            return _digits(cursor), found
        case reply:
            raise wrong_kind(reply)


def _digits(raw: bytes) -> int:
    if not raw.removeprefix(b"-").isdigit() or len(raw) > MOST_DIGITS:
        raise wrong_kind(raw)
    return int(raw)


def read_transaction(replies: list[Any]) -> bool:
    """Read the replies to ``flush_db``; raise the first error among them.

    If a command was refused, EXEC's own error does not say why: the command's does.
    """
    *queued, results = replies
    inner = results if isinstance(results, list) else [results]
    for reply in (*queued, *inner):
        if isinstance(reply, Exception):
            raise reply
    return True


# -- the scripts --------------------------------------------------------------------


def make_script(text: str, *, idempotent: bool = True) -> Script:
    """Make a script."""
    source = text.encode()
    sha = sha1(source, usedforsecurity=False).hexdigest().encode()
    return Script(source, sha, idempotent, _Heads(sha))
