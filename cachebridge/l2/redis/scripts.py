"""The scripts of the Redis store that have no part in a load.

Of each that changes something, the keys are those that change, then the load record of
each, then the log if it notes a write; the first arguments are the channel and the
message.  Without a channel the message is noted, and published by another server.
"""

from __future__ import annotations

from typing import Final

from cachebridge.l2.redis.commands import make_script

READ: Final = make_script(
    """local r = redis.call('MGET', unpack(KEYS))
local n = #KEYS
for i = 1, n do r[n + i] = redis.call('PTTL', KEYS[i]) end
return r"""
)
PUBLISH: Final = """if ARGV[1] ~= '' and ARGV[2] ~= '' then
  redis.call('PUBLISH', ARGV[1], ARGV[2])
end
"""
STANDING: Final = """local function standing(key)
  local head = redis.pcall('GETRANGE', key, 0, 1)
  if type(head) ~= 'table' then return head == '\\203\\1' and 2 or 1 end
  return string.find(head.err or '', 'WRONGTYPE') and 1 or 2
end
"""
"""Says 1 of a key that exists, 2 if its value is tagged, or this must not be known."""
MOST_BYTES: Final = 4 * 1024 * 1024
MOST_BYTES_OF_SLOT: Final = 4096
"""The same of the log of one slot, of which a cluster has 16,384."""
COMPLETE: Final = """local stats = redis.pcall('INFO', 'stats')
local evicted = type(stats) == 'string' and string.match(stats, 'evicted_keys:(%d+)')
local complete = not evicted or evicted == '0'
"""
"""Whether a log that is not there has never been: the server has evicted nothing."""
NOTED_NAME: Final = """local function noted_name(key)
  return #key < 65536 and key or redis.sha1hex(key)
end
"""
"""What a key is called in the log, which has two bytes for the length of a name."""
NOTE: Final = f"""local frame, size = ARGV[2], 0
local is_of_slot = string.sub(KEYS[#KEYS], -1) == '}}'
local most = is_of_slot and {MOST_BYTES_OF_SLOT} or {MOST_BYTES}
if frame ~= '' then size = redis.pcall('APPEND', KEYS[#KEYS], frame) end
if size == 0 or size == #frame or type(size) == 'number' and size > most then
  local t = redis.call('TIME')
  local now = t[1] * 1000000 + t[2]
  local function u64(n)
    return struct.pack('>I4I4', math.floor(n / 4294967296), n % 4294967296)
  end
  if size == 0 then
    local names, count = {{}}, (#KEYS - 1) / 2
    {NOTED_NAME}
    for i = 1, count do
      local name = noted_name(KEYS[i])
      names[i] = struct.pack('>I2', #name) .. name
    end
    frame = string.char(203) .. string.rep('\\0', 19) .. u64(now) ..
      struct.pack('>I2', count) .. table.concat(names)
    size = redis.pcall('APPEND', KEYS[#KEYS], frame)
  end
  if size == #frame then
    {COMPLETE}
    redis.call('SET', KEYS[#KEYS], u64(complete and 0 or now) .. frame)
  elseif type(size) == 'number' and size > most then
    local log, at, since, rest = redis.call('GET', KEYS[#KEYS]), 9, now, ''
    pcall(function()
      local last = 0
      while at < #log / 2 do
        local high, low, count, from = struct.unpack('>I4I4I2', log, at + 20)
        last = math.max(last, high * 4294967296 + low)
        for _ = 1, count do from = from + 2 + struct.unpack('>I2', log, from) end
        at = from
      end
      since, rest = last + 1, string.sub(log, at)
    end)
    redis.call('SET', KEYS[#KEYS], u64(since) .. rest)
  end
end
"""
"""Notes a write in the log: see ``write_log.py``."""
_UNLINK_RECORD: Final = "redis.call('UNLINK', KEYS[2])\n"
_UNLINK_RECORDS: Final = f"""if n == 1 then {_UNLINK_RECORD}else
  for i = n + 1, 2 * n, 5000 do
    redis.call('UNLINK', unpack(KEYS, i, math.min(i + 4999, 2 * n)))
  end
end
"""
# A script that has written something may go on over maxmemory: the SETs come first.
STORE: Final = make_script(
    PUBLISH
    + """local n = (#KEYS - 1) / 2
for i = 1, n do
  local ttl = ARGV[i + n + 3] or ARGV[3]
  if ttl == '' then redis.call('SET', KEYS[i], ARGV[i + 3])
  else redis.call('SET', KEYS[i], ARGV[i + 3], 'PX', ttl) end
end
"""
    + _UNLINK_RECORDS
    + NOTE
)
"""Arguments: a TTL for all or '', the values, then TTLs of their own, if any."""
SET_ONE: Final = (
    """if ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[4])
else redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[3]) end
"""
    + _UNLINK_RECORD
)
ADD: Final = make_script(
    STANDING
    + """if redis.call('EXISTS', KEYS[1]) == 1 then
  return standing(KEYS[1]) == 2 and 2 or 0
end
"""
    + PUBLISH
    + SET_ONE
    + NOTE
    + "return 1",
    idempotent=False,
)
"""Not sent twice: the second would deny the first its success."""
DELETE: Final = make_script(
    PUBLISH
    + "local n = #KEYS / 2\n"
    + _UNLINK_RECORDS
    + """local deleted = 0
for i = 1, n, 5000 do
  deleted = deleted + redis.call('UNLINK', unpack(KEYS, i, math.min(i + 4999, n)))
end
return deleted"""
)
"""Always publishes: an absent key may live on in a peer's L1."""
SWITCH: Final = make_script(PUBLISH + "redis.call('SET', KEYS[1], ARGV[3])")
INCR: Final = make_script(
    "if redis.call('EXISTS', KEYS[1]) == 0 then return false end\n"
    + PUBLISH
    + """redis.call('INCRBY', KEYS[1], ARGV[3])
"""
    + _UNLINK_RECORD
    + NOTE
    + """return redis.call('GET', KEYS[1])""",
    idempotent=False,
)
"""Returns digits: a number would be a double in Lua, exact up to 2**53 only."""
COUNT: Final = make_script(
    """local raw = redis.call('GET', KEYS[1])
local ttl = redis.call('PTTL', KEYS[1])
local value = tonumber(raw or '0')
local delta, floor, ceiling = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local most = 9007199254740991
if not value or math.abs(value) > most then return false end
if raw and raw ~= string.format('%.0f', value) then return false end
local total = value + delta
if delta < 0 and floor and total < floor or delta > 0 and ceiling and total > ceiling
  or math.abs(total) > most then return {0, raw or '0', ttl} end
"""
    + PUBLISH
    + """if raw then redis.call('INCRBY', KEYS[1], ARGV[3])
elseif ARGV[6] == '' then redis.call('SET', KEYS[1], ARGV[3])
else redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[6]) end
"""
    + _UNLINK_RECORD
    + NOTE
    + "return {1, redis.call('GET', KEYS[1]), ttl}",
    idempotent=False,
)
"""Arguments: the change, floor, ceiling and TTL; '' is none.  Up to 2**53, a double of
Lua is exact."""
REPLACE: Final = make_script(
    "if redis.call('GET', KEYS[1]) ~= ARGV[3] then return 0 end\n"
    + PUBLISH
    + """if ARGV[4] then redis.call('SET', KEYS[1], ARGV[4], 'KEEPTTL')
else redis.call('UNLINK', KEYS[1]) end
"""
    + _UNLINK_RECORD
    + NOTE
    + "return 1",
    idempotent=False,
)
"""Compare and set, or compare and delete.  Not sent twice: it would see itself."""
