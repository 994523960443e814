"""The Redis store, synchronous: carries out ``commands`` on pooled raw connections."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from cachebridge.errors import L2Error
from cachebridge.l2 import commands
from cachebridge.l2.base import NOT_AN_INTEGER, Read
from cachebridge.l2.commands import Request, encode_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cachebridge.l2.pool import Link, Pool

_log = logging.getLogger("cachebridge.l2")
READ_BATCH = 1000


class RedisStore:
    """See ``L2Store``.  Thread safe; a call holds one connection while it runs."""

    def __init__(self, pool: Pool, *, channel: str, label: str) -> None:
        self._pool = pool
        self._channel = channel.encode()
        self._label = label
        self._scripts_refused = False

    def get(self, key: str) -> Read:
        """Read one key."""
        raw, ttl_ms = self._run(commands.get(encode_key(key)))
        return raw, ttl_ms

    def get_many(self, keys: Sequence[str]) -> list[Read]:
        """Read several keys, a thousand per round trip."""
        reads: list[Read] = []
        for start in range(0, len(keys), READ_BATCH):
            batch = tuple([encode_key(key) for key in keys[start : start + READ_BATCH]])
            reply = self._run(commands.get_many(batch))
            reads += zip(reply[: len(batch)], reply[len(batch) :], strict=True)
        return reads

    def exists(self, key: str) -> bool:
        """Tell whether the key exists."""
        return bool(self._run(commands.exists(encode_key(key))))

    def store(
        self,
        items: Sequence[tuple[str, bytes]],
        ttl_ms: int | None,
        message: bytes | None,
    ) -> None:
        """Set all items."""
        encoded = [(encode_key(key), raw) for key, raw in items]
        self._run(commands.store(encoded, ttl_ms, self._channel, message))

    def add(
        self, key: str, raw: bytes, ttl_ms: int | None, message: bytes | None
    ) -> bool:
        """Set the key if it does not exist."""
        request = commands.add(encode_key(key), raw, ttl_ms, self._channel, message)
        return bool(self._run(request))

    def touch(self, key: str, ttl_ms: int | None, message: bytes | None) -> bool:
        """Give an existing key a new TTL."""
        request = commands.touch(encode_key(key), ttl_ms, self._channel, message)
        return bool(self._run(request))

    def delete(self, keys: Sequence[str], message: bytes | None) -> int:
        """Delete the keys; publish in any case."""
        encoded = tuple([encode_key(key) for key in keys])
        return int(self._run(commands.delete(encoded, self._channel, message)))

    def incr(self, key: str, delta: int, message: bytes | None) -> int | str | None:
        """Add to an integer.  Without scripts the caller has to compare and set."""
        if self._scripts_refused:
            return NOT_AN_INTEGER
        try:
            digits: bytes | None = self._run(
                commands.incr(encode_key(key), delta, self._channel, message)
            )
        except L2Error as exc:
            text = str(exc.__cause__)
            if "not an integer" in text or "would overflow" in text:
                return NOT_AN_INTEGER
            if self._scripts_refused:
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
        return bool(self._run(request))

    def scan(self, pattern: str, cursor: int) -> tuple[int, list[str]]:
        """Make one step of a SCAN."""
        following, keys = self._run(commands.scan(encode_key(pattern), cursor))
        return int(following), [commands.decode_key(key) for key in keys]

    def flush_db(self, message: bytes) -> None:
        """Delete every key of the database."""
        self._run(commands.flush_db(self._channel, message))

    def publish(self, message: bytes) -> None:
        """Publish alone."""
        self._run(commands.publish(self._channel, message))

    def ping(self) -> None:
        """Return if the server answers."""
        self._run(commands.ping())

    def close(self) -> None:
        """Close idle connections."""
        self._pool.close_idle()

    def forget(self) -> None:
        """Drop idle connections: they belong to the parent process."""
        self._pool.forget()

    # -- carrying out --------------------------------------------------------------

    def _run(self, request: Request) -> Any:
        """Send one request and return its reply; every failure is an L2Error."""
        try:
            if request.script is not None and self._scripts_refused:
                return self._run_plain(request)
            replies = self._exchange(request)
            reply = replies[-1] if request.replies != 2 else replies  # noqa: PLR2004
            failure = _first_error(replies)
            if failure is None:
                return reply
            if isinstance(failure, NoScriptError):
                return self._run(commands.load_script(request))
            if request.script is not None and _refuses_scripts(failure):
                self._note_refusal(failure)
                return self._run_plain(request)
            raise failure
        except (RedisError, OSError) as exc:
            raise L2Error(f"{self._label}: {type(exc).__name__}: {exc}") from exc

    def _exchange(self, request: Request) -> list[Any]:
        """Send and read on one connection, once more if an idle one proves dead.

        What may not be executed twice is sent once: it may have been executed.
        """
        link = self._pool.take()
        try:
            return self._exchange_on(link, request)
        except (RedisTimeoutError, TimeoutError):
            raise
        except (RedisConnectionError, OSError):
            if not request.idempotent:
                raise
        return self._exchange_on(self._pool.take(fresh=True), request)

    def _exchange_on(self, link: Link, request: Request) -> list[Any]:
        try:
            replies = link.exchange(request.packed, request.replies)
        except BaseException:
            self._pool.discard(link)
            raise
        self._pool.give_back(link)
        return replies

    # -- without scripts -------------------------------------------------------------

    def _note_refusal(self, failure: ResponseError) -> None:
        self._scripts_refused = True
        _log.warning(
            "%s refuses scripts (%s): writes use MULTI/EXEC instead",
            self._label,
            failure,
        )

    def _run_plain(self, request: Request) -> Any:
        """Do with plain commands what the script would have done."""
        script = request.script
        if script is commands.REPLACE:
            return self._replace_watching(request)
        if script is None or script.plain is None:
            raise ResponseError("this server refuses EVALSHA, which incr needs")
        plain = [
            words
            for words in script.plain(request.keys, request.args)
            if words[0] != b"PUBLISH" or words[2]
        ]
        once = commands.transaction(plain)._replace(idempotent=request.idempotent)
        replies = self._exchange(once)
        if (failure := _first_error(replies)) is not None:
            raise failure
        results = replies[-1]
        if script is commands.READ:
            return [*results[0], *results[1:]]
        return results[-1]

    def _replace_watching(self, request: Request) -> bool:
        """Compare and set by optimistic locking on one connection."""
        (key,) = request.keys
        channel, message, expected, *replacement = request.args
        change: list[tuple[bytes, ...]] = [(b"PUBLISH", channel, message)]
        if not message:
            change = []
        if replacement:
            change.append((b"SET", key, replacement[0], b"KEEPTTL"))
        else:
            change.append((b"UNLINK", key))
        link = self._pool.take()
        try:
            watch = commands.pack(b"WATCH", key) + commands.pack(b"GET", key)
            watched, current = link.exchange(watch, 2)
            same = watched == b"OK" and current == expected
            following = (
                commands.transaction(change)
                if same
                else Request(commands.pack(b"UNWATCH"))
            )
            replies = link.exchange(following.packed, following.replies)
        except BaseException:
            self._pool.discard(link)
            raise
        self._pool.give_back(link)
        if (failure := _first_error([watched, current, *replies])) is not None:
            raise failure
        return same and replies[-1] is not None


def _first_error(replies: list[Any]) -> ResponseError | None:
    """Return the first error among the replies and in the last, which may be EXEC's.

    An EXEC that was refused names the reason in the reply of the refused command.
    """
    last = replies[-1]
    inner = last if isinstance(last, list) else []
    return next((r for r in [*replies, *inner] if isinstance(r, ResponseError)), None)


def _refuses_scripts(failure: ResponseError) -> bool:
    """Tell an account or a server without EVALSHA from any other refusal."""
    text = str(failure).lower()
    return "evalsha" in text or "'eval'" in text
