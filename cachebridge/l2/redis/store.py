"""The Redis store: each method is one request, and so one atomic step of the server.

With an outbox the messages go by another server: then a change and its message are two
steps (``l2/two_steps.py``), and the scripts publish nothing.
"""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cachebridge.core.keys import matcher_of
from cachebridge.core.lease import PLAIN_MARK
from cachebridge.l2.keys import encode_key
from cachebridge.l2.redis import commands, load_scripts, scripts, write_log
from cachebridge.l2.redis.existing import ExistingKeys
from cachebridge.l2.redis.names import LISTS, PLAIN, WRITES, name_of, names_of
from cachebridge.l2.redis.near import NearClient
from cachebridge.l2.store import SCAN_COUNT
from cachebridge.l2.two_steps import announced

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from typing import TypeAlias, TypeVar

    from cachebridge.core.lease import LeaseGet, LeaseTerms, LoadedRaw, LoadReply
    from cachebridge.l2.redis.client import RedisClient
    from cachebridge.l2.redis.commands import Call, Request, Script, Words
    from cachebridge.l2.redis.names import Names
    from cachebridge.l2.store import Bounds, Counted, Read, Ttl
    from cachebridge.l2.two_steps import Outbox

    T = TypeVar("T")
    Answer: TypeAlias = Coroutine[Any, Any, T]

READ_BATCH: Final = 1000
"""Keys per round trip: the server serves no other client meanwhile."""


