"""The command text of the Redis store: what is sent, the same for every client colour.

One Lua script per kind of write: it PUBLISHes first, then changes.  Redis does not roll
a script back, so a user without the right to the channel must fail before the change.
Inside a script nobody can observe the order.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from typing import TYPE_CHECKING, Final, NamedTuple

from cachebridge.core.lease import RECORD_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cachebridge.l2.base import Ttl

Words = tuple[bytes, ...]
SCAN_COUNT: Final = b"1000"
_SUFFIX: Final = RECORD_SUFFIX.encode()
_PX: Final = b"PX"


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the plain commands that do the same in a MULTI/EXEC.

    ``plain`` is None where plain commands cannot do it.
    """

    text: bytes
    sha: bytes
    plain: Callable[[Words, Words], list[Words]] | None


class Request(NamedTuple):
    """What one call sends and how many replies come back."""

    packed: bytes
    replies: int = 1
    idempotent: bool = True
    """Whether sending it twice does no harm."""
    script: Script | None = None
    keys: Words = ()
    args: Words = ()


def pack(*words: bytes) -> bytes:
    """Return one command in Redis's wire format."""
    parts = [b"*%d\r\n" % len(words)]
    parts.extend([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])
    return b"".join(parts)


def encode_key(key: str) -> bytes:
    """Return the bytes of a key; lone surrogates survive the round trip."""
    return key.encode("utf-8", "surrogatepass")


def decode_key(raw: bytes) -> str:
    """Undo ``encode_key``; foreign bytes come back as something, never as an error."""
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def call_script(
    script: Script, keys: Words, args: Words, *, idempotent: bool = True
) -> Request:
    """Run a script by its hash."""
    packed = pack(b"EVALSHA", script.sha, b"%d" % len(keys), *keys, *args)
    return Request(packed, 1, idempotent, script, keys, args)


def load_script(request: Request) -> Request:
    """Send the script's text instead: the server keeps it for the next call."""
    script = request.script
    if script is None:
        raise AssertionError("only a script can be loaded")
    packed = pack(
        b"EVAL", script.text, b"%d" % len(request.keys), *request.keys, *request.args
    )
    return request._replace(packed=packed)


def transaction(commands: list[Words]) -> Request:
    """Several commands in one MULTI/EXEC, in one send; the last reply is EXEC's."""
    packed = b"".join([_MULTI, *[pack(*words) for words in commands], _EXEC])
    return Request(packed, len(commands) + 2)


# -- reads -----------------------------------------------------------------------


def get(key: bytes) -> Request:
    """GET and PTTL in one send; a write in between closes the fill by its message."""
    size = len(key)
    return Request(
        b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n*2\r\n$4\r\nPTTL\r\n$%d\r\n%b\r\n"
        % (size, key, size, key),
        replies=2,
    )


def get_many(keys: Words) -> Request:
    """All values and PTTLs in one reply."""
    return call_script(READ, keys, ())


def exists(key: bytes) -> Request:
    """Whether the key exists."""
    return Request(pack(b"EXISTS", key))


def scan(pattern: bytes, cursor: int) -> Request:
    """One step of a SCAN."""
    return Request(
        pack(b"SCAN", b"%d" % cursor, b"MATCH", pattern, b"COUNT", SCAN_COUNT)
    )


# -- writes ------------------------------------------------------------------------


def store(
    items: Sequence[tuple[bytes, bytes]],
    ttl_ms: Ttl,
    channel: bytes,
    message: bytes | None,
) -> Request:
    """SET every item; TTLs of their own, if any, follow after the values."""
    keys = tuple([key for key, _ in items])
    values = [raw for _, raw in items]
    if isinstance(ttl_ms, list):
        values += [b"%d" % each for each in ttl_ms]
        ttl = b""
    else:
        ttl = b"" if ttl_ms is None else b"%d" % ttl_ms
    return call_script(STORE, keys, (channel, message or b"", ttl, *values))


def add(
    key: bytes, raw: bytes, ttl_ms: int | None, channel: bytes, message: bytes | None
) -> Request:
    """SET if absent.  Not sent twice: the second would deny the first its success."""
    ttl = b"" if ttl_ms is None else b"%d" % ttl_ms
    args = (channel, message or b"", ttl, raw)
    return call_script(ADD, (key,), args, idempotent=False)


def touch(
    key: bytes, ttl_ms: int | None, channel: bytes, message: bytes | None
) -> Request:
    """Change the TTL of an existing key."""
    ttl = b"" if ttl_ms is None else b"%d" % ttl_ms
    return call_script(TOUCH, (key,), (channel, message or b"", ttl))


def delete(keys: Words, channel: bytes, message: bytes | None) -> Request:
    """UNLINK the keys; publishes always: an absent key may live on in a peer's L1."""
    return call_script(DELETE, keys, (channel, message or b""))


def incr(key: bytes, delta: int, channel: bytes, message: bytes | None) -> Request:
    """INCRBY of an existing key.  Never sent twice."""
    args = (channel, message or b"", b"%d" % delta)
    return call_script(INCR, (key,), args, idempotent=False)


def replace(
    key: bytes,
    expected: bytes,
    raw: bytes | None,
    channel: bytes,
    message: bytes | None,
) -> Request:
    """Compare and set, or compare and delete.  Not sent twice: it would see itself."""
    args = (channel, message or b"", expected) + (() if raw is None else (raw,))
    return call_script(REPLACE, (key,), args, idempotent=False)


