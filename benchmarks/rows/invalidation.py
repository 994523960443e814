"""T14, M6: from the sending of a write until a peer process's L1 has dropped the key.

Receivers, each a process of its own on a database, and so a channel, of its own:
cachebridge with few entries, cachebridge with many, and a bare redis-py PubSub; for M6
cachebridge over Redis, and over Memcached with Redis as its bus. One writer sends the
same writes to each in turns and notes the monotonic clock, which the processes of one
host share, before every write.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from statistics import median
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import redis

import cachebridge
from benchmarks import contenders
from benchmarks.contenders import OURS
from benchmarks.harness import interleave
from benchmarks.report import Limit, Row
from cachebridge.bus.settings import channels_of
from cachebridge.testing import memcached_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from multiprocessing.connection import Connection

__all__ = ["measure", "measure_memcached"]

_WRITES = 40
_ROUNDS = 21
_PAUSE_S = 0.001
_WAIT_S = 5.0
_KEYS = [f"price:{number:03d}" for number in range(_WRITES)]
_FEW, _MANY = 100, 100_000
_LASTING = {"L1_MAX_ENTRIES": 2 * _MANY, "L1_TTL": 3600}
_DAY_S = 86_400

SMALL = f"{OURS}, L1 of {_FEW}"
LARGE = f"{OURS}, L1 of {_MANY:,}"
BARE = "redis-py PubSub, bare"
OVER_REDIS = "over Redis"
OVER_MEMCACHED = "over Memcached, Redis bus"


@dataclass(frozen=True, slots=True)
class Way:
    """Where a writer writes, and who is to hear of it on which bus."""

    location: str
    bus: str
    entries: int = _FEW
    """Those of the receiver's L1; 0 is a bare subscriber."""
    options: dict[str, object] = field(default_factory=dict)


def measure(redis_url: str) -> list[Row]:
    """Write to all receivers in turns; the figure of a round is its median delay."""
    figures = _time(
        {
            SMALL: _over_redis(redis_url, 6, _FEW),
            BARE: _over_redis(redis_url, 7, 0),
            LARGE: _over_redis(redis_url, 8, _MANY),
        }
    )
    limits = [
        Limit(SMALL, BARE, 1.0, "at most", "<= a bare redis-py PubSub"),
        Limit(LARGE, BARE, 1.0, "at most", f"<= the same with {_MANY:,} entries"),
        Limit(LARGE, SMALL, 1.15, "at most", "independent of the number of entries"),
    ]
    return [
        Row(
            "T14",
            "invalidation, one way, p50",
            "s",
            figures,
            [limit.judge(figures) for limit in limits],
        )
    ]


def measure_memcached(redis_url: str) -> list[Row]:
    """The same over Memcached, where the message follows the change."""
    with memcached_server() as server:
        bus = contenders.database(redis_url, 13)
        figures = _time(
            {
                OVER_REDIS: _over_redis(redis_url, 6, _FEW),
                OVER_MEMCACHED: Way(server.url, bus, options={"bus_location": bus}),
            }
        )
    limit = Limit(
        OVER_MEMCACHED, OVER_REDIS, 2.0, "at most", "one round trip more (<= 2x)"
    )
    return [
        Row(
            "M6",
            "invalidation, one way, p50",
            "s",
            figures,
            [limit.judge(figures)],
        )
    ]


def _over_redis(redis_url: str, number: int, entries: int) -> Way:
    url = contenders.database(redis_url, number)
    return Way(url, url, entries)


def _time(ways: Mapping[str, Way]) -> dict[str, list[float]]:
    with ExitStack() as running:
        rounds = {
            label: running.enter_context(_receiver(label, way))
            for label, way in ways.items()
        }
        interleave(rounds, 2)
        return interleave(rounds, _ROUNDS)


@contextmanager
def _receiver(label: str, way: Way) -> Iterator[object]:
    """Start a receiver and give what writes to it for one round."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_listen_cached if way.entries else _listen_bare, args=(way, theirs)
    )
    process.start()
    theirs.close()
    writer = cachebridge.Cache(way.location, **way.options)
    contenders.await_trust(writer)
    assert ours.recv() == "ready"

    def write_round() -> float:
        ours.send("load")
        ours.recv()
        sent = []
        for number, key in enumerate(_KEYS):
            sent.append(time.monotonic())
            writer.set(key, number, _DAY_S)
            time.sleep(_PAUSE_S)
        ours.send("report")
        arrived = ours.recv()
        if len(arrived) != len(sent):
            raise RuntimeError(f"{label}: {len(arrived)} of {len(sent)} messages came")
        return median(b - a for a, b in zip(sent, arrived, strict=True))

    try:
        yield write_round
    finally:
        ours.close()
        process.join()


def _listen_cached(way: Way, parent: Connection) -> None:
    """Hold the keys in L1 and note when the handling of a message has ended."""
    from cachebridge.core.coherence import Coherence

    arrived: list[float] = []
    handle = Coherence.on_keys

    def on_keys(*arguments: object) -> None:
        handle(*arguments)
        arrived.append(time.monotonic())

    Coherence.on_keys = on_keys
    cache = cachebridge.Cache(way.location, **_LASTING, **way.options)
    contenders.await_trust(cache)
    others = [f"other:{number:06d}" for number in range(way.entries - _WRITES)]
    for start in range(0, len(others), 500):
        cache.set_many(dict.fromkeys(others[start : start + 500], "x"), _DAY_S)
    cache.set_many(dict.fromkeys(_KEYS, -1), _DAY_S)

    def load() -> None:
        cache.get_many(_KEYS)
        held = cache.stats().l1_entries
        if held < way.entries:
            raise RuntimeError(f"L1 holds {held} entries of {way.entries}")

    _await_echoes(cache)
    _serve(parent, arrived, load)


def _await_echoes(cache: cachebridge.Cache) -> None:
    """Let the messages of our own writes pass, which are not to be counted."""
    deadline = time.monotonic() + _WAIT_S
    while (stats := cache.stats()).messages_received < stats.messages_sent:
        if time.monotonic() > deadline:
            raise TimeoutError(f"own messages did not come back: {stats}")
        time.sleep(0.01)


def _listen_bare(way: Way, parent: Connection) -> None:
    """Do nothing with a message but note when redis-py handed it over."""
    arrived: list[float] = []
    client = redis.Redis.from_url(way.bus)
    database = int(urlsplit(way.bus).path.strip("/"))
    subscriber = client.pubsub(ignore_subscribe_messages=True)
    subscriber.subscribe(channels_of(database, b"").shared)

    def listen() -> None:
        for _ in subscriber.listen():
            arrived.append(time.monotonic())  # noqa: PERF401 - read while it grows

    threading.Thread(target=listen, daemon=True).start()
    _serve(parent, arrived, lambda: None)


def _serve(parent: Connection, arrived: list[float], load: object) -> None:
    """Answer the writer until it hangs up."""
    parent.send("ready")
    while True:
        try:
            asked = parent.recv()
        except EOFError:
            return
        if asked == "load":
            load()
            arrived.clear()
            parent.send("loaded")
            continue
        deadline = time.monotonic() + _WAIT_S
        while len(arrived) < _WRITES and time.monotonic() < deadline:
            time.sleep(0.002)
        parent.send(list(arrived))
