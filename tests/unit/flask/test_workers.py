"""Two gunicorn workers of a Flask site and two of a Django site over one Redis."""

from __future__ import annotations

import http.client
import json
import random
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from cachebridge.testing.ports import free_port
from tests.children import Child
from tests.conftest import NUMBERS
from tests.rig import PATIENCE_S, eventually
from tests.unit.flask.support import at_once

WORKERS = 2
WRITES = 60


class Worker:
    """One worker process, held by a connection that stays with it."""

    def __init__(self, port):
        self.port = port
        self._connection = http.client.HTTPConnection(
            "127.0.0.1", port, timeout=8 * PATIENCE_S
        )
        self._lock = threading.Lock()
        self.pid = ""
        try:
            self.ask("trusted")
        except BaseException:
            self.close()
            raise

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
        self._process = Child(
            [
                *(sys.executable, "-m", "gunicorn"),
                f"tests.unit.flask.sites:{factory}()",
                *("--bind", f"127.0.0.1:{self._port}", "--workers", str(WORKERS)),
                *("--worker-class", "gthread", "--threads", "4", "--keep-alive", "60"),
                *("--log-level", "warning", "--timeout", "600"),
            ],
            env={"CACHEBRIDGE_TEST_URL": url},
        )

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self._process.end()

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

        eventually(are_there, "both workers answer")
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
            eventually(lambda w=worker: w.ask("trusted"), "L1 is trusted")
        yield started


def test_a_write_in_one_is_seen_by_all(workers):
    """After a write of either, the others serve the new value, not that of their L1."""
    for number in range(1, 41):
        writer = workers[number % 4]
        for worker in workers:
            worker.ask("get/k")
        writer.ask(f"set/k/{number}")
        for worker in workers:
            eventually(lambda w=worker, n=number: w.ask("get/k") == n, "seen")


@pytest.mark.parametrize("write", ["delete/k", "clear"])
def test_a_deletion_reaches_the_other_framework(workers, write):
    """In both directions, by key and by prefix."""
    for writer in (workers[0], workers[2]):
        writer.ask("set/k/1")
        for worker in workers:
            eventually(lambda w=worker: w.ask("get/k") == 1, "seen")
        writer.ask(write)
        for worker in workers:
            eventually(lambda w=worker: w.ask("get/k") is None, "gone")


def test_django_ends_a_page_that_flask_keeps(workers):
    """The key of a cached page is one like any other."""
    flask_workers, django_worker = workers[:2], workers[2]
    first = flask_workers[0].ask("page")
    for worker in flask_workers:
        assert worker.ask("page") == worker.ask("page") == first
    assert django_worker.ask("delete/page") is True
    for worker in flask_workers:
        eventually(lambda w=worker: w.ask("page") > first, "anew")


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


class Rising:
    """Writers of rising numbers, readers that compare, and what both of them did."""

    def __init__(self):
        self.written = 0
        self.over = threading.Event()
        self.went_back = ""
        self._history = deque(maxlen=40)
        self._lock = threading.Lock()

    def _note(self, *event):
        self._history.append(f"{time.monotonic():.4f} {event}")

    def write(self, writer):
        chance = random.Random(writer.pid)
        for _ in range(WRITES):
            with self._lock:
                self.written += 1
                self._note("writes", writer.pid, self.written)
                writer.ask(f"set/rising/{self.written}")
                self._note("has written", writer.pid, self.written)
            time.sleep(chance.uniform(0, 0.02))  # the other writer's turn

    def read(self, worker):
        last = 0
        while not self.over.is_set():
            seen = worker.ask("get/rising")
            if seen is None or seen < last:
                self._note("WENT BACK", worker.pid, last, seen)
                self.went_back = "\n".join(self._history)
                return
            if seen > last:
                self._note("reads", worker.pid, seen)
            last = seen


def test_no_worker_goes_back_under_writes_from_both(workers):
    """Writes of rising numbers from both sites; what a worker serves only rises."""
    rising = Rising()
    workers[0].ask("set/rising/0")
    for worker in workers:
        eventually(lambda w=worker: w.ask("get/rising") == 0, "the first value")
    with ThreadPoolExecutor(len(workers) + 2) as pool:
        readers = [pool.submit(rising.read, worker) for worker in workers]
        writers = [pool.submit(rising.write, workers[at]) for at in (0, 2)]
        try:
            for writer in writers:
                writer.result()
        finally:
            rising.over.set()
        for reader in readers:
            reader.result()
    assert not rising.went_back, rising.went_back
    assert rising.written == 2 * WRITES
    for worker in workers:
        eventually(lambda w=worker: w.ask("get/rising") == 2 * WRITES, "the last value")
