"""One server, of any kind, as the contract is run over it beside its other users.

Keys stand under a prefix of the run, and all of them are deleted.  Messages are real
ones, about those keys: other processes understand them, and lose nothing by them.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from cachebridge.codec.messages import (
    MAX_KEY_BYTES,
    MAX_KEYS,
    MalformedMessageError,
    Message,
    MessageType,
    decode_message,
    encode_message,
)
from cachebridge.config import parse_options
from cachebridge.core.entry import MISSING
from cachebridge.engine.binding import Binding
from cachebridge.engine.engine import Engine
from cachebridge.l2.keys import encode_key
from cachebridge.l2.memory.server import MemoryServer
from cachebridge.l2.resolving import resolve
from cachebridge.testing.contracts.own_keys import OwnKeys, names_of_ours, remove_names
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from cachebridge.engine.servers.redis_server import RedisServer

PATIENCE_S: Final = 10.0
"""How long the run waits for what has to come by itself."""
_NO_ORIGIN: Final = b"contract"
_MARK: Final = b"the mark of the end"


def eventually(condition: Callable[[], object]) -> bool:
    """Return whether the condition holds in time."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


class Side:
    """A cache as it is in a process of its own."""

    def __init__(self, engine: Engine, binding: Binding) -> None:
        self.engine = engine
        self._calls = binding.coherent.for_threads
        engine.listening.register_adapter(self)

    def get(self, key: str) -> Any:
        """Return the value of a full key, None if there is none."""
        value = run(self._calls.get(key))
        return None if value is MISSING else value

    def set(self, key: str, value: object, ttl_ms: int) -> None:
        """Set a full key."""
        run(self._calls.set(key, value, ttl_ms))

    def has_in_l1(self, key: str) -> bool:
        """Return whether L1 holds the key."""
        return self.engine.l1.look(key) is not None

    def is_trusted(self) -> bool:
        """Return whether heartbeats vouch for L1."""
        return self.engine.rules.is_on(self.engine.clock())

    def hears_a_heartbeat(self) -> bool:
        """Return whether one more comes back; without a server none is needed."""
        rules, before = self.engine.rules, self.engine.rules.trusted_until
        return before == float("inf") or eventually(
            lambda: rules.trusted_until > before
        )


