"""T14: from the sending of a write until a peer process's L1 has dropped the key.

Three receivers, each a process of its own on a database, and so a channel, of its own:
cachebridge with few entries, cachebridge with many, and a bare redis-py PubSub. One
writer sends the same writes to each in turns and notes the monotonic clock, which the
processes of one host share, before every write.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from statistics import median
from typing import TYPE_CHECKING

import redis

import cachebridge
from benchmarks import contenders
from benchmarks.contenders import OURS
from benchmarks.harness import interleave
from benchmarks.report import Limit, Row
from cachebridge.bus.session import channels_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

__all__ = ["measure"]

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

_DATABASES = {SMALL: 6, BARE: 7, LARGE: 8}
_ENTRIES = {SMALL: _FEW, LARGE: _MANY}


def measure(redis_url: str) -> list[Row]:
    """Write to all receivers in turns; the figure of a round is its median delay."""
    with ExitStack() as running:
        rounds = {
            label: running.enter_context(_receiver(label, redis_url))
            for label in _DATABASES
        }
        interleave(rounds, 2)
        figures = interleave(rounds, _ROUNDS)
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


@contextmanager
def _receiver(label: str, redis_url: str) -> Iterator[object]:
    """Start a receiver and give what writes to it for one round."""
    url = contenders.database(redis_url, _DATABASES[label])
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_listen_bare if label == BARE else _listen_cached,
        args=(url, _DATABASES[label], _ENTRIES.get(label, 0), theirs),
    )
    process.start()
    theirs.close()
    writer = cachebridge.Cache(url)
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


def _listen_cached(url: str, _: int, entries: int, parent: Connection) -> None:
    """Hold the keys in L1 and note when the handling of a message has ended."""
    from cachebridge.core.coherence import Coherence

    arrived: list[float] = []
    handle = Coherence.on_keys

    def on_keys(*arguments: object) -> None:
        handle(*arguments)
        arrived.append(time.monotonic())

    Coherence.on_keys = on_keys
    cache = cachebridge.Cache(url, **_LASTING)
    contenders.await_trust(cache)
    others = [f"other:{number:06d}" for number in range(entries - _WRITES)]
    for start in range(0, len(others), 500):
        cache.set_many(dict.fromkeys(others[start : start + 500], "x"), _DAY_S)
    cache.set_many(dict.fromkeys(_KEYS, -1), _DAY_S)

    def load() -> None:
        cache.get_many(_KEYS)
        held = cache.stats().l1_entries
        if held < entries:
            raise RuntimeError(f"L1 holds {held} entries of {entries}")

    _await_echoes(cache)
    _serve(parent, arrived, load)


def _await_echoes(cache: cachebridge.Cache) -> None:
    """Let the messages of our own writes pass, which are not to be counted."""
    deadline = time.monotonic() + _WAIT_S
    while (stats := cache.stats()).messages_received < stats.messages_sent:
        if time.monotonic() > deadline:
            raise TimeoutError(f"own messages did not come back: {stats}")
        time.sleep(0.01)


def _listen_bare(url: str, database: int, _: int, parent: Connection) -> None:
    """Do nothing with a message but note when redis-py handed it over."""
    arrived: list[float] = []
    client = redis.Redis.from_url(url)
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
