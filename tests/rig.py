"""What the tests of the library's parts share: patience, private names, own engines."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from contextlib import closing
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pytest
import redis

from cachebridge import Cache
from cachebridge.bus.listener import Listener
from cachebridge.bus.masters import MastersBus
from cachebridge.codec.messages import (
    Message,
    MessageType,
    decode_message,
    encode_message,
)
from cachebridge.core.breaker import Breaker
from cachebridge.core.coherence import Coherence
from cachebridge.core.entry import make_entry
from cachebridge.engine import registry
from cachebridge.errors import L2UnavailableError
from cachebridge.l1.eviction import POLICIES
from cachebridge.stats import Counters
from cachebridge.testing import FakeClock as FakeClock  # noqa: PLC0414 shared here
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cachebridge.engine.engine import Engine
    from cachebridge.l1.store import L1Store

PATIENCE_S: Final = 30.0
"""How long a test waits for what must happen.

It costs nothing: the wait ends when the condition holds.  Only a failure takes as long,
and a machine that is busy elsewhere must not cause one.
"""
EXPIRY_S: Final = 0.05
"""What ``let_expire`` adds: servers round the time of expiry to their own ticks."""

PATIENT: Final = {
    "socket_timeout": 4 * PATIENCE_S,
    "socket_connect_timeout": 4 * PATIENCE_S,
}
"""Options for caches of which nothing is to fail: a call that timed out answers None.

Also for those that must not wait for a socket: it would last longer than the patience.
"""
PATIENT_SETTINGS: Final = {name.upper(): value for name, value in PATIENT.items()}
"""The same for Django's OPTIONS and Flask's CACHE_BRIDGE."""

STRANGER = b"stranger"
T = TypeVar("T")
_marks = itertools.count(1)
_made: list[Engine] = []


def eventually(
    condition: Callable[[], T], what: str = "", *, timeout_s: float = PATIENCE_S
) -> T:
    """Return the first true answer of ``condition``; fail if none comes in time.

    A server that does not answer yet is no answer: its error comes out only if it is
    still there at the end.  ``timeout_s`` is for tests of this function: no promise is
    a number of seconds here.
    """
    deadline = time.monotonic() + timeout_s
    while not (answer := _answer_of(condition, deadline)):
        assert time.monotonic() < deadline, _too_late(condition, what, timeout_s)
        time.sleep(0.005)  # a poll: what is waited for may be in another process
    return answer


async def until(
    condition: Callable[[], T], what: str = "", *, timeout_s: float = PATIENCE_S
) -> T:
    """Let the loop run until the condition holds, and return its answer."""
    deadline = time.monotonic() + timeout_s
    while not (answer := _answer_of(condition, deadline)):
        assert time.monotonic() < deadline, _too_late(condition, what, timeout_s)
        await asyncio.sleep(0.002)  # a poll, as above
    return answer


def _answer_of(condition: Callable[[], T], deadline: float) -> T | None:
    try:
        return condition()
    except L2UnavailableError:
        if time.monotonic() < deadline:
            return None
        raise


def _too_late(condition: Callable[[], object], what: str, timeout_s: float) -> str:
    if not what:
        code = getattr(condition, "__code__", None)
        what = f"{condition!r}, line {code.co_firstlineno}" if code else repr(condition)
    return f"not within {timeout_s} s: {what}"


def let_expire(ttl_s: float) -> None:
    """Sleep until a TTL is over that a real server counts by its own clock.

    Sleeping longer is always right here: what must be over is over.
    """
    time.sleep(ttl_s + EXPIRY_S)


class Plain:
    """A store whose coroutines are plain calls."""

    def __init__(self, store: object) -> None:
        self._inner = store

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._inner, name)
        if not callable(attribute):
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            result = attribute(*args, **kwargs)
            return run(result) if iscoroutine(result) else result

        return call


def make_rules(
    clock: Callable[[], float], *, max_entries: int = 100, eviction: str = "s3fifo"
) -> tuple[Coherence, L1Store, Counters]:
    """Make the rules over a real store, connected and trusted for 100 s."""
    counters = Counters()
    store = POLICIES[eviction](
        max_entries=max_entries, max_bytes=1 << 20, counters=counters
    )
    rules = Coherence(store, clock=clock, counters=counters)
    rules.on_subscribed()
    rules.extend_trust(clock() + 100)
    counters.reset()
    return rules, store, counters


class Watcher:
    """Keeps what a breaker reports."""

    def __init__(self) -> None:
        self.reports: list[str] = []
        self.since: list[float] = []

    def on_open(self, reason: str, since: float) -> None:
        self.reports.append(reason)
        self.since.append(since)

    def on_close(self) -> None:
        self.reports.append("closed")


def never_open() -> Breaker:
    """Make a breaker that lets every call through."""
    return Breaker(
        threshold=0,
        retry_s=1.0,
        clock=time.monotonic,
        jitter=lambda low, _high: low,
        watcher=Watcher(),
    )


def entry_of(payload: object, *, expires: float = 2000.0, write_id: int = 0):
    """Make an entry that the tests recognise by its payload."""
    return make_entry(expires, "kind", payload, 64, write_id)


# -- the one door to private names: a name that moves is mended here, once -------------


def binding_of(cache: Any) -> Any:
    """Return a cache's share of its engine; for Django's and for plain caches."""
    return cache._binding


def engine_of(cache: Any) -> Engine:
    """Return the engine; for Django's and for plain caches."""
    return binding_of(cache).engine