def flush_db(channel: bytes, message: bytes) -> Request:
    """FLUSHDB and its message in one transaction."""
    return transaction([(b"PUBLISH", channel, message), (b"FLUSHDB",)])


def publish(channel: bytes, message: bytes) -> Request:
    """PUBLISH alone."""
    return Request(pack(b"PUBLISH", channel, message))


def ping() -> Request:
    """PING."""
    return Request(pack(b"PING"))


# -- the scripts and their plain forms ----------------------------------------------


def make_script(
    text: str, plain: Callable[[Words, Words], list[Words]] | None = None
) -> Script:
    """Make a script; ``plain`` does the same in a transaction, where that can be."""
    source = text.encode()
    return Script(
        source, sha1(source, usedforsecurity=False).hexdigest().encode(), plain
    )


def _expiry(ttl: bytes) -> Words:
    return (_PX, ttl) if ttl else ()


def _record_of(key: bytes) -> bytes:
    """Return the name of the key's load record."""
    return key + _SUFFIX


def _plain_read(keys: Words, _args: Words) -> list[Words]:
    return [(b"MGET", *keys), *[(b"PTTL", key) for key in keys]]


def _plain_store(keys: Words, args: Words) -> list[Words]:
    channel, message, ttl, *values = args
    ttls = values[len(keys) :] or [ttl] * len(keys)
    return [
        (b"PUBLISH", channel, message),
        *[
            (b"SET", key, raw, *_expiry(each))
            for key, raw, each in zip(keys, values, ttls, strict=False)
        ],
        (b"UNLINK", *map(_record_of, keys)),
    ]


def _plain_add(keys: Words, args: Words) -> list[Words]:
    channel, message, ttl, raw = args
    return [
        (b"PUBLISH", channel, message),
        (b"UNLINK", _record_of(keys[0])),
        (b"SET", keys[0], raw, b"NX", *_expiry(ttl)),
    ]


def _plain_touch(keys: Words, args: Words) -> list[Words]:
    channel, message, ttl = args
    change = (b"PEXPIRE", keys[0], ttl) if ttl else (b"PERSIST", keys[0])
    return [(b"PUBLISH", channel, message), change, (b"EXISTS", keys[0])]


def _plain_delete(keys: Words, args: Words) -> list[Words]:
    channel, message = args
    return [
        (b"PUBLISH", channel, message),
        (b"UNLINK", *map(_record_of, keys)),
        (b"UNLINK", *keys),
    ]


READ: Final = make_script(
    """local r = redis.call('MGET', unpack(KEYS))
local n = #KEYS
for i = 1, n do r[n + i] = redis.call('PTTL', KEYS[i]) end
return r""",
    _plain_read,
)
_PUBLISH: Final = "if ARGV[2] ~= '' then redis.call('PUBLISH', ARGV[1], ARGV[2]) end\n"
_UNLINK_RECORD: Final = f"redis.call('UNLINK', KEYS[1] .. '{RECORD_SUFFIX}')\n"
_UNLINK_RECORDS: Final = f"""if #KEYS == 1 then {_UNLINK_RECORD}else
  for i = 1, #KEYS, 5000 do
    local records = {{}}
    for j = i, math.min(i + 4999, #KEYS) do
      records[#records + 1] = KEYS[j] .. '{RECORD_SUFFIX}'
    end
    redis.call('UNLINK', unpack(records))
  end
end
"""
# A script that has written something may go on over maxmemory: the SETs come first.
STORE: Final = make_script(
    _PUBLISH
    + """local n = #KEYS
for i = 1, n do
  local ttl = ARGV[i + n + 3] or ARGV[3]
  if ttl == '' then redis.call('SET', KEYS[i], ARGV[i + 3])
  else redis.call('SET', KEYS[i], ARGV[i + 3], 'PX', ttl) end
end
"""
    + _UNLINK_RECORDS,
    _plain_store,
)
ADD: Final = make_script(
    "if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end\n"
    + _PUBLISH
    + """if ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[4])
else redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[3]) end
"""
    + _UNLINK_RECORD
    + "return 1",
    _plain_add,
)
TOUCH: Final = make_script(
    "if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end\n"
    + _PUBLISH
    + """if ARGV[3] == '' then redis.call('PERSIST', KEYS[1])
else redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return 1""",
    _plain_touch,
)
DELETE: Final = make_script(
    _PUBLISH
    + _UNLINK_RECORDS
    + """local n = 0
for i = 1, #KEYS, 5000 do
  n = n + redis.call('UNLINK', unpack(KEYS, i, math.min(i + 4999, #KEYS)))
end
return n""",
    _plain_delete,
)
INCR: Final = make_script(
    "if redis.call('EXISTS', KEYS[1]) == 0 then return false end\n"
    + _PUBLISH
    + """redis.call('INCRBY', KEYS[1], ARGV[3])
"""
    + _UNLINK_RECORD
    + """return redis.call('GET', KEYS[1])"""
)
"""Returns digits: a number would be a double in Lua, exact up to 2**53 only."""
REPLACE: Final = make_script(
    "if redis.call('GET', KEYS[1]) ~= ARGV[3] then return 0 end\n"
    + _PUBLISH
    + """if ARGV[4] then redis.call('SET', KEYS[1], ARGV[4], 'KEEPTTL')
else redis.call('UNLINK', KEYS[1]) end
"""
    + _UNLINK_RECORD
    + "return 1"
)
_MULTI: Final = pack(b"MULTI")
_EXEC: Final = pack(b"EXEC")