class RedisStore(ExistingKeys):
    """See ``L2Store``.  For threads or for tasks, as its client is.

    Most methods are plain functions that return the client's coroutine: each level of
    coroutines costs a thread time.
    """

    def __init__(
        self,
        client: RedisClient | NearClient,
        *,
        channel: str,
        outbox: Outbox | None = None,
        names: Names = PLAIN,
    ) -> None:
        self.client = client
        self._names = names
        self._outbox = outbox
        self._channel = b"" if outbox is not None else channel.encode()

    def _change(
        self,
        script: Script,
        keys: Words,
        message: bytes | None,
        args: Iterable[bytes],
        read: Callable[[list[Any]], T],
    ) -> Answer[T]:
        """Run a script that publishes the message with its change."""
        request = self._changing(script, keys, message, args)
        return self._announced(self.client.run(request, read), message)

    def _changing(
        self,
        script: Script,
        keys: Words,
        message: bytes | None,
        args: Iterable[bytes] = (),
    ) -> Request:
        every = (self._channel, message or b"", *args)
        return commands.call_script(script, keys, every)

    def _announced(self, change: Answer[T], message: bytes | None) -> Answer[T]:
        """Let the message follow a change, if this server does not publish it."""
        if self._outbox is None or message is None:
            return change
        return announced(change, message, self._outbox)

    def past_replicas(self) -> RedisStore:
        """Return the store that reads from the primary alone."""
        client = self.client
        if not isinstance(client, NearClient):
            return self
        store = copy(self)
        store.client = client.primary
        return store

    def get(self, key: str) -> Answer[Read]:
        """Read one key."""
        return self.client.run(commands.get(name_of(key)), commands.read_pair)

    async def get_many(self, keys: Sequence[str]) -> list[Read]:
        """Read several keys, a thousand per round trip."""
        reads: list[Read] = []
        for start in range(0, len(keys), READ_BATCH):
            batch = keys[start : start + READ_BATCH]
            reads += await self.client.run(*self.reading(batch))
        return reads

    def reading(self, keys: Sequence[str]) -> Call[list[Read]]:
        """Return the request that reads these keys, and how to read its reply."""
        names = tuple(names_of(keys))
        read = partial(commands.read_pairs, len(names))
        return commands.call_script(scripts.READ, names, ()), read

    def exists(self, key: str) -> Answer[bool | str]:
        """Return whether the key exists."""
        return self.client.run(commands.standing(name_of(key)), commands.read_existing)

    def store(
        self,
        items: Sequence[tuple[str, bytes]],
        ttl_ms: Ttl,
        message: bytes | None,
    ) -> Answer[Sequence[str]]:
        """Set all items."""
        change = self.client.run(*self.storing(items, ttl_ms, message))
        return self._announced(change, message)

    def storing(
        self, items: Sequence[tuple[str, bytes]], ttl_ms: Ttl, message: bytes | None
    ) -> Call[Sequence[str]]:
        """Return the request that sets all items, and how to read its reply."""
        script, read = scripts.STORE, commands.read_stored
        if len(items) == 1 and not isinstance(ttl_ms, list):
            ((key, raw),) = items
            few = (_number(ttl_ms), raw)
            return self._changing(script, self._logged(key), message, few), read
        log = self._names.log_of(items[0][0])
        names = (*self._names.with_records([key for key, _ in items]), log)
        args = [raw for _, raw in items]
        if isinstance(ttl_ms, list):
            args += [b"%d" % each for each in ttl_ms]
            ttl_ms = None
        args.insert(0, _number(ttl_ms))
        return self._changing(script, names, message, args), read

    def _logged(self, key: str) -> Words:
        """Name the key, its record and its log."""
        return (*self._names.with_record(key), self._names.log_of(key))

    def add(
        self, key: str, raw: bytes, ttl_ms: int | None, message: bytes | None
    ) -> Answer[bool | str]:
        """Set the key if it does not exist."""
        keys, args = self._logged(key), (_number(ttl_ms), raw)
        return self._change(scripts.ADD, keys, message, args, commands.read_standing)

    def touch(
        self, key: str, ttl_ms: int | None, message: bytes | None
    ) -> Answer[bool | str]:
        """Give an existing key a new TTL."""
        keys, args = self._names.with_record(key), (_number(ttl_ms),)
        read = commands.read_standing
        return self._change(load_scripts.TOUCH, keys, message, args, read)

    def delete(self, keys: Sequence[str], message: bytes | None) -> Answer[int]:
        """Delete the keys; always publish."""
        change = self.client.run(*self.deleting(keys, message))
        return self._announced(change, message)

    def deleting(self, keys: Sequence[str], message: bytes | None) -> Call[int]:
        """Return the request that deletes the keys, and how to read its reply."""
        names = self._names.with_records(keys)
        return self._changing(scripts.DELETE, names, message), commands.read_count

    def delete_older(
        self,
        keys: Sequence[str],
        ages_s: Callable[[], Sequence[float]],
        origin: bytes,
        message: bytes | None,
    ) -> Answer[int]:
        """Delete the keys that no other process has written since."""
        change = self.client.run(*self.deleting_older(keys, ages_s, origin, message))
        return self._announced(change, message)

    def deleting_older(
        self,
        keys: Sequence[str],
        ages_s: Callable[[], Sequence[float]],
        origin: bytes,
        message: bytes | None,
    ) -> Call[int]:
        """Return the request of ``delete_older``, and how to read its reply."""
        args = (origin, *write_log.instants(ages_s))
        names = (*self._names.with_records(keys), self._names.log_of(keys[0]))
        request = self._changing(write_log.DELETE_OLDER, names, message, args)
        return request, commands.read_count

    def incr(
        self, key: str, delta: int, message: bytes | None
    ) -> Answer[int | str | None]:
        """Add to an integer."""
        keys, args = self._logged(key), (b"%d" % delta,)
        return self._change(scripts.INCR, keys, message, args, commands.read_counter)

    def count(
        self,
        key: str,
        delta: int,
        bounds: Bounds,
        ttl_ms: int | None,
        message: bytes | None,
    ) -> Answer[Counted | None]:
        """Add to a counter if the bounds allow it."""
        keys = self._logged(key)
        numbers = (delta, bounds.floor, bounds.ceiling, ttl_ms)
        args, read = map(_number, numbers), commands.read_counted
        return self._change(scripts.COUNT, keys, message, args, read)

    def replace(
        self, key: str, expected: bytes, raw: bytes | None, message: bytes | None
    ) -> Answer[bool]:
        """Compare and set, or compare and delete."""
        keys = self._logged(key)
        args = (expected,) if raw is None else (expected, raw)
        return self._change(scripts.REPLACE, keys, message, args, commands.read_flag)

    # -- loading -----------------------------------------------------------------

    def get_or_lease(
        self, key: str, token: bytes, terms: LeaseTerms
    ) -> Answer[LeaseGet]:
        """Read the key, or take the right to load it."""
        args = (
            token,
            b"%d" % terms.lease_ms,
            b"%d" % terms.stale_ms,
            b"%d" % terms.stale_if_error_ms,
            b"refresh" if terms.is_refresh else b"join" if terms.joins else b"",
        )
        script = load_scripts.GET_OR_LEASE
        request = commands.call_script(
            script, self._names.with_record(key), args, token
        )
        return self.client.run(request, partial(load_scripts.read_lease_get, token))

    def store_loaded(
        self, key: str, loaded: LoadedRaw, lease: LeaseGet, message: bytes | None
    ) -> Answer[LoadReply]:
        """Set a loaded value under its generation."""
        args = (
            lease.generation,
            loaded.raw,
            _number(loaded.ttl_ms),
            b"%d" % loaded.keep_ms,
            b"%d" % loaded.cost_ms,
        )
        script, read = load_scripts.STORE_LOADED, load_scripts.read_load_reply
        return self._change(script, self._names.with_record(key), message, args, read)

    def store_absent(
        self,
        key: str,
        ttl_ms: int,
        lease: LeaseGet,
        message: bytes | None,
        mark: bytes = PLAIN_MARK,
    ) -> Answer[LoadReply]:
        """Note that there is no such thing."""
        args = (lease.generation, b"%d" % ttl_ms, mark)
        script, read = load_scripts.STORE_ABSENT, load_scripts.read_load_reply
        return self._change(script, self._names.with_record(key), message, args, read)

    async def release(
        self, key: str, lease: LeaseGet, keep_ms: int, message: bytes | None
    ) -> bytes | None:
        """End the lease without a value."""
        self.settle(lease)
        args = (self._channel, message or b"", lease.token, b"%d" % keep_ms)
        script, read = load_scripts.RELEASE, load_scripts.read_released
        request = commands.call_script(script, self._names.with_record(key), args)
        copy, is_told = await self.client.run(request, read)
        if self._outbox is not None and message is not None and is_told:
            await self._outbox.send(message)
        return copy

    def settle(self, lease: LeaseGet) -> None:
        """Wait for the end of an interrupted request here that may take this lease."""
        self.client.links.settle(lease.token)

    async def release_unshared(
        self, key: str, lease: LeaseGet, lease_ms: int, message: bytes | None
    ) -> None:
        """End the lease, and let every caller load for a while."""
        keys, args = self._names.with_record(key), (lease.token, b"%d" % lease_ms)
        script = load_scripts.RELEASE_UNSHARED
        await self._change(script, keys, message, args, commands.read_flag)

    # -- everything ---------------------------------------------------------------

    async def clear(self, _prefix: str, _message: Callable[[], bytes]) -> None:
        """Return None: keys have to be found with ``scan``."""

    async def scan(
        self,
        pattern: str,
        cursor: int,
        count: int = SCAN_COUNT,
        *,
        records: bool = True,
    ) -> tuple[int, list[str]]:
        """Make one step of a SCAN, also over what follows a key in a record's name."""
        names = encode_key(self._names.all_like(pattern))
        request = commands.scan(names, cursor, count)
        read = partial(commands.read_scan, records=records)
        cursor, keys = await self.client.run(request, read)
        matches = matcher_of(pattern)
        return cursor, [key for key in dict.fromkeys(keys) if matches(key)]

    def flush_db(self, message: bytes) -> Answer[bool]:
        """Delete every key of the database."""
        return self._announced(self.client.run(*self.flushing(message)), message)

    def flushing(self, message: bytes) -> Call[bool]:
        """Return the request of ``flush_db``, and how to read its reply."""
        return commands.flush_db(self._channel, message), commands.read_transaction

    def switch(self, name: str, word: bytes, message: bytes) -> Answer[None]:
        """Set the key of cachebridge's own, and publish."""
        keys = (name.encode(),)
        return self._change(scripts.SWITCH, keys, message, (word,), commands.read_done)

    def keep_list(self, name: str, raw: bytes, ttl_ms: int) -> Answer[None]:
        """Set a list of keys."""
        request = commands.keep(LISTS + name.encode(), raw, ttl_ms)
        return self.client.run(request, commands.read_done)

    async def kept_list(self, name: str) -> bytes | None:
        """Return a list of keys."""
        request = commands.get(LISTS + name.encode())
        raw, _ = await self.client.run(request, commands.read_pair)
        return raw

    def publish(self, message: bytes) -> Answer[None]:
        """Publish alone."""
        if self._outbox is not None:
            return self._outbox.send(message)
        request = commands.publish(self._channel, message)
        return self.client.run(request, commands.read_done)

    def ping(self) -> Answer[None]:
        """Return if the server answers; asked even while the breaker is open.

        A proxy answers PING itself, whether or not there is a server behind it.  Where
        slots matter, most masters answer that another one has the key.
        """
        is_plain, has_slots = self._outbox is None, self._names is not PLAIN
        request = commands.ping() if is_plain else commands.exists(WRITES)
        read = commands.read_any if has_slots else commands.read_done
        return self.client.run(request, read, past_breaker=True)

    def close(self) -> None:
        """Close idle connections."""
        self.client.close()

    def forget(self) -> None:
        """Drop every connection: they belong to the parent process."""
        self.client.forget()


def _number(number: int | None) -> bytes:
    """Return a number as a script takes it: '' is none, of a TTL without expiry."""
    return b"" if number is None else b"%d" % number
