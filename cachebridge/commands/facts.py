"""What the servers say about themselves to the account that the cache uses.

Asked on connections of its own with short timeouts; changes nothing and publishes
nothing.  What the account may not ask stays unknown.  redis-py and pymemcache are
imported where a server of theirs is asked.
"""

from __future__ import annotations

import re
import secrets
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cachebridge.bus.settings import channels_of
from cachebridge.l2.factory import connection_factory
from cachebridge.resp import pack, read_hello

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cachebridge.config import EngineOptions
    from cachebridge.engine.engine import Engine
    from cachebridge.engine.servers.redis_server import RedisServer
    from cachebridge.l2.connections.link import Link
    from cachebridge.l2.location import Address

MOST_WAIT_S: Final = 2.0
"""Longest wait for one answer, whatever the cache's own timeouts are."""
_PUBSUB_LIMIT: Final = re.compile(rb"pubsub ([0-9]{1,18}) ([0-9]{1,18}) ([0-9]{1,9})")
_SAYS_NOTHING: Final = ("NOAUTH", "LOADING", "MASTERDOWN", "CLUSTERDOWN")
_SCRIPTS: Final = (("EVALSHA", "0" * 40, "0"), ("EVAL", "return 1", "0"))
"""Every change of a key in Redis is a script."""


REDIS: Final = "Redis"
MEMCACHED: Final = "Memcached"


class BufferLimit(NamedTuple):
    """How far a subscriber may lag before the server disconnects it; 0 is no limit."""

    hard_bytes: int
    soft_bytes: int
    soft_s: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about a server; None for what it did not say."""

    failure: str = ""
    """Why the server could not be asked at all."""
    product: str = REDIS
    version: tuple[int, ...] | None = None
    max_memory: int | None = None
    eviction_policy: str | None = None
    subscriber_limit: BufferLimit | None = None
    role: str = ""
    """"master" or "replica"; empty if unknown."""
    mode: str = ""
    """"standalone" or "cluster"; empty if unknown."""
    identity: tuple[str, int] | None = None
    """The running server and its database, to tell two addresses of one."""
    refused: tuple[str, ...] = ()
    """Commands that the account may not use, with their channels."""


class Question(NamedTuple):
    """A server that an engine talks to, and how to ask it."""

    label: str
    ask: Callable[[], Facts]
    is_bus: bool = False
    """Whether the server only carries messages."""
    listens: bool = False
    """Whether processes subscribe there."""


def questions_of(engine: Engine) -> list[Question]:
    """Return a question for each server of an engine: of its keys and its messages."""
    questions = []
    if engine.stores.cluster is not None:
        questions += [
            Question(
                f"memcached://{address.name}", partial(_of_memcached, engine, address)
            )
            for address in engine.location.servers
        ]
    stores = engine.stores
    questions += [
        Question(
            server.location.label,
            partial(facts_about, engine, server),
            is_bus=server not in stores.key_servers,
            listens=stores.carries_messages(server) and listens(engine),
        )
        for server in stores.servers
    ]
    return questions


def listens(engine: Engine) -> bool:
    """Return whether processes with this engine's options ever subscribe."""
    return engine.stores.has_bus and engine.options.l1_max_entries > 0


def facts_about(engine: Engine, server: RedisServer | None = None) -> Facts:
    """Ask a Redis of the engine, by default the first, as the engine's own account."""
    from redis.exceptions import RedisError  # noqa: PLC0415

    try:
        return _ask(engine, server or engine.stores.servers[0])
    except (RedisError, OSError) as exc:
        return Facts(failure=f"{type(exc).__name__}: {exc}")


def _of_memcached(engine: Engine, address: Address) -> Facts:
    """Ask a Memcached for its version; its settings are not for a cache to judge."""
    from cachebridge.l2.memcached.link import open_link  # noqa: PLC0415

    try:
        link = open_link(address, _bounded(engine.options))
        try:
            (reply,) = link.exchange(b"version\r\n", 1)
        finally:
            link.close()
    except OSError as exc:
        return Facts(failure=f"{type(exc).__name__}: {exc}", product=MEMCACHED)
    words = getattr(reply, "words", [b""])
    version = _parse_version(words[-1].decode(errors="replace"))
    return Facts(product=MEMCACHED, version=version or None)


