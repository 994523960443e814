"""Several worker processes of one site: what one does, the next request sees."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from contextlib import ExitStack

import pytest
from django.core.cache import caches

from tests.children import Child
from tests.conftest import NUMBERS
from tests.rig import PATIENT_SETTINGS, eventually
from tests.stores import ALONE, EVERY, make_place
from tests.unit.django.support import entry, trusted


class Worker:
    """One process of the site; ``get`` sends a request with a browser's cookies."""

    def __init__(self, site):
        self._process = Child(
            [sys.executable, "-m", "tests.unit.django.web_worker", json.dumps(site)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self._process.end()

    def order(self, **order):
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.line())

    def get(self, path, cookies, engine="cache"):
        name = f"django.contrib.sessions.backends.{engine}"
        answer = self.order(path=path, cookies=cookies, session_engine=name)
        cookies.update(answer["cookies"])
        return answer

    def call(self, name, *args):
        return self.order(call=name, args=args)

    def is_trusted(self):
        self.call("get", "nothing")
        return self.call("stats")["trusted"]


@pytest.fixture(scope="module", params=EVERY)
def place(request, pytestconfig, shared_server):
    """Return a shared level for the tests of this module.

    Without messages the others' writes are seen when L1's time is over.
    """
    number = next(pytestconfig.stash[NUMBERS])
    url = f"redis://{shared_server.host}:{shared_server.port}/{number}"
    place = make_place(request, request.param, url)
    if place.name == ALONE:
        return place._replace(options={"L1_TTL": 0.2})
    return place


@pytest.fixture(scope="module")
def workers(place, tmp_path_factory):
    """Return four workers of one site, L1 at work in each."""
    database = tmp_path_factory.mktemp("site") / "db.sqlite3"
    site = {
        "CACHES": {"default": entry(place, OPTIONS=PATIENT_SETTINGS)},
        "DATABASES": {
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(database),
                "OPTIONS": {"init_command": "PRAGMA synchronous=OFF;"},
            }
        },
    }
    with ExitStack() as running:
        started = [running.enter_context(Worker(site)) for _ in range(4)]
        started[0].order(migrate=True)
        for worker in started:
            eventually(worker.is_trusted, "a worker's L1 is trusted")
        yield started


@pytest.fixture
def cache(set_caches, place, workers):
    """Return the site's cache in this process, after the workers are done with it."""
    set_caches(
        default=entry(place, OPTIONS=PATIENT_SETTINGS),
        other=entry(place, KEY_PREFIX="other[*]?", OPTIONS=PATIENT_SETTINGS),
    )
    return trusted(caches["default"])


@pytest.mark.parametrize("engine", ["cache", "cached_db"])
def test_a_logout_in_one_worker_is_final_in_all(workers, engine):
    """The next request with the old cookie is anonymous, in every worker."""
    first, *others = workers
    for _ in range(5):
        cookies = {}
        assert first.get("/login", cookies, engine)["body"] == "in"
        stolen = dict(cookies)
        for worker in [*workers, *workers]:
            assert worker.get("/who", cookies, engine)["body"] == "alice"
        first.get("/logout", cookies, engine)
        for worker in [*others, first]:
            assert worker.get("/who", stolen, engine)["body"] == "anonymous"


@pytest.mark.parametrize("engine", ["cache", "cached_db"])
def test_a_session_loses_no_change_between_workers(workers, engine):
    """Read-modify-write round robin: each worker sees what the last one wrote."""
    cookies = {}
    for number in range(1, 21):
        answer = workers[number % 4].get("/cart", cookies, engine)
        assert answer["body"] == str(number)


def test_ten_a_minute_are_ten_over_four_workers(workers):
    """Django REST framework's own throttle, requests going round the workers."""
    if importlib.util.find_spec("rest_framework") is None:
        pytest.skip("uses a throttle of djangorestframework, which is not installed")
    statuses = [workers[n % 4].get("/throttled", {})["status"] for n in range(16)]
    assert statuses == [200] * 10 + [429] * 6


def test_the_workers_calls_are_seen_by_each_other(workers, cache):
    """Every kind of write in a worker ends what this process has in L1."""
    worker = workers[0]
    writes = {
        "set": (("k", "new"), "new"),
        "delete": (("k",), None),
        "touch": (("k", -1), None),
        "incr": (("k", 5), 6),
        "decr": (("k", 5), -4),
        "set_many": (({"k": "many"},), "many"),
        "delete_many": ((["k"],), None),
        "incr_version": (("k",), None),
        "clear": ((), None),
    }
    for name, (args, expected) in writes.items():
        cache.set("k", 1)
        eventually(lambda: worker.call("get", "k") == 1, "the worker has it")
        assert cache.get("k") == 1
        worker.call(name, *args)
        eventually(lambda expected=expected: cache.get("k") == expected, name)
    for name, args in (("add", ("k", "added")), ("get_or_set", ("k", "added"))):
        cache.delete("k")
        assert cache.get("k") is None
        # get_or_set may be answered by an L1 that has not heard of the delete yet.
        eventually(lambda: worker.call("get", "k") is None, "the worker has heard")
        worker.call(name, *args)
        assert cache.get("k") == "added"


def test_clear_empties_the_l1_of_other_processes(workers, cache):
    """This cache's keys, and not those under another prefix."""
    worker, other = workers[0], caches["other"]
    cache.set("k", 1)
    other.set("k", 2)
    eventually(lambda: worker.call("get", "k") == 1, "the worker has heard")
    worker.call("clear")
    eventually(lambda: cache.get("k") is None, "cleared here")
    assert other.get("k") == 2
    cache.set("k", 3)
    eventually(lambda: worker.call("get", "k") == 3, "set again")
    other.clear()
    assert cache.get("k") == worker.call("get", "k") == 3
    assert other.get("k") is None