def options_of(cache: Any) -> Any:
    """Return the options of one cache, parsed."""
    return binding_of(cache).options


def rules_of(cache: Any) -> Any:
    """Return the rules of coherence."""
    return engine_of(cache).rules


def l1_of(cache: Any) -> Any:
    """Return the store in memory."""
    return engine_of(cache).l1


def entries_of(engine: Engine) -> dict[str, Any]:
    """Return all entries in memory, by full key."""
    return {key: engine.l1.look(key) for key in engine.l1.all_keys()}


def eviction_state(engine: Engine) -> tuple[Any, ...]:
    """Return what decides which entry leaves memory next, under ``s3fifo``."""
    l1: Any = engine.l1
    ghosts = frozenset(l1._ghosts), frozenset(l1._older_ghosts)
    marks = frozenset(l1._marks | l1._older_marks)
    return (tuple(l1._small), tuple(l1._main), marks, *ghosts)


def l2_of(cache: Any) -> Any:
    """Return the shared store, for plain calls."""
    return Plain(engine_of(cache).l2)


def stores_of(cache: Any) -> Any:
    """Return all stores of the engine, the bus's included."""
    return engine_of(cache).stores


def pool_of(cache: Any) -> Any:
    """Return the pool of connections to Redis that threads use."""
    return engine_of(cache).l2.client.links


def task_pool_of(cache: Any) -> Any:
    """Return the pool of connections to Redis that tasks use."""
    return engine_of(cache).l2_for_tasks.client.links


def cluster_of(cache: Any) -> Any:
    """Return the Memcached servers of the cache."""
    return stores_of(cache).cluster


def outbox_of(cache: Any) -> Any:
    """Return the messages that could not be published yet."""
    return stores_of(cache).outbox


def bus_of(cache: Any) -> Any:
    """Return the listener, None while none runs."""
    return engine_of(cache).listening.bus


def receiver_of(cache: Any) -> Any:
    """Return what handles the messages that the listener hears."""
    return engine_of(cache).receiver


def breaker_of(cache: Any) -> Any:
    """Return the breaker of the shared store."""
    return engine_of(cache).breaker


def bus_breaker_of(cache: Any) -> Any:
    """Return the breaker of a bus beside the shared store."""
    return outbox_of(cache)._bus.client.breaker


def outage_of(cache: Any) -> Any:
    """Return the state of an outage."""
    return engine_of(cache).outage


def pending_deletes_of(cache: Any) -> Any:
    """Return the deletes that the shared store still has to carry out."""
    return outage_of(cache).pending_deletes


def write_behind_of(cache: Any) -> Any:
    """Return the queue of what its engine is to send."""
    return engine_of(cache).write_behind


def single_flight_of(cache: Any) -> Any:
    """Return the loads that callers share now."""
    return engine_of(cache).single_flight


def load_slots_of(cache: Any) -> Any:
    """Return the slots of running loaders (MAX_LOADS)."""
    return engine_of(cache).load_slots._slots


def is_idle(cache: Any) -> bool:
    """Return whether nothing of any call is left in the engine."""
    return rules_of(cache).is_idle() and single_flight_of(cache).is_idle()


def followers_in(cache: Any) -> int:
    """Return how many callers wait for the load of another."""
    return len(single_flight_of(cache)._waiting)


def refreshed(cache: Any) -> None:
    """Wait until no refresh runs."""
    eventually(engine_of(cache).refresher.is_idle)
    eventually(engine_of(cache).task_refresher.is_idle)


def after_heartbeats(cache: Any, count: int = 2) -> None:
    """Wait until the listener has heard so many more of its own heartbeats.

    What was published before has been handled by then: this is how a test waits to see
    that something does *not* happen.
    """
    receiver, heard = receiver_of(cache), []
    on_heartbeat = receiver.on_heartbeat

    def counting(*args: Any, **kwargs: Any) -> None:
        on_heartbeat(*args, **kwargs)
        heard.append(1)

    receiver.on_heartbeat = counting
    try:
        eventually(lambda: len(heard) >= count, f"{count} heartbeats")
    finally:
        del receiver.on_heartbeat


