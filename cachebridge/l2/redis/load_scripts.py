"""The scripts for loading a value under a lease: see ``core/lease.py``.

The load record is a hash beside the key::

    g  generation: the token of the first load, kept by a load that takes over
    o  owner: the token of the load that has the lease
    d  deadline of the lease         (milliseconds of the server's clock)
    l  length of the lease: a clock that is set back must not make it longer
    f  set if the owner's load has failed: its lease only keeps others from trying
    u  set if what was loaded can serve no other caller: every caller may load
    s  stale copy of the value
    k  for how long the copy serves past the TTL
    c  cost of the last load in milliseconds
    a  the mark of absence: set if there is no such thing
    h  a mark of the value that the record belongs to; without it, to an absent key
    e  when the TTL of that value ends: -1 never (milliseconds of the server's clock)

Other programs change keys, and leave the record.  So each script first asks whether the
record ``belongs`` to the key as it is now, and deletes it if not.  What no script sees
is a change that has come and gone between two looks: a key that another program
deleted, and whose TTL would be over by now, counts as expired.
"""

from __future__ import annotations

from typing import Any, Final

from cachebridge.core.lease import (
    RECORD_MS,
    LeaseGet,
    LeaseState,
    LoadReply,
)
from cachebridge.l2.redis.commands import Script, last_of, make_script
from cachebridge.l2.redis.scripts import PUBLISH, STANDING
from cachebridge.resp import wrong_kind


def read_lease_get(token: bytes, replies: list[Any]) -> LeaseGet:
    """Read the reply to ``GET_OR_LEASE``."""
    match last_of(replies):
        case [
            bytes(state),
            bytes() | None as raw,
            int(ttl_ms),
            int(cost_ms),
            int(wait_ms),
            bytes() | None as generation,
        ] if state in _STATES:
            kind = LeaseState(state)
            if kind is LeaseState.ABSENT and raw is not None:
                return LeaseGet(kind, None, ttl_ms, token=token, mark=raw)
        case reply:
            raise wrong_kind(reply)
    return LeaseGet(kind, raw, ttl_ms, cost_ms, wait_ms, generation or b"", token)


def read_load_reply(replies: list[Any]) -> LoadReply:
    """Read the reply to ``STORE_LOADED`` and ``STORE_ABSENT``."""
    match last_of(replies):
        case [int(stored)]:
            return LoadReply(bool(stored))
        case [int(stored), bytes() | None as raw, int(ttl_ms)]:
            return LoadReply(bool(stored), raw, ttl_ms)
        case reply:
            raise wrong_kind(reply)


def read_released(replies: list[Any]) -> tuple[bytes | None, bool]:
    """Read the reply to ``RELEASE``: a copy, and whether its message is due."""
    match last_of(replies):
        case bytes() | None as copy:
            return copy, False
        case 1:
            return None, True
        case reply:
            raise wrong_kind(reply)


_STATES: Final = frozenset(state.value for state in LeaseState)


_BELONGS: Final = """local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
local function mark(raw)
  local ends = string.sub(raw, 1, 1024) .. string.sub(raw, -1024)
  return redis.sha1hex(#raw .. ':' .. ends)
end
local function belongs(h, e, raw, now)
  e = tonumber(e or 0)
  if not raw then return e >= 0 and now >= e - 50 end
  if h ~= mark(raw) then return false end
  local left = redis.call('PTTL', KEYS[1])
  if left < 0 then return e < 0 end
  return math.abs(now + left - e) <= 50
end
"""
"""The mark has the length and both ends of a value: a megabyte must not hold up the
server.  The expiry may differ by what passes between two readings of the clock."""

GET_OR_LEASE: Final[Script] = make_script(
    _BELONGS
    + f"local record_ms = {RECORD_MS}\n"
    + """local raw = redis.call('GET', KEYS[1])
local r, now = {}, nil
if redis.call('EXISTS', KEYS[2]) == 1 then
  now = clock()
  r = redis.pcall('HMGET', KEYS[2], 'g', 'o', 'd', 'f', 'u', 'e', 'a', 'l', 'h', 'c')
  if r.err or not belongs(r[9], r[6], raw, now) then
    redis.call('UNLINK', KEYS[2])
    r = {}
  end
end
local left, cost = -2, 0
if raw then
  left, cost = redis.call('PTTL', KEYS[1]), tonumber(r[10] or 0)
  if ARGV[5] ~= 'refresh' then return {'hit', raw, left, cost, 0, ''} end
elseif r[7] then
  return {'absent', r[7], redis.call('PTTL', KEYS[2]), 0, 0, ''}
end
now = now or clock()
local age = r[6] and redis.call('HEXISTS', KEYS[2], 's') == 1 and now - r[6]
if age and not raw and ARGV[5] ~= 'refresh' and age <= tonumber(ARGV[3]) then
  return {'stale', redis.call('HGET', KEYS[2], 's'), 0, cost, 0, ''}
end
local wait = r[3] and r[3] - now or 0
if wait > tonumber(r[8] or 0) then wait = 0 end
if wait > 0 and r[2] ~= ARGV[1] and not r[5] and ARGV[5] ~= 'join' then
  local copy = false
  if r[4] and age and not raw and age <= tonumber(ARGV[4]) then
    copy = redis.call('HGET', KEYS[2], 's')
  end
  return {'busy', copy, 0, cost, wait, ''}
end
local generation = r[1] or ARGV[1]
redis.call('HSET', KEYS[2], 'g', generation, 'o', ARGV[1], 'd', now + ARGV[2],
  'l', ARGV[2])
if raw and not r[9] then
  redis.call('HSET', KEYS[2], 'h', mark(raw), 'e', left < 0 and -1 or now + left)
end
if r[4] then redis.call('HDEL', KEYS[2], 'f') end
if not r[1] and (not age or redis.call('PTTL', KEYS[2]) < record_ms) then
  redis.call('PEXPIRE', KEYS[2], record_ms)
end
return {'lease', raw, left, cost, 0, generation}"""
)
"""Sent twice, the same token finds its own lease."""

