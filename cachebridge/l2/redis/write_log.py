"""The log of recent writes, by which a late delete knows what it must leave.

A process that could not change a key owes its delete, and may come back late.  By then
another process may have set the key, and was told so: that value must stay.  So each
script that stores a value for a caller appends its message to one string,
``cachebridge:writes``.  ``DELETE_OLDER`` reads which process wrote which key when, and
deletes only those keys that no other process has written since the change failed.

::

    u64                  the log is complete since then, microseconds
    message message ...  as published; one is made up for a write that has none

The instants are those of the writers' wall clocks: asking the server for its own would
cost a ``set`` a fifth of its time there.  Over ``MOST_BYTES`` the older half goes.  If
Redis may have evicted the string, or half of it has gone, nothing is known of earlier
writes: then keys stay.  An account without the right to APPEND writes without the log.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from cachebridge.l2.redis.commands import make_script
from cachebridge.l2.redis.scripts import COMPLETE, NOTED_NAME, PUBLISH

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LONGEST_S: Final = 1e8
TOGETHER_S: Final = 0.001
"""Within so many seconds both clocks are read, if a thread gets to it."""
TRIES: Final = 10


def instants(ages_s: Callable[[], Sequence[float]]) -> list[bytes]:
    """Return what was so many seconds ago, in microseconds of the wall clock.

    A thread may be held up between this clock and that of the ages.  An instant that
    is too late would have what was written meanwhile deleted; so it is too early then.
    """
    for _ in range(TRIES):
        now_s = time.time()
        ages = [min(max(age_s, 0.0), LONGEST_S) for age_s in ages_s()]
        if time.time() - now_s < TOGETHER_S:
            break
    return [b"%d" % int((now_s - age_s) * 1e6) for age_s in ages]


DELETE_OLDER: Final = make_script(
    PUBLISH
    + """local n, oldest = (#KEYS - 1) / 2, math.huge
for i = 1, n do oldest = math.min(oldest, tonumber(ARGV[i + 3])) end
local log, since, written = redis.pcall('GET', KEYS[#KEYS]), 0, {}
local function read()
  local high, low, at = struct.unpack('>I4I4', log)
  since = high * 4294967296 + low
  while at <= #log do
    assert(string.byte(log, at) == 203)
    local high, low, count, from = struct.unpack('>I4I4I2', log, at + 20)
    local time = high * 4294967296 + low
    local counts = time >= oldest and string.sub(log, at + 4, at + 11) ~= ARGV[3]
    for _ = 1, count do
      local length, start = struct.unpack('>I2', log, from)
      from = start + length
      if counts then
        local key = string.sub(log, start, from - 1)
        written[key] = math.max(written[key] or 0, time)
      end
    end
    at = from
  end
end
if log then
  if not pcall(read) then since = math.huge end
else
  """
    + COMPLETE
    + """  if not complete then since = math.huge end
end
local deleted = 0
"""
    + NOTED_NAME
    + """for i = 1, n do
  local failed_at = tonumber(ARGV[i + 3])
  local written_at = written[noted_name(KEYS[i])] or 0
  if since <= failed_at and written_at < failed_at then
    redis.call('UNLINK', KEYS[i + n])
    deleted = deleted + redis.call('UNLINK', KEYS[i])
  end
end
return deleted"""
)
"""Arguments: the origin of this process, then when the change of each key failed, in
microseconds."""