def held_reads(cache: Any) -> tuple[threading.Event, threading.Event]:
    """Hold the next ``get_many`` when it has read; return "it has" and "go on"."""
    operations = binding_of(cache).coherent.for_threads._operations
    store, read, go_on = operations.l2, threading.Event(), threading.Event()

    class Slow:
        async def get_many(self, keys: Any) -> Any:
            operations.l2 = store
            reads = await store.get_many(keys)
            read.set()
            assert go_on.wait(PATIENCE_S)
            return reads

    operations.l2 = Slow()
    return read, go_on


def after_next_read(cache: Any, then: Callable[[], object]) -> None:
    """Have a thread that appends do something between its next read and the rest."""
    operations = binding_of(cache).coherent.for_threads._operations
    read = operations.read

    async def reading(key: str) -> Any:
        operations.read = read
        found = await read(key)
        then()
        return found

    operations.read = reading


# -- caches ---------------------------------------------------------------------------


def lone_cache(url: str, **options: object) -> Cache:
    """Make a cache whose engine no other cache shares, as in a process of its own."""
    shared, registry._engines = registry._engines, {}
    try:
        cache = Cache(url, **options)
    finally:
        registry._engines = shared
    _made.append(engine_of(cache))
    return cache


@pytest.fixture(autouse=True)
def stopped_engines() -> Iterator[None]:
    """Stop every engine that the test made, and wait for the end of its thread."""
    yield
    buses = [engine.listening.bus for engine in _made]
    for engine in _made:
        engine.stop(patience_s=5.0)  # a refresh may hold a connection
    for bus in buses:
        listeners = [bus]
        if isinstance(bus, MastersBus):
            listeners = bus._each()
        for listener in listeners:
            if isinstance(listener, Listener):
                listener.join(PATIENCE_S)
                assert not listener.is_alive()
    _made.clear()


@pytest.fixture(autouse=True)
def no_shared_memory() -> Iterator[None]:
    """What a test has in ``memory://``, with its options, meets no later test."""
    yield
    with registry._lock:  # a listener may be looking for siblings
        for identity, (engine, _) in list(registry._engines.items()):
            if engine.location.scheme == "memory":
                del registry._engines[identity]


def listening(cache: Cache) -> Cache:
    """Start the bus of the cache now and wait until L1 is trusted."""
    engine_of(cache).listening.start()
    eventually(lambda: cache.stats().trusted)
    return cache


def each_reaches(
    changes: Iterable[tuple[Callable[[], object], object]], ours: Cache, theirs: Cache
) -> None:
    """Make each change of "k"; its value ends what L1 of the other cache has held."""
    for change, value in changes:
        theirs.get("k")
        hits = theirs.stats().l1_hits
        seen = theirs.get("k")
        assert theirs.stats().l1_hits == hits + (seen is not None)
        change()
        eventually(lambda value=value: theirs.get("k") == value)
        assert ours.get("k") == value


def messages_in(frames: Iterable[bytes]) -> list[Message]:
    """Decode what was published; leave the heartbeats out."""
    decoded = map(decode_message, frames)
    return [each for each in decoded if each.type is not MessageType.HEARTBEAT]


class Spy:
    """Reads the channel of a database beside the library."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)
        db = self._client.connection_pool.connection_kwargs["db"]
        self.channel = f"cachebridge:{db}"
        self._pubsub = self._client.pubsub()
        self._pubsub.subscribe(self.channel)
        assert self._pubsub.get_message(timeout=PATIENCE_S)["type"] == "subscribe"

    def frames(self) -> list[bytes]:
        """Return every frame published since the last call."""
        mark = encode_message(
            Message(MessageType.HEARTBEAT, b"\0" * 8, next(_marks), 0)
        )
        self._client.publish(self.channel, mark)
        frames = []
        while True:
            message = self._pubsub.get_message(timeout=PATIENCE_S)
            assert message is not None, "the mark did not arrive"
            if message["data"] == mark:
                return frames
            frames.append(message["data"])

    def messages(self) -> list[Message]:
        """Return every message but the probes of starting listeners."""
        return messages_in(self.frames())

    def publish(self, frame: bytes) -> None:
        self._client.publish(self.channel, frame)

    def close(self) -> None:
        self._pubsub.close()
        self._client.close()


def spying(url: str) -> closing[Spy]:
    """Read along at a database, for the time of a ``with``."""
    return closing(Spy(url))