def _ask(engine: Engine, server: RedisServer) -> Facts:
    with _link_to(server) as link:
        info = _parse_info(_reply(link, "INFO"))
        limit = _reply(link, "CONFIG", "GET", "client-output-buffer-limit")
        hello = read_hello(_reply(link, "HELLO"))
    version = info.get("redis_version") or hello.version
    run_id = info.get("run_id")
    memory = info.get("maxmemory")
    facts = Facts(
        version=_parse_version(version) if version else None,
        subscriber_limit=_parse_limit(limit),
        role=hello.role,
        mode="" if engine.stores.redis_cluster else hello.mode,
        identity=(run_id, server.location.db) if run_id else None,
        refused=tuple(_refused(engine, server)),
    )
    if (
        server not in engine.stores.key_servers
    ):  # it only carries messages, without memory
        return facts
    return replace(
        facts,
        max_memory=int(memory[:18]) if memory and memory.isdecimal() else None,
        eviction_policy=info.get("maxmemory_policy"),
    )


def _bounded(options: EngineOptions) -> EngineOptions:
    return replace(
        options,
        socket_timeout=min(options.socket_timeout, MOST_WAIT_S),
        socket_connect_timeout=min(options.socket_connect_timeout, MOST_WAIT_S),
    )


@contextmanager
def _link_to(server: RedisServer) -> Iterator[Link]:
    from cachebridge.l2.redis.client import open_link  # noqa: PLC0415

    options = _bounded(server.options)
    make = connection_factory(server.location, options, server.find_master)
    link = open_link(make())
    try:
        yield link
    finally:
        link.close()


def _ask_one(link: Link, words: tuple[str, ...]) -> Any:
    """Send a command and return its reply, which may be an error.

    Raises that of a server which tells nothing to this account, or at the moment.
    """
    (reply,) = link.exchange(pack(*[word.encode() for word in words]), 1)
    if isinstance(reply, Exception) and str(reply).startswith(_SAYS_NOTHING):
        raise reply
    return reply


def _reply(link: Link, *words: str) -> Any:
    """Send a command and return its reply; None if the server refuses it."""
    reply = _ask_one(link, words)
    return None if isinstance(reply, Exception) else reply


def _refused(engine: Engine, server: RedisServer) -> Iterator[str]:
    """Try scripts and the channels of the bus; yield what the account may not use.

    Redis checks rights when it queues a command.  The transaction ends with its
    connection and runs nothing, so no process receives a message.
    """
    if server in engine.stores.key_servers:
        with _link_to(server) as link:
            if _reply(link, "MULTI") is not None:
                yield from (words[0] for words in _denied(link, *_SCRIPTS))
    if not engine.stores.has_bus or not engine.stores.carries_messages(server):
        return
    channels = channels_of(server.location.db, secrets.token_bytes(8))
    subscribes = listens(engine)
    wanted = [channels.shared, channels.private] if subscribes else [channels.shared]
    with _link_to(server) as link:
        if _reply(link, "MULTI") is not None:
            denied = _denied(link, *(("PUBLISH", each, "") for each in wanted))
            yield from (" ".join(words[:2]) for words in denied)
    if subscribes:
        with _link_to(server) as link:
            denied = _denied(link, *(("SUBSCRIBE", each) for each in wanted))
            yield from (" ".join(words) for words in denied)


def _denied(link: Link, *commands: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    from redis.exceptions import NoPermissionError, ResponseError  # noqa: PLC0415

    for words in commands:
        reply = _ask_one(link, words)
        is_unknown = isinstance(reply, ResponseError) and (
            "unknown command" in str(reply).lower()
        )
        # Any other reason than missing rights is not ours to judge.
        if is_unknown or isinstance(reply, NoPermissionError):
            yield words


def _parse_info(reply: Any) -> dict[str, str]:
    if not isinstance(reply, bytes):
        return {}
    lines = reply.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _parse_version(text: str) -> tuple[int, ...]:
    return tuple(int(part[:9]) for part in text.split(".") if part.isdecimal())


def _parse_limit(reply: Any) -> BufferLimit | None:
    """Read ``normal 0 0 0 slave 1 2 3 pubsub 33554432 8388608 60``."""
    if not isinstance(reply, list) or len(reply) != 2:  # noqa: PLR2004 name and value
        return None
    found = _PUBSUB_LIMIT.search(reply[1] if isinstance(reply[1], bytes) else b"")
    return BufferLimit(*map(int, found.groups())) if found else None
