"""What a server says about itself to the account that the cache uses.

Asked on connections of its own with short timeouts; changes nothing and publishes
nothing.  Whatever the account may not ask stays unknown.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from cachebridge.bus.session import channels_of
from cachebridge.l2.location import connection_factory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis.connection import Connection

    from cachebridge.config import EngineOptions
    from cachebridge.engine.engine import Engine

MOST_WAIT_S: Final = 2.0
"""Longest wait for one answer, whatever the cache's own timeouts are."""


class BufferLimit(NamedTuple):
    """How far a subscriber may lag behind before the server disconnects it; 0: any."""

    hard_bytes: int
    soft_bytes: int
    soft_s: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about a server; None where it did not say."""

    failure: str = ""
    """Why the server could not be asked at all."""
    version: tuple[int, ...] | None = None
    max_memory: int | None = None
    eviction_policy: str | None = None
    subscriber_limit: BufferLimit | None = None
    refused: tuple[str, ...] = ()
    """Commands on channels that the account has no right to."""


def listens(options: EngineOptions) -> bool:
    """Tell whether processes with these options ever subscribe."""
    return options.bus != "none" and options.l1_max_entries > 0


def facts_about(engine: Engine) -> Facts:
    """Ask the engine's server, as the engine's own account."""
    try:
        return _ask(engine)
    except (RedisError, OSError) as exc:
        return Facts(failure=f"{type(exc).__name__}: {exc}")


def _ask(engine: Engine) -> Facts:
    with _connection_of(engine) as connection:
        info = _parse_info(_reply(connection, "INFO"))
        limit = _reply(connection, "CONFIG", "GET", "client-output-buffer-limit")
    version = info.get("redis_version")
    memory = info.get("maxmemory")
    return Facts(
        version=_parse_version(version) if version else None,
        max_memory=int(memory) if memory else None,
        eviction_policy=info.get("maxmemory_policy"),
        subscriber_limit=_parse_limit(limit),
        refused=tuple(_refused(engine)),
    )


@contextmanager
def _connection_of(engine: Engine) -> Iterator[Connection]:
    options = engine.options
    bounded = replace(
        options,
        socket_timeout=min(options.socket_timeout, MOST_WAIT_S),
        socket_connect_timeout=min(options.socket_connect_timeout, MOST_WAIT_S),
    )
    connection = connection_factory(engine.location, bounded)()
    try:
        connection.connect()
        yield connection
    finally:
        connection.disconnect()


def _reply(connection: Connection, *words: str) -> Any:
    """Send a command and return its reply; None if the server refuses it."""
    connection.send_command(*words)
    try:
        return connection.read_response()
    except ResponseError:
        return None


def _refused(engine: Engine) -> Iterator[str]:
    """Try the channels of the bus, and name what the account has no right to.

    Rights are looked at when a command is queued; a transaction that ends with its
    connection runs nothing, so that no process receives anything.
    """
    if engine.options.bus == "none":
        return
    channels = channels_of(engine.location.db, secrets.token_bytes(8))
    subscribes = listens(engine.options)
    wanted = [channels.shared, channels.private] if subscribes else [channels.shared]
    with _connection_of(engine) as connection:
        if _reply(connection, "MULTI") is not None:
            yield from _denied(connection, *(("PUBLISH", each, "") for each in wanted))
    if subscribes:
        with _connection_of(engine) as connection:
            yield from _denied(connection, *(("SUBSCRIBE", each) for each in wanted))


def _denied(connection: Connection, *commands: tuple[str, ...]) -> Iterator[str]:
    for words in commands:
        connection.send_command(*words)
        try:
            connection.read_response()
        except NoPermissionError:
            yield " ".join(words[:2])
        except ResponseError:
            continue  # refused for another reason, which is not ours to judge


def _parse_info(reply: Any) -> dict[str, str]:
    if not isinstance(reply, bytes):
        return {}
    lines = reply.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _parse_version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdecimal())


def _parse_limit(reply: Any) -> BufferLimit | None:
    """Read ``normal 0 0 0 slave 1 2 3 pubsub 33554432 8388608 60``."""
    if not isinstance(reply, list) or len(reply) != 2:  # noqa: PLR2004 name and value
        return None
    words = bytes(reply[1]).split()
    if b"pubsub" not in words:
        return None
    start = words.index(b"pubsub") + 1
    return BufferLimit(*map(int, words[start : start + 3]))
