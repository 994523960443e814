"""The command text for loading a value under a lease: see ``core/lease.py``.

The load record is a hash beside the key::

    g  generation: the token of the first load, kept by whoever takes over
    o  owner: the token of the load that has the lease
    d  deadline of the lease         (milliseconds of the server's clock)
    l  length of the lease, lest a clock that is set back make it longer
    f  set if the owner's load has failed: its lease only keeps others from trying
    u  set if what was loaded can serve nobody else: everybody may load
    s  stale copy of the value
    e  when the value's TTL ends     (milliseconds of the server's clock)
    c  cost of the last load in milliseconds
    a  set if there is no such thing

Servers that refuse scripts give no leases and keep no records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cachebridge.core.lease import (
    RECORD_MS,
    RECORD_SUFFIX,
    LoadReply,
    Look,
    LookState,
)
from cachebridge.l2.commands import Request, Script, call_script, make_script

if TYPE_CHECKING:
    from cachebridge.core.lease import LoadedRaw, LookTerms


def look(key: bytes, token: bytes, terms: LookTerms) -> Request:
    """Read the key and its record, and take the lease if there is nothing to serve."""
    numbers = [terms.lease_ms, terms.stale_ms, terms.stale_if_error_ms]
    args = (
        token,
        *[b"%d" % number for number in numbers],
        b"refresh" if terms.is_refresh else b"join" if terms.joins else b"",
    )
    # Sent twice, the same token finds its own lease.
    return call_script(LOOK, (key,), args)


def read_look(reply: list[Any], token: bytes) -> Look:
    """Read the reply to ``look``."""
    state, raw, ttl_ms, cost_ms, wait_ms, generation = reply
    return Look(
        LookState(state), raw, ttl_ms, cost_ms, wait_ms, generation or b"", token
    )


def store_loaded(
    key: bytes, loaded: LoadedRaw, look: Look, channel: bytes, message: bytes | None
) -> Request:
    """SET under the generation of ``look``.  Not sent twice: it would see itself."""
    args = (
        channel,
        message or b"",
        look.generation,
        loaded.raw,
        b"" if loaded.ttl_ms is None else b"%d" % loaded.ttl_ms,
        b"%d" % loaded.keep_ms,
        b"%d" % loaded.cost_ms,
        b"" if look.raw is not None else b"1",
    )
    return call_script(STORE_LOADED, (key,), args, idempotent=False)


def store_absent(
    key: bytes, ttl_ms: int, look: Look, channel: bytes, message: bytes | None
) -> Request:
    """Note that there is no such thing, under the generation of ``look``."""
    args = (
        channel,
        message or b"",
        look.generation,
        b"%d" % ttl_ms,
        b"" if look.raw is not None else b"1",
    )
    return call_script(STORE_ABSENT, (key,), args, idempotent=False)


def read_load_reply(reply: list[Any]) -> LoadReply:
    """Read the reply to ``store_loaded`` and ``store_absent``."""
    stored, *read = reply
    return LoadReply(bool(stored), *read)


def release(
    key: bytes, look: Look, keep_ms: int, channel: bytes, message: bytes | None
) -> Request:
    """End the lease of ``look`` without a value."""
    args = (channel, message or b"", look.token, b"%d" % keep_ms)
    return call_script(RELEASE, (key,), args)


def release_unshared(
    key: bytes, look: Look, lease_ms: int, channel: bytes, message: bytes | None
) -> Request:
    """End the lease of ``look``, and let everybody load for a while."""
    args = (channel, message or b"", look.token, b"%d" % lease_ms)
    return call_script(RELEASE_UNSHARED, (key,), args)


_NOW: Final = """local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
"""
_RECORD: Final = f"local record = KEYS[1] .. '{RECORD_SUFFIX}'\n"

LOOK: Final[Script] = make_script(
    _RECORD
    + f"local record_ms = {RECORD_MS}\n"
    + """local raw = redis.call('GET', KEYS[1])
local left, cost = -2, 0
if raw then
  left = redis.call('PTTL', KEYS[1])
  cost = tonumber(redis.call('HGET', record, 'c') or 0)
  if ARGV[5] ~= 'refresh' then return {'hit', raw, left, cost, 0, ''} end
