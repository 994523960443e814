"""What the store of Redis does with a key only if it exists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from cachebridge.l2.redis import commands, scripts
from cachebridge.l2.redis.commands import make_script
from cachebridge.l2.redis.names import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from typing import TypeAlias, TypeVar

    from cachebridge.l2.redis.client import RedisClient
    from cachebridge.l2.redis.commands import Request, Script, Words
    from cachebridge.l2.redis.near import NearClient

    T = TypeVar("T")
    Answer: TypeAlias = Coroutine[Any, Any, T]

OVERWRITE: Final = make_script(
    scripts.STANDING
    + """if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if standing(KEYS[1]) == 2 then return 2 end
"""
    + scripts.PUBLISH
    + scripts.SET_ONE
    + scripts.NOTE
    + "return 1"
)
KEEP: Final = make_script(
    """if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])"""
)


class _Host(Protocol):
    client: RedisClient | NearClient

    def _logged(self, key: str) -> Words: ...

    def _change(
        self,
        script: Script,
        keys: Words,
        message: bytes | None,
        args: Iterable[bytes],
        read: Callable[[list[Any]], T],
    ) -> Answer[T]: ...


class ExistingKeys:
    """The part of ``RedisStore`` for keys that exist."""

    def ttl(self: _Host, key: str) -> Answer[int]:
        """Return what is left of the TTL."""
        return self.client.run(commands.pttl(name_of(key)), commands.read_count)

    def overwrite(
        self: _Host, key: str, raw: bytes, ttl_ms: int | None, message: bytes | None
    ) -> Answer[bool | str]:
        """Set the key if it exists."""
        args = (b"" if ttl_ms is None else b"%d" % ttl_ms, raw)
        keys = self._logged(key)
        return self._change(OVERWRITE, keys, message, args, commands.read_standing)

    def keep(self: _Host, key: str, expected: bytes, ttl_ms: int) -> Answer[bool]:
        """Give the key a new TTL if it still is ``expected``."""
        args = (expected, b"%d" % ttl_ms)
        request: Request = commands.call_script(KEEP, (name_of(key),), args)
        return self.client.run(request, commands.read_flag)
