"""K1 to K5: a private Redis Cluster of three masters, beside one server.

All nodes and the server have the same settings and are on this machine.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from benchmarks.contenders import await_trust, database
from benchmarks.harness import interleave, timed_batch
from benchmarks.report import Limit, Row, judge_hits
from cachebridge import Cache
from cachebridge.testing import redis_cluster

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["measure"]

ONE = "one server"
CLUSTER = "cluster"
PIPELINE = "RedisCluster pipeline"

_MASTERS = 3
_KEYS = [f"article:{number:04d}" for number in range(100)]
_VALUE = "a short string"
_PAIRS = dict.fromkeys(_KEYS, _VALUE)
_CHANNEL = "nobody:hears"
_MESSAGE = b"\0" * 4000
_SET = "cache.set(key, value, 300)"
_ROUNDS = 301
_WITHIN_S = 15.0
_LISTENERS = 9
_WRITES = 4000
_WRITES_AT_ONCE = 20
_WRITES_PER_S = 2000

Caches = dict[str, Cache]


def _at_most(label: str, peer: str, share: float) -> Limit:
    return Limit(label, peer, share, "at most", f"{label} <= {share:g}x {peer}")


def measure(redis_url: str) -> list[Row]:
    """Time calls, then count what a write costs processes that only listen."""
    with redis_cluster(masters=_MASTERS) as cluster:
        urls = {ONE: database(redis_url, 13), CLUSTER: cluster.url}
        with ExitStack() as opened:
            near = _caches(urls, opened)
            rows = [
                _row("K1", "set, short str", _each(near, _SET)),
                _hits(near),
                _set_many("K4", "set_many(100)", near, cluster),
            ]
        with ExitStack() as opened:
            # So few entries that each key has left L1 when its turn has come again.
            far = _caches(urls, opened, L1_MAX_ENTRIES=10)
            rows.append(_row("K2", "get, in L2 alone", _each(far, "cache.get(key)")))
        with ExitStack() as opened:
            bare = _caches(urls, opened, L1_MAX_ENTRIES=0)
            rows += [
                _row("K1b", "set, by a process without L1", _each(bare, _SET)),
                _set_many("K4b", "set_many(100), without L1", bare, cluster),
            ]
        return [*sorted(rows, key=lambda row: row.name), _fan_out(urls)]


def _caches(urls: Mapping[str, str], opened: ExitStack, **options: Any) -> Caches:
    caches = {
        label: opened.enter_context(Cache(url, **options))
        for label, url in urls.items()
    }
    for cache in caches.values():
        if options.get("L1_MAX_ENTRIES") != 0:
            await_trust(cache)
        cache.set_many(_PAIRS)
        cache.get_many(_KEYS)
    return caches


def _each(caches: Caches, call: str) -> dict[str, Any]:
    return {
        label: timed_batch(
            f"for key in keys: {call}",
            {"cache": cache, "keys": _KEYS, "value": _VALUE},
            calls=len(_KEYS),
        )
        for label, cache in caches.items()
    }


def _row(name: str, title: str, batches: Mapping[str, Any], *more: Limit) -> Row:
    figures = interleave(batches, _ROUNDS, within_s=_WITHIN_S)
    limits = more or (_at_most(CLUSTER, ONE, 1.15),)
    best = {label: min(samples) * 1e6 for label, samples in figures.items()}
    told = ", ".join(f"{label} {figure:.3g} µs" for label, figure in best.items())
    verdicts = [limit.judge(figures) for limit in limits]
    return Row(name, title, "s", figures, verdicts, [f"the best batch: {told}"])


def _hits(caches: Caches) -> Row:
    before = {label: cache.stats() for label, cache in caches.items()}
    batches = _each(caches, "cache.get(key)")
    row = _row("K3", "get, hit in L1", batches, _at_most(CLUSTER, ONE, 1.05))
    for label, cache in caches.items():
        row.verdicts.append(judge_hits(before[label], cache.stats()))
    return row


def _set_many(name: str, title: str, caches: Caches, cluster: Any) -> Row:
    """Beside redis-py: a hundred SETs and one PUBLISH, which its pipeline refuses."""
    from redis.cluster import RedisCluster

    node = cluster.nodes[0]
    with RedisCluster(host=node.host, port=node.port) as client:

        def pipeline() -> None:
            with client.pipeline() as calls:
                for key, value in _PAIRS.items():
                    calls.set(key, value, px=300_000)
                calls.execute()
            client.publish(_CHANNEL, _MESSAGE)

        batches = {
            label: timed_batch(
                "cache.set_many(pairs, 300)", {"cache": cache, "pairs": _PAIRS}
            )
            for label, cache in caches.items()
        }
        batches[PIPELINE] = timed_batch("call()", {"call": pipeline})
        return _row(name, title, batches, _at_most(CLUSTER, PIPELINE, 0.5))


def _fan_out(urls: Mapping[str, str]) -> Row:
    """Write, and ask processes that only listen what they have spent on it."""
    figures, notes = {}, []
    for label, url in urls.items():
        found = _listen_to(url)
        figures[label] = [spent_s / messages for messages, spent_s in found]
        heard = sum(messages for messages, _ in found) / len(found) / _WRITES
        share = sum(spent_s for _, spent_s in found) / len(found) / _WRITES
        notes.append(
            f"{label}: {heard:.2f} messages a write at each of {_LISTENERS} processes, "
            f"{share * 1e6:.1f} µs of CPU a write"
        )
    title = f"a message at a process that listens, CPU; {_WRITES_PER_S} writes/s"
    return Row("K5", title, "s", figures, [], notes)


def _listen_to(url: str) -> list[tuple[int, float]]:
    """Return the messages and the CPU seconds of each process."""
    command = [sys.executable, "-m", "benchmarks.cluster_worker", url]
    listeners = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(_LISTENERS)
    ]
    try:
        for each in listeners:
            assert each.stdout is not None
            each.stdout.readline()
        with Cache(url, L1_MAX_ENTRIES=0) as cache:
            for start in range(0, _WRITES, _WRITES_AT_ONCE):
                for number in range(start, start + _WRITES_AT_ONCE):
                    cache.set(f"fan-out:{number % 1000}", number)
                time.sleep(_WRITES_AT_ONCE / _WRITES_PER_S / 2)
        time.sleep(0.5)
        found = []
        for each in listeners:
            words = each.communicate("", timeout=30)[0].split()
            found.append((int(words[0]), float(words[1])))
        return found
    finally:
        for each in listeners:
            each.kill()
            each.wait()