end
local r = redis.call('HMGET', record, 'g', 'o', 'd', 'f', 'u', 'e', 'a', 'l')
if r[7] and not raw then
  return {'absent', false, redis.call('PTTL', record), 0, 0, ''}
end
"""
    + _NOW
    + """local age = r[6] and redis.call('HEXISTS', record, 's') == 1 and now - r[6]
if age and not raw and ARGV[5] ~= 'refresh' and age <= tonumber(ARGV[3]) then
  return {'stale', redis.call('HGET', record, 's'), 0, cost, 0, ''}
end
local wait = r[3] and r[3] - now or 0
if wait > tonumber(r[8] or 0) then wait = 0 end
if wait > 0 and r[2] ~= ARGV[1] and not r[5] and ARGV[5] ~= 'join' then
  local copy = false
  if r[4] and age and not raw and age <= tonumber(ARGV[4]) then
    copy = redis.call('HGET', record, 's')
  end
  return {'busy', copy, 0, cost, wait, ''}
end
local generation = r[1] or ARGV[1]
redis.call('HSET', record, 'g', generation, 'o', ARGV[1], 'd', now + ARGV[2],
  'l', ARGV[2])
if r[4] then redis.call('HDEL', record, 'f') end
if not r[1] and (not age or redis.call('PTTL', record) < record_ms) then
  redis.call('PEXPIRE', record, record_ms)
end
return {'lease', raw, left, cost, 0, generation}"""
)

_UNDER_GENERATION: Final = (
    _RECORD
    + """local function refused(only_if_absent)
  if redis.call('HGET', record, 'g') == ARGV[3] and
    (only_if_absent == '' or redis.call('EXISTS', KEYS[1]) == 0) then return nil end
  return {0, redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1])}
end
"""
)

STORE_LOADED: Final[Script] = make_script(
    _UNDER_GENERATION
    + """local no = refused(ARGV[8])
if no then return no end
if ARGV[2] ~= '' then redis.call('PUBLISH', ARGV[1], ARGV[2]) end
local ttl, keep, cost = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
if ttl then redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[5])
else redis.call('SET', KEYS[1], ARGV[4]) end
redis.call('UNLINK', record)
if not ttl then return {1} end
if cost > 0 or keep > 0 then redis.call('HSET', record, 'c', ARGV[7]) end
if keep > 0 then
  """
    + _NOW
    + """redis.call('HSET', record, 's', ARGV[4], 'e', now + ttl)
end
if cost > 0 or keep > 0 then redis.call('PEXPIRE', record, ttl + keep) end
return {1}"""
)

STORE_ABSENT: Final[Script] = make_script(
    _UNDER_GENERATION
    + """local no = refused(ARGV[5])
if no then return no end
if ARGV[2] ~= '' then redis.call('PUBLISH', ARGV[1], ARGV[2]) end
redis.call('UNLINK', record, KEYS[1])
if tonumber(ARGV[4]) > 0 then
  redis.call('HSET', record, 'a', '1')
  redis.call('PEXPIRE', record, ARGV[4])
end
return {1}"""
)

RELEASE: Final[Script] = make_script(
    _RECORD
    + _NOW
    + """local r = redis.call('HMGET', record, 'o', 'e', 's', 'c')
if r[1] ~= ARGV[3] then return false end
if r[3] and now - r[2] <= tonumber(ARGV[4]) and tonumber(ARGV[4]) > 0 then
  redis.call('HSET', record, 'f', '1')
  return r[3]
end
if ARGV[2] ~= '' and redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('PUBLISH', ARGV[1], ARGV[2])
end
if r[3] or r[4] then redis.call('HDEL', record, 'o', 'd')
else redis.call('UNLINK', record) end
return false"""
)

RELEASE_UNSHARED: Final[Script] = make_script(
    _RECORD
    + """if redis.call('HGET', record, 'o') ~= ARGV[3] then return false end
if ARGV[2] ~= '' then redis.call('PUBLISH', ARGV[1], ARGV[2]) end
redis.call('HSET', record, 'u', '1')
if redis.call('HEXISTS', record, 's') == 0 then
  redis.call('PEXPIRE', record, ARGV[4])
end
return false"""
)
