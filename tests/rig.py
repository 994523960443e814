"""What the tests of the library's parts share: a clock, patience, engines apart."""

from __future__ import annotations

import itertools
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import redis

from cachebridge import Cache
from cachebridge.bus.pubsub import Listener
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
from cachebridge.l1.store import LruStore
from cachebridge.stats import Counters
from cachebridge.testing import FakeClock as FakeClock  # noqa: PLC0414 shared here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cachebridge.engine.engine import Engine

STRANGER = b"stranger"
_marks = itertools.count(1)
_made: list[Engine] = []


def eventually(condition: Callable[[], object], timeout_s: float = 5.0) -> None:
    """Wait until the condition holds; fail if it takes too long."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.005)


def make_rules(
    clock: Callable[[], float], *, max_entries: int = 100
) -> tuple[Coherence, LruStore, Counters]:
    """Make the rules over a real store, connected and trusted for 100 s."""
    counters = Counters()
    store = LruStore(max_entries=max_entries, max_bytes=1 << 20, counters=counters)
    rules = Coherence(store, clock=clock, counters=counters)
    rules.on_subscribed()
    rules.extend_trust(clock() + 100)
    counters.reset()
    return rules, store, counters


class Watcher:
    """Keeps what a breaker reports."""

    def __init__(self) -> None:
        self.reports: list[str] = []

    def on_open(self, reason: str) -> None:
        self.reports.append(reason)

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


def engine_of(cache: Cache) -> Engine:
    return cache._binding.engine


def lone_cache(url: str, **options: object) -> Cache:
    """Make a cache whose engine no other cache shares, as in a process of its own."""
    cache = Cache(url, **options)
    engine = engine_of(cache)
    registry._engines.pop(engine.location.identity)
    _made.append(engine)
    return cache


@pytest.fixture(autouse=True)
def stopped_engines() -> Iterator[None]:
    """Stop every engine that the test made, and wait for the end of its thread."""
    yield
    buses = [engine._bus for engine in _made]
    for engine in _made:
        engine.stop(patience_s=5.0)  # a refresh may hold a connection
    for bus in buses:
        if isinstance(bus, Listener):
            bus.join(5.0)
            assert not bus.is_alive()
    _made.clear()


def listening(cache: Cache) -> Cache:
    """Start the bus of the cache now and wait until L1 is trusted."""
    engine_of(cache).listen()
    eventually(lambda: cache.stats().trusted)
    return cache


class Spy:
    """Reads the channel of a database beside the library."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)
        db = self._client.connection_pool.connection_kwargs["db"]
        self.channel = f"cachebridge:{db}"
        self._pubsub = self._client.pubsub()
        self._pubsub.subscribe(self.channel)
        assert self._pubsub.get_message(timeout=5.0)["type"] == "subscribe"

    def frames(self) -> list[bytes]:
        """Return every frame published since the last call."""
        mark = encode_message(
            Message(MessageType.HEARTBEAT, b"\0" * 8, next(_marks), 0)
        )
        self._client.publish(self.channel, mark)
        frames = []
        while True:
            message = self._pubsub.get_message(timeout=5.0)
            assert message is not None, "the mark did not arrive"
            if message["data"] == mark:
                return frames
            frames.append(message["data"])

    def messages(self) -> list[Message]:
        """Return every message but the probes of starting listeners."""
        decoded = [decode_message(frame) for frame in self.frames()]
        return [each for each in decoded if each.type is not MessageType.HEARTBEAT]

    def publish(self, frame: bytes) -> None:
        self._client.publish(self.channel, frame)

    def close(self) -> None:
        self._pubsub.close()
        self._client.close()


@contextmanager
def spying(url: str) -> Iterator[Spy]:
    spy = Spy(url)
    try:
        yield spy
    finally:
        spy.close()