class Place:
    """A server, and two caches on it.  For one thread, but for ``on_loop``.

    Making one raises ConfigError; ``open`` raises L2Error if it does not answer.
    """

    def __init__(
        self, location: str, *, prefix: str, may_flush: bool, **options: object
    ) -> None:
        """``options`` are those of a cache, by their upper-case names."""
        engine_options, own = parse_options({**options, "ON_ERROR": "raise"})
        parsed, engine_options = resolve(location, engine_options)
        memory = MemoryServer()
        engines = [
            Engine(parsed, engine_options, memory_server=memory) for _ in range(2)
        ]
        self.sides = [Side(each, Binding(each, own)) for each in engines]
        self.engine = engines[0]
        self.stores = self.engine.stores
        self.heard = Heard(self.sides[0])
        self.has_bus = self.stores.has_bus
        self.may_flush = may_flush
        self.label = parsed.label
        self._prefix = prefix
        self._numbers = itertools.count()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._names: dict[RedisServer, set[bytes] | None] = {}
        self._reason: str | None = None
        self._left = 0

    @property
    def is_memcached(self) -> bool:
        """Whether the keys are in Memcached, which promises less."""
        return self.stores.cluster is not None

    @property
    def is_local(self) -> bool:
        """Whether there is no server at all."""
        return not self.stores.servers and not self.is_memcached

    def open(self) -> str:
        """Connect; return what the server calls itself, "" if it does not say."""
        for side in self.sides:
            run(side.engine.l2.ping())
        servers = self.stores.servers
        self._names = {server: names_of_ours(server) for server in servers}
        if not self.stores.key_servers:
            return ""
        _, hello = self.stores.key_servers[0].greet()
        return f"{hello.product} {hello.version}".strip()

    def why_untrusted(self) -> str:
        """Let both caches listen, once; return why L1 is not trusted, "" if it is."""
        if self._reason is None:
            self.heard.listen()
            for side in self.sides:
                side.engine.listening.start()
            is_trusted = all(eventually(side.is_trusted) for side in self.sides)
            problem = self.engine.receiver.problem
            self._reason = "" if is_trusted else f"L1 is not trusted: {problem}"
        return self._reason

    def new_prefix(self) -> str:
        """Return what keys of one test begin with."""
        return f"{self._prefix}{next(self._numbers)}:"

    def own_keys(self, side: str) -> OwnKeys:
        """Return the store for threads or for tasks, over no keys yet."""
        return OwnKeys(
            getattr(self.stores, side),
            self.new_prefix(),
            wrap=self.heard.wrap,
            may_flush=self.may_flush,
            lists_keys=not self.is_memcached,
        )

    def remove(self, store: OwnKeys) -> None:
        """Delete all that was written through the store."""
        self._left += run(store.remove(self.stores.threads))

    def on_loop(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in a task of the run's event loop."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, daemon=True).start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> int:
        """Stop both caches, and delete the keys of cachebridge's own that are new.

        Returns how many keys of the tests may be left.
        """
        origins = [side.engine.rules.origin for side in self.sides]
        for side in self.sides:
            bus = side.engine.listening.bus
            side.engine.stop(patience_s=1.0)
            if bus is not None:
                bus.join(PATIENCE_S)
        for server in self.stores.servers:
            if (known := self._names.get(server)) is not None:
                remove_names(server, known, origins)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
        for side in self.sides:
            side.engine.stores.close()
        return self._left


class Heard:
    """What the run publishes, told apart from the messages of other processes."""

    def __init__(self, side: Side) -> None:
        self._engine = side.engine
        self._numbers = itertools.count(secrets.randbits(40) << 20)
        self._given: dict[int, bytes] = {}
        """What each message stands for, by its write id."""
        self._arrived: list[int] = []
        self._apply = side.engine.receiver.on_frame

    def listen(self) -> None:
        """Note frames before they are applied; for a bus that does not run yet."""
        self._engine.receiver.on_frame = self._note  # type: ignore[method-assign]

    def _note(self, frame: bytes) -> bool:
        if len(frame) > 20:  # noqa: PLR2004 the head of a message
            number = int.from_bytes(frame[12:20])
            if number in self._given:
                self._arrived.append(number)
        return self._apply(frame)

    def wrap(self, message: bytes | None, keys: Sequence[str] = ()) -> bytes | None:
        """Return a message about ``keys`` that stands for what a test publishes."""
        if message is None:
            return None
        number = next(self._numbers)
        self._given[number] = message
        try:
            origin = decode_message(message).origin
        except MalformedMessageError:
            origin = _NO_ORIGIN
        fits = len(keys) <= MAX_KEYS and all(
            len(encode_key(key)) <= MAX_KEY_BYTES for key in keys
        )
        named = tuple(keys) if fits else ()
        sent_us = time.time_ns() // 1000
        return encode_message(Message(MessageType.KEYS, origin, number, sent_us, named))

    def since(self) -> list[bytes]:
        """Return what was published since the last call, when all of it has come.

        Raises TimeoutError if it does not come.
        """
        stores = self._engine.stores
        cluster = stores.bus_cluster
        masters = len(cluster.all()) if cluster is not None else 0
        mark = self.wrap(_MARK)
        number = int.from_bytes((mark or b"")[12:20])
        assert stores.switchboard is not None  # noqa: S101 there is a bus
        run(stores.switchboard.publish(mark or b""))
        # Each master hears the mark of each, after all that it has taken before.
        copies = max(1, masters**2)
        if not eventually(lambda: self._arrived.count(number) >= copies):
            raise TimeoutError("a message that was published does not arrive")
        arrived, self._arrived = self._arrived, []
        if masters:  # a message for each slot, and each session brings all of them
            arrived = sorted(set(arrived))
        return [self._given[each] for each in arrived if self._given[each] != _MARK]
