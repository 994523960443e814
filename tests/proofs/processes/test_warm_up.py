"""A recycled worker is as good as its siblings; what it reads ahead is never stale."""

from __future__ import annotations

import importlib.util
import json
import random
import sys
import threading
import urllib.request
from contextlib import suppress
from itertools import count

import pytest

from cachebridge.engine.warming.automatic import BATCH
from tests.children import Child
from tests.proofs.processes import recycled_app
from tests.proofs.processes.recycled import CAPACITY, WINDOW, observe
from tests.rig import (
    PATIENCE_S,
    PATIENT,
    after_heartbeats,
    engine_of,
    eventually,
    lone_cache,
    refreshed,
)

pytestmark = pytest.mark.proof


def test_a_recycled_worker_is_warm_at_once(redis_url):
    """It needs at most 5 % of the requests that a cold one needs."""
    told = observe(redis_url)
    assert told.warmed > CAPACITY * 0.9, told
    assert told.needed(told.cold) > 5 * WINDOW, told
    assert told.needed(told.recycled) <= 0.05 * told.needed(told.cold), told


def test_nothing_is_stale_that_was_written_meanwhile(redis_url):
    """Workers warm up while a peer writes the same keys; then L1 has what L2 has."""
    options = {**PATIENT, "l1_warm": True, "bus_heartbeat": 0.05}
    keys = [f"key:{n}" for n in range(3 * BATCH)]
    first = listening(redis_url, options)
    eventually(lambda: engine_of(first).warm_up._work.todo is not None)
    first.set_many(dict.fromkeys(keys, 0))
    engine_of(first).stop(patience_s=2.0)
    writer, over = lone_cache(redis_url, **PATIENT), threading.Event()

    def write():
        chance = random.Random(1)
        for version in count(1):
            writer.set_many(dict.fromkeys(chance.sample(keys, 5), version))
            if over.is_set():
                return

    writing = threading.Thread(target=write)
    writing.start()
    workers = []
    try:
        for _ in range(4):
            workers.append(listening(redis_url, options))
            eventually(lambda: engine_of(workers[-1]).warm_up._work.todo == [])
            refreshed(workers[-1])
    finally:
        over.set()
        writing.join()
    wanted = writer.get_many(keys)
    assert max(wanted.values()) > 10
    for each in workers:
        after_heartbeats(each)
        assert each.stats().warmed > BATCH
        assert each.get_many(keys) == wanted
        assert each.stats().l1_hits > 0


@pytest.mark.skipif(
    importlib.util.find_spec("gunicorn") is None,
    reason="runs workers under gunicorn, which is not installed",
)
def test_gunicorns_new_worker_reads_hot_keys_from_l1(redis_url, free_port):
    """After ``max_requests`` its successor does not ask L2, from its first request."""
    hot = {key: f"value of {key}" for key in recycled_app.HOT}
    lone_cache(redis_url).set_many({**hot, recycled_app.SETTING: 1})
    server = Child(
        [
            *(sys.executable, "-m", "gunicorn", "--log-level", "warning"),
            *("--config", "python:tests.proofs.processes.recycled_app"),
            "tests.proofs.processes.recycled_app:application",
        ],
        env={"CACHE_URL": redis_url, "SITE": f"127.0.0.1:{free_port}"},
    )
    answers = []

    def successor():
        with (
            suppress(OSError),
            urllib.request.urlopen(
                f"http://127.0.0.1:{free_port}/", timeout=PATIENCE_S
            ) as response,
        ):
            answers.append(json.loads(response.read()))
            return answers[-1]["age"] > recycled_app.workers and answers[-1]
        assert server.poll() is None, server.said()
        return None

    try:
        warm = eventually(successor, "a worker has been replaced")
    finally:
        server.end()
    cold = answers[0]
    assert (cold["handled"], cold["l1_hits"], cold["l2_reads"]) == (1, 0, len(hot))
    assert (warm["handled"], warm["l1_hits"], warm["l2_reads"]) == (1, len(hot), 0)
    assert warm["warmed"] >= len(hot)
    assert all(answer["values"] == list(hot.values()) for answer in answers)


def listening(url, options):
    """Return the cache of a new worker that L1 may serve."""
    cache = lone_cache(url, **options)
    engine_of(cache).listening.start()
    eventually(lambda: cache.stats().trusted)
    return cache