_UNDER_GENERATION: Final = (
    _BELONGS
    + """local r = redis.call('HMGET', KEYS[2], 'g', 'e', 'h')
local raw = redis.call('GET', KEYS[1])
if r[1] ~= ARGV[3] or not ((r[2] or r[3]) and belongs(r[3], r[2], raw, clock())
  or not r[2] and not raw) then
  return {0, raw, redis.call('PTTL', KEYS[1])}
end
"""
    + PUBLISH
)

STORE_LOADED: Final[Script] = make_script(
    _UNDER_GENERATION
    + """local ttl, keep, cost = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
if ttl then redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[5])
else redis.call('SET', KEYS[1], ARGV[4]) end
redis.call('UNLINK', KEYS[2])
if ttl and (cost > 0 or keep > 0) then
  redis.call('HSET', KEYS[2], 'c', ARGV[7], 'h', mark(ARGV[4]), 'e', clock() + ttl)
  if keep > 0 then redis.call('HSET', KEYS[2], 's', ARGV[4], 'k', ARGV[6]) end
  redis.call('PEXPIRE', KEYS[2], ttl + keep)
end
return {1}""",
    idempotent=False,
)
"""Not sent twice: it would see itself."""

STORE_ABSENT: Final[Script] = make_script(
    _UNDER_GENERATION
    + """redis.call('UNLINK', KEYS[2], KEYS[1])
if tonumber(ARGV[4]) > 0 then
  redis.call('HSET', KEYS[2], 'a', ARGV[5])
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
return {1}""",
    idempotent=False,
)

RELEASE: Final[Script] = make_script(
    _BELONGS
    + """local r = redis.call('HMGET', KEYS[2], 'o', 'e', 'h', 'c')
if r[1] ~= ARGV[3] then return false end
local raw, now = redis.call('GET', KEYS[1]), clock()
local copy = (r[2] or not raw) and belongs(r[3], r[2], raw, now)
  and redis.call('HGET', KEYS[2], 's')
if copy and now - r[2] <= tonumber(ARGV[4]) and tonumber(ARGV[4]) > 0 then
  redis.call('HSET', KEYS[2], 'f', '1')
  return copy
end
local told = ARGV[2] ~= '' and not raw
if told and ARGV[1] ~= '' then redis.call('PUBLISH', ARGV[1], ARGV[2]) end
if copy or r[4] then redis.call('HDEL', KEYS[2], 'o', 'd')
else redis.call('UNLINK', KEYS[2]) end
return told"""
)

RELEASE_UNSHARED: Final[Script] = make_script(
    "if redis.call('HGET', KEYS[2], 'o') ~= ARGV[3] then return 0 end\n"
    + PUBLISH
    + """redis.call('HSET', KEYS[2], 'u', '1')
if redis.call('HEXISTS', KEYS[2], 's') == 0 then
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
return 1"""
)

TOUCH: Final[Script] = make_script(
    _BELONGS
    + STANDING
    + "if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end\n"
    + PUBLISH
    + """local ttl = tonumber(ARGV[3])
local r = false
if redis.call('EXISTS', KEYS[2]) == 1 then
  r = redis.pcall('HMGET', KEYS[2], 'h', 'e', 'k', 'g')
  if r.err or not belongs(r[1], r[2], redis.call('GET', KEYS[1]), clock()) then
    redis.call('UNLINK', KEYS[2])
    r = false
  end
end
if ttl then redis.call('PEXPIRE', KEYS[1], ttl)
else redis.call('PERSIST', KEYS[1]) end
if r then
  redis.call('HSET', KEYS[2], 'e', ttl and clock() + ttl or -1)
  if ttl then
    local last = ttl + (r[3] or 0)
    if r[4] then last = math.max(last, redis.call('PTTL', KEYS[2])) end
    redis.call('PEXPIRE', KEYS[2], last)
  end
end
return standing(KEYS[1])"""
)
"""The record follows the value: its copy begins to be stale when the new TTL ends."""
