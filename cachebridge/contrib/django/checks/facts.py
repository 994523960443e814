"""What the servers say about themselves to the account that the cache uses.

Asked on connections of its own with short timeouts; changes nothing and publishes
nothing.  Whatever the account may not ask stays unknown.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from cachebridge.bus.session import channels_of
from cachebridge.l2.location import connection_factory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis.connection import Connection

    from cachebridge.config import EngineOptions
    from cachebridge.engine.engine import Engine
    from cachebridge.l2.location import Address, Location

MOST_WAIT_S: Final = 2.0
"""Longest wait for one answer, whatever the cache's own timeouts are."""


REDIS: Final = "Redis"
MEMCACHED: Final = "Memcached"


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
    product: str = REDIS
    version: tuple[int, ...] | None = None
    max_memory: int | None = None
    eviction_policy: str | None = None
    subscriber_limit: BufferLimit | None = None
    refused: tuple[str, ...] = ()
    """Commands on channels that the account has no right to."""


class Question(NamedTuple):
    """A server that an engine talks to, and how to ask it."""

    label: str
    ask: Callable[[], Facts]


def questions_of(engine: Engine) -> list[Question]:
    """Name the servers of an engine: those of its keys, and that of its messages."""
    questions = []
    if engine.stores.cluster is not None:
        questions += [
            Question(
                f"memcached://{address.name}", partial(_of_memcached, engine, address)
            )
            for address in engine.location.servers
        ]
    bus = engine.stores.bus_location
    if bus is not None and bus.is_redis:
        questions.append(Question(bus.label, partial(facts_about, engine, bus)))
    return questions


def listens(engine: Engine) -> bool:
    """Tell whether processes with this engine's options ever subscribe."""
    return engine.stores.has_bus and engine.options.l1_max_entries > 0


def facts_about(engine: Engine, location: Location | None = None) -> Facts:
    """Ask the engine's Redis, as the engine's own account."""
    try:
        return _ask(engine, location or engine.location)
    except (RedisError, OSError) as exc:
        return Facts(failure=f"{type(exc).__name__}: {exc}")


def _of_memcached(engine: Engine, address: Address) -> Facts:
    """Ask a Memcached for its version; how it is set is not for a cache to judge."""
    # Here, because pymemcache is an extra.
    from pymemcache.client.base import Client  # noqa: PLC0415
    from pymemcache.exceptions import MemcacheError  # noqa: PLC0415

    options = _bounded(engine.options)
    client = Client(
        address.target,
        connect_timeout=options.socket_connect_timeout,
        timeout=options.socket_timeout,
        **options.client_kwargs,
    )
    try:
        version = _parse_version(client.version().decode(errors="replace"))
    except (MemcacheError, OSError) as exc:
        return Facts(failure=f"{type(exc).__name__}: {exc}", product=MEMCACHED)
    finally:
        client.close()
    return Facts(product=MEMCACHED, version=version or None)


def _ask(engine: Engine, location: Location) -> Facts:
    with _connection_to(location, engine) as connection:
        info = _parse_info(_reply(connection, "INFO"))
        limit = _reply(connection, "CONFIG", "GET", "client-output-buffer-limit")
    version = info.get("redis_version")
    memory = info.get("maxmemory")
    facts = Facts(
        version=_parse_version(version) if version else None,
        subscriber_limit=_parse_limit(limit),
        refused=tuple(_refused(engine, location)),
    )
    if engine.stores.cluster is not None:  # it has messages alone, which need no room
        return facts
    return replace(
        facts,
        max_memory=int(memory) if memory else None,
        eviction_policy=info.get("maxmemory_policy"),
    )


def _bounded(options: EngineOptions) -> EngineOptions:
    return replace(
        options,
        socket_timeout=min(options.socket_timeout, MOST_WAIT_S),
        socket_connect_timeout=min(options.socket_connect_timeout, MOST_WAIT_S),
    )


@contextmanager
def _connection_to(location: Location, engine: Engine) -> Iterator[Connection]:
    options = _bounded(engine.options)
    if engine.stores.cluster is not None:
        options = replace(options, client_kwargs={})  # those are Memcached's
    connection = connection_factory(location, options)()
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


def _refused(engine: Engine, location: Location) -> Iterator[str]:
    """Try the channels of the bus, and name what the account has no right to.

    Rights are looked at when a command is queued; a transaction that ends with its
    connection runs nothing, so that no process receives anything.
    """
    if not engine.stores.has_bus:
        return
    channels = channels_of(location.db, secrets.token_bytes(8))
    subscribes = listens(engine)
    wanted = [channels.shared, channels.private] if subscribes else [channels.shared]
    with _connection_to(location, engine) as connection:
        if _reply(connection, "MULTI") is not None:
            yield from _denied(connection, *(("PUBLISH", each, "") for each in wanted))
    if subscribes:
        with _connection_to(location, engine) as connection:
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
