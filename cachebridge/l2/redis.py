"""The Redis store, synchronous: what each call of ``L2Store`` asks of the server.

Its twin is ``aredis.py``.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from cachebridge.core.lease import LoadReply, Look, LookState
from cachebridge.errors import L2Error
from cachebridge.l2 import commands, load_scripts
from cachebridge.l2.base import NOT_AN_INTEGER, Read
from cachebridge.l2.commands import encode_key
from cachebridge.l2.server import ScriptsRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cachebridge.core.lease import LoadedRaw, LookTerms
    from cachebridge.l2.base import Ttl
    from cachebridge.l2.client import Client

READ_BATCH = 1000


class RedisStore:
    """See ``L2Store``.  Thread safe; a call holds one connection while it runs."""

    def __init__(self, client: Client, *, channel: str) -> None:
        self._client = client
        self._channel = channel.encode()

    def get(self, key: str) -> Read:
        """Read one key."""
        raw, ttl_ms = self._client.run(commands.get(encode_key(key)))
        return raw, ttl_ms

    def get_many(self, keys: Sequence[str]) -> list[Read]:
        """Read several keys, a thousand per round trip."""
        reads: list[Read] = []
        for start in range(0, len(keys), READ_BATCH):
            batch = tuple([encode_key(key) for key in keys[start : start + READ_BATCH]])
            reply = self._client.run(commands.get_many(batch))
            reads += zip(reply[: len(batch)], reply[len(batch) :], strict=True)
        return reads

    def exists(self, key: str) -> bool:
        """Tell whether the key exists."""
        return bool(self._client.run(commands.exists(encode_key(key))))

    def store(
        self,
        items: Sequence[tuple[str, bytes]],
        ttl_ms: Ttl,
        message: bytes | None,
    ) -> Sequence[str]:
        """Set all items."""
        encoded = [(encode_key(key), raw) for key, raw in items]
        self._client.run(commands.store(encoded, ttl_ms, self._channel, message))
        return ()

    def add(
        self, key: str, raw: bytes, ttl_ms: int | None, message: bytes | None
    ) -> bool:
        """Set the key if it does not exist."""
        request = commands.add(encode_key(key), raw, ttl_ms, self._channel, message)
        return bool(self._client.run(request))

    def touch(self, key: str, ttl_ms: int | None, message: bytes | None) -> bool:
        """Give an existing key a new TTL."""
        request = commands.touch(encode_key(key), ttl_ms, self._channel, message)
        return bool(self._client.run(request))

    def delete(self, keys: Sequence[str], message: bytes | None) -> int:
        """Delete the keys; publish in any case."""
        encoded = tuple([encode_key(key) for key in keys])
        return int(self._client.run(commands.delete(encoded, self._channel, message)))

    def incr(self, key: str, delta: int, message: bytes | None) -> int | str | None:
        """Add to an integer.  Without scripts the caller has to compare and set."""
        if not self._client.has_scripts:
            return NOT_AN_INTEGER
        try:
            digits: bytes | None = self._client.run(
                commands.incr(encode_key(key), delta, self._channel, message)
            )
        except ScriptsRefusedError:
            return NOT_AN_INTEGER
        except L2Error as exc:
            text = str(exc.__cause__)
            if "not an integer" in text or "would overflow" in text:
                return NOT_AN_INTEGER
            raise
        return None if digits is None else int(digits)

    def replace(
        self, key: str, expected: bytes, raw: bytes | None, message: bytes | None
    ) -> bool:
        """Compare and set, or compare and delete."""
        request = commands.replace(
            encode_key(key), expected, raw, self._channel, message
        )
        return bool(self._client.run(request))

    # -- loading -----------------------------------------------------------------

    def look(self, key: str, token: bytes, terms: LookTerms) -> Look:
        """Read the key, or take the right to load it.

        Without scripts the right is everybody's.
        """
        encoded = encode_key(key)
        if self._client.has_scripts:
            with suppress(ScriptsRefusedError):
                reply = self._client.run(load_scripts.look(encoded, token, terms))
                return load_scripts.read_look(reply, token)
        raw, ttl_ms = self.get(key)
        state = LookState.LEASE if raw is None else LookState.HIT
        return Look(state, raw, ttl_ms, token=token)

    def store_loaded(
        self, key: str, loaded: LoadedRaw, look: Look, message: bytes | None
    ) -> LoadReply:
        """Set a loaded value; without a generation it is added if there is none."""
        if look.generation and self._client.has_scripts:
            request = load_scripts.store_loaded(
                encode_key(key), loaded, look, self._channel, message
            )
            with suppress(ScriptsRefusedError):
                return load_scripts.read_load_reply(self._client.run(request))
        if self.add(key, loaded.raw, loaded.ttl_ms, message):
            return LoadReply(stored=True)
        return LoadReply(False, *self.get(key))

    def store_absent(
        self, key: str, ttl_ms: int, look: Look, message: bytes | None
    ) -> LoadReply:
        """Note that there is no such thing; without a generation, nothing is noted."""
        if look.generation:
            request = load_scripts.store_absent(
                encode_key(key), ttl_ms, look, self._channel, message
            )
            with suppress(ScriptsRefusedError):
                return load_scripts.read_load_reply(self._client.run(request))
        return LoadReply(stored=False)

    def release(
        self, key: str, look: Look, keep_ms: int, message: bytes | None
    ) -> bytes | None:
        """End the lease without a value."""
        if not look.generation:
            return None
        request = load_scripts.release(
            encode_key(key), look, keep_ms, self._channel, message
        )
        copy: bytes | None = None
        with suppress(ScriptsRefusedError):
            copy = self._client.run(request)
        return copy

    def release_unshared(
        self, key: str, look: Look, lease_ms: int, message: bytes | None
    ) -> None:
        """End the lease, and let everybody load for a while."""
        if look.generation:
            request = load_scripts.release_unshared(
                encode_key(key), look, lease_ms, self._channel, message
            )
            with suppress(ScriptsRefusedError):
                self._client.run(request)

    # -- everything ---------------------------------------------------------------

    def clear(self, _prefix: str, _message: Callable[[], bytes]) -> None:
        """None: keys have to be found with ``scan``."""

    def scan(self, pattern: str, cursor: int) -> tuple[int, list[str]]:
        """Make one step of a SCAN."""
        following, keys = self._client.run(commands.scan(encode_key(pattern), cursor))
        return int(following), [commands.decode_key(key) for key in keys]

    def flush_db(self, message: bytes) -> bool:
        """Delete every key of the database."""
        self._client.run(commands.flush_db(self._channel, message))
        return True

    def publish(self, message: bytes) -> None:
        """Publish alone."""
        self._client.run(commands.publish(self._channel, message))

    def ping(self) -> None:
        """Return if the server answers; asked even while the breaker is open."""
        self._client.run(commands.ping(), is_probe=True)

    def close(self) -> None:
        """Close idle connections."""
        self._client.close()

    def forget(self) -> None:
        """Drop idle connections: they belong to the parent process."""
        self._client.forget()
