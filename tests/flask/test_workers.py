"""Two gunicorn workers of a Flask site and two of a Django site over one Redis."""

from __future__ import annotations

import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from cachebridge.testing.ports import free_port
from tests.conftest import NUMBERS
from tests.django.support import wait_until
from tests.flask.support import at_once

ROOT = Path(__file__).parents[2]
WORKERS = 2
BOUND_S = 2.0
"""What is promised for writes that nothing disturbs is far less; this ends the wait."""


class Worker:
    """One worker process, held by a connection that stays with it."""

    def __init__(self, port):
        self.port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self._lock = threading.Lock()
        self.pid = ""
        self.ask("trusted")

    def ask(self, path):
        with self._lock:
            self._connection.request("GET", f"/{path}")
            response = self._connection.getresponse()
            self.pid = response.headers["X-Pid"]
            body = response.read()
        assert response.status == 200, body
        return json.loads(body)

    def close(self):
        self._connection.close()


class Site:
    """gunicorn with two workers that keep connections."""

    def __init__(self, factory, url):
        self._port = free_port()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", f"tests.flask.sites:{factory}()"),
                *("--bind", f"127.0.0.1:{self._port}", "--workers", str(WORKERS)),
                *("--worker-class", "gthread", "--threads", "4", "--keep-alive", "60"),
                *("--log-level", "warning"),
            ],
            cwd=ROOT,
            env={**os.environ, "CACHEBRIDGE_TEST_URL": url, "PYTHONPATH": str(ROOT)},
        )

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def workers(self):
        """Return a connection to each worker."""
        found = {}

        def are_there():
            try:
                worker = Worker(self._port)
            except OSError:
                return False
            if worker.pid in found:
                worker.close()
            else:
                found[worker.pid] = worker
            return len(found) == WORKERS

        wait_until(are_there, "both workers answer", limit_s=60)
        return list(found.values())


@pytest.fixture(scope="module")
def workers(pytestconfig, shared_server):
    """Return the four, Flask's first, L1 at work in each."""
    number = next(pytestconfig.stash[NUMBERS])
    url = f"redis://{shared_server.host}:{shared_server.port}/{number}"
    with ExitStack() as running:
        sites = [
            running.enter_context(Site(factory, url))
            for factory in ("flask_site", "django_site")
        ]
        started = [worker for site in sites for worker in site.workers()]
        for worker in started:
            running.callback(worker.close)
            wait_until(lambda w=worker: w.ask("trusted"), "L1 is trusted")
        yield started


pytestmark = pytest.mark.slow


def test_a_write_in_one_is_seen_by_all(workers):
    """Whoever writes, the others serve the new value, whatever their L1 had."""
    delays = []
    for number in range(1, 41):
        writer = workers[number % 4]
        for worker in workers:
            worker.ask("get/k")
        writer.ask(f"set/k/{number}")
        written = time.monotonic()
        for worker in workers:
            wait_until(
                lambda w=worker, n=number: w.ask("get/k") == n, "seen", limit_s=BOUND_S
            )
        delays.append(time.monotonic() - written)
    assert statistics.median(delays) < 0.5, "a round of requests, not the bound"


@pytest.mark.parametrize("write", ["delete/k", "clear"])
def test_a_deletion_reaches_the_other_framework(workers, write):
    """In both directions, by key and by prefix."""
    for writer in (workers[0], workers[2]):
        writer.ask("set/k/1")
        for worker in workers:
            wait_until(lambda w=worker: w.ask("get/k") == 1, "seen", limit_s=BOUND_S)
        writer.ask(write)
        for worker in workers:
            wait_until(lambda w=worker: w.ask("get/k") is None, "gone", limit_s=BOUND_S)


def test_django_ends_a_page_that_flask_keeps(workers):
    """The key of a cached page is one like any other."""
    flask_workers, django_worker = workers[:2], workers[2]
    first = flask_workers[0].ask("page")
    for worker in flask_workers:
        assert worker.ask("page") == worker.ask("page") == first
    assert django_worker.ask("delete/page") is True
    for worker in flask_workers:
        wait_until(lambda w=worker: w.ask("page") > first, "anew", limit_s=BOUND_S)


@pytest.mark.parametrize("path", ["memoized", "cold"])
def test_a_cold_key_is_computed_once_over_processes(workers, path):
    """By one thread of one worker, for all that ask both workers together."""
    url = f"{path}/{random.random()}"
    turns = iter([*workers[:2]] * 2)
    connections = [Worker(next(turns).port) for _ in range(4)] + workers[:2]
    mine = iter(connections)
    answers = at_once(lambda: next(mine).ask(url), threads=len(connections))
    for connection in connections[:4]:
        connection.close()
    assert answers == [1] * len(connections)


def test_no_worker_goes_back_under_writes_from_both(workers):
    """Writes of rising numbers from both sites; what a worker serves only rises."""
    lock = threading.Lock()
    written = 0
    went_back = []
    until = time.monotonic() + 3

    def write(writer):
        nonlocal written
        chance = random.Random(writer.pid)
        while time.monotonic() < until:
            with lock:
                written += 1
                writer.ask(f"set/rising/{written}")
            time.sleep(chance.uniform(0, 0.02))

    def read(worker):
        last = 0
        while time.monotonic() < until:
            seen = worker.ask("get/rising") or 0
            if seen < last:
                went_back.append((worker.pid, last, seen))
            last = seen

    workers[0].ask("set/rising/0")
    threads = [threading.Thread(target=read, args=(worker,)) for worker in workers]
    threads += [
        threading.Thread(target=write, args=(worker,))
        for worker in (workers[0], workers[2])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert written > 20
    assert went_back == []
    for worker in workers:
        wait_until(
            lambda w=worker: w.ask("get/rising") == written, "the last", limit_s=BOUND_S
        )
