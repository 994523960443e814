"""redis-py's locks on the store of a cache.

Their classes wait, time out and check who owns a lock.  What they ask of a server is
asked here: over our connections, and so with Sentinel, with a cluster, and with several
event loops.  In Redis a lock is what redis-py and django-redis make of it, a key with a
token, so theirs and ours exclude each other.
"""

from __future__ import annotations

from os import getpid
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from redis.asyncio.lock import Lock as AsyncLock
from redis.exceptions import LockNotOwnedError
from redis.lock import Lock

from cachebridge.core.direct import Direct
from cachebridge.core.keys import shown_key
from cachebridge.engine.messages.fences import Decision
from cachebridge.errors import NO_LOCK, UnsupportedOperationError
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from cachebridge.engine.engine import Engine
    from cachebridge.l2.store import L2Store
    from cachebridge.waiting.io import IO


class LockKeeper:
    """Keeps the locks of one cache in L2; takes the place of redis-py's client.

    No L1 ever has a lock: nothing is read of it but here, and its token is no value.
    Every coroutine raises L2Error if L2 cannot answer, whatever ON_ERROR says: who does
    not know that he has the lock must not go on.
    """

    def __init__(self, engine: Engine, io: IO) -> None:
        """Raise UnsupportedOperationError for a store that cannot keep locks."""
        if not engine.stores.lists_keys:
            raise UnsupportedOperationError(NO_LOCK)
        self._engine = engine
        self._io = io

    def _l2(self) -> L2Store:
        if self._engine.pid != getpid():
            self._engine.notice_fork()
        return self._engine.l2_for(self._io, may_lag=False)

    async def take(self, key: str, token: bytes, timeout_s: float | None) -> bool:
        """Take the lock unless another has it; a fence follows, as after ``add``."""
        l2, rules = self._l2(), self._engine.rules
        ttl_ms = in_ms(timeout_s) if timeout_s else None
        decision = Decision(self._engine, Direct(rules, ()), None)
        with decision, decision:
            taken = await l2.add(key, token, ttl_ms, None) is True
            if taken:
                decision.won()
        return taken

    async def free(self, key: str, token: bytes) -> None:
        """Give the lock back; values that wait to be sent were set under it."""
        queue = self._engine.write_behind
        if queue.latest:
            await queue.before(self._io, list(queue.latest))
        _require(await self._l2().replace(key, token, None, None), key, "release")

    async def prolong(
        self, key: str, token: bytes | None, seconds: float, *, adds: bool = False
    ) -> Literal[True]:
        """Give the lock so much time, or ``adds`` it to what is left."""
        l2, ttl_ms = self._l2(), in_ms(seconds)
        if adds:
            _, left_ms = await l2.get(key)
            ttl_ms += max(0, left_ms)
        kept = token is not None and await l2.keep(key, token, ttl_ms)
        return _require(kept, key, "prolong")

    async def owner(self, key: str) -> bytes | None:
        """Return the token of the lock's owner."""
        token, _ = await self._l2().get(key)
        return token

    @staticmethod
    def encode(token: str | bytes) -> bytes:
        """Return a token that a caller gives, as bytes."""
        return token.encode() if isinstance(token, str) else token

    @property
    def connection_pool(self) -> LockKeeper:
        """What redis-py asks for ``get_encoder``."""
        return self

    def get_encoder(self) -> LockKeeper:
        """Return what has ``encode``."""
        return self


def in_ms(seconds: float) -> int:
    """Return seconds as milliseconds, at least 1."""
    return max(1, int(seconds * 1000))


def new_token() -> str:
    """Return a token in redis-py's form that no serializer takes for a value."""
    return f"f{uuid4().hex[1:]}"


def _require(done: bool, key: str, what: str) -> Literal[True]:
    if not done:
        raise LockNotOwnedError(
            f"Cannot {what} the lock {shown_key(key)}: it is no longer owned"
        )
    return True


class ThreadLock(Lock):
    """redis-py's ``Lock``, for threads; see there for its methods.

    Raises LockError of ``redis.exceptions``, and L2Error while the store is away.
    """

    redis: LockKeeper

    def register_scripts(self) -> None:
        """Register none: the store has its own."""

    def acquire(
        self,
        sleep: Any = None,
        blocking: bool | None = None,
        blocking_timeout: Any = None,
        token: Any = None,
    ) -> bool:
        """Take the lock, and wait for it if ``blocking``; return whether it is had."""
        token = new_token() if token is None else token
        return bool(super().acquire(sleep, blocking, blocking_timeout, token))

    def do_acquire(self, token: Any) -> bool:
        """Try once."""
        return run(self.redis.take(self.name, token, self.timeout))

    def locked(self) -> bool:
        """Return whether any process has the lock."""
        return run(self.redis.owner(self.name)) is not None

    def owned(self) -> bool:
        """Return whether this object has it."""
        own = self.local.token
        return own is not None and run(self.redis.owner(self.name)) == own

    def do_release(self, expected_token: Any) -> None:
        """Give it back."""
        run(self.redis.free(self.name, expected_token))

    def do_extend(self, additional_time: Any, replace_ttl: bool) -> Literal[True]:
        """Give it more time."""
        own, adds = self.local.token, not replace_ttl
        return run(self.redis.prolong(self.name, own, additional_time, adds=adds))

    def do_reacquire(self) -> Literal[True]:
        """Give it its whole time again."""
        return run(self.redis.prolong(self.name, self.local.token, self.timeout or 0))


class TaskLock(AsyncLock):
    """redis-py's asynchronous ``Lock``, for tasks of any event loop."""

    redis: LockKeeper  # type: ignore[assignment] # what it takes for its client
    name: str

    def register_scripts(self) -> None:
        """Register none: the store has its own."""

    async def acquire(
        self,
        blocking: bool | None = None,
        blocking_timeout: Any = None,
        token: Any = None,
    ) -> bool:
        """Take the lock, and wait for it if ``blocking``; return whether it is had."""
        token = new_token() if token is None else token
        return bool(await super().acquire(blocking, blocking_timeout, token))

    async def do_acquire(self, token: Any) -> bool:
        """Try once."""
        return await self.redis.take(self.name, token, self.timeout)

    async def locked(self) -> bool:
        """Return whether any process has the lock."""
        return await self.redis.owner(self.name) is not None

    async def owned(self) -> bool:
        """Return whether this object has it."""
        own = self.local.token
        return own is not None and await self.redis.owner(self.name) == own

    async def do_release(self, expected_token: Any) -> None:
        """Give it back."""
        await self.redis.free(self.name, expected_token)

    async def do_extend(self, additional_time: Any, replace_ttl: bool) -> Literal[True]:
        """Give it more time."""
        own, adds = self.local.token, not replace_ttl
        return await self.redis.prolong(self.name, own, additional_time, adds=adds)

    async def do_reacquire(self) -> Literal[True]:
        """Give it its whole time again."""
        own = self.local.token
        return await self.redis.prolong(self.name, own, self.timeout or 0)
