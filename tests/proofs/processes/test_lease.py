"""One load per key among processes, even if its leader dies or is suspended."""

from __future__ import annotations

import json
import selectors
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest
import redis

from tests.children import Child
from tests.proofs.processes.lease_worker import UNTIL_TOLD
from tests.rig import PATIENCE_S, PATIENT, eventually

pytestmark = pytest.mark.proof

ANSWER_S = 4 * PATIENCE_S
LOADER_S = 0.05
SLACK_S = PATIENCE_S
"""What a busy machine may add: waiting for a lease that is not over takes longer."""
LONG_S = 4 * PATIENCE_S


class Process:
    """A worker, told one command at a time."""

    def __init__(self, url, location, options):
        worker = [sys.executable, "-m", "tests.proofs.processes.lease_worker"]
        self._child = Child(
            [*worker, url, location, json.dumps({**PATIENT, **options})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def tell(self, *words):
        self._child.stdin.write(f"{json.dumps(words)}\n".encode())
        self._child.stdin.flush()

    def answer(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            assert selector.select(ANSWER_S), f"no answer: {self._child.said()}"
        return json.loads(self._child.line())

    def ask(self, *words):
        self.tell(*words)
        return self.answer()

    def send(self, signum):
        self._child.send_signal(signum)

    def close(self):
        self._child.kill()
        self._child.wait()
        self._child.stdin.close()
        self._child.stdout.close()


@pytest.fixture(params=["redis", "memcached"])
def store(request):
    """Return where the values are: in Redis, or in Memcached with Redis as its bus."""
    if request.param == "redis":
        return None
    return request.getfixturevalue("shared_memcached").url


def lease_of(store, lease_ttl):
    """Return how long a lease really lasts: Memcached knows nothing under 2 s."""
    return lease_ttl if store is None else max(2.0, lease_ttl)


@pytest.fixture
def start(store):
    """Return a function that starts processes, all listening when it returns."""
    with ExitStack() as running:

        def start(url, count, lease_ttl=5.0):
            options = {"lease_ttl": lease_ttl}
            if store is not None:
                prefix = f"{time.monotonic_ns()}:"
                options |= {"bus_location": url, "key_prefix": prefix}
            processes = [Process(url, store or url, options) for _ in range(count)]
            for process in processes:
                running.callback(process.close)
                process.tell("ready")
            for process in processes:
                assert process.answer()
            return processes

        yield start


@pytest.fixture
def raw(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        yield client


def together(processes, *words):
    for process in processes:
        process.tell(*words)
    return [process.answer() for process in processes]


def asleep_in_loader(raw, process, key, value):
    """Let a process begin a load, and stop it in the middle of its loader."""
    process.tell("load", key, value, UNTIL_TOLD, 1)
    eventually(lambda: raw.lrange(f"began:{key}", 0, -1))
    process.send(signal.SIGSTOP)


def awake(raw, process, key):
    """Let it go on, and its loader end."""
    process.send(signal.SIGCONT)
    raw.rpush(f"go:{key}", 1)


def test_4_processes_16_threads_one_load(redis_url, raw, start):
    """A cold key is loaded once, and no caller waits much longer than the loader."""
    processes = start(redis_url, 4, LONG_S)
    for number in range(5):
        key = f"cold{number}"
        answers = together(processes, "load", key, "v", LOADER_S, 16)
        assert int(raw.get(f"loads:{key}")) == 1
        assert {value for answer in answers for value, _ in answer} == {"v"}
        slowest_s = max(seconds for answer in answers for _, seconds in answer)
        print(f"slowest of 64 callers: {slowest_s / LOADER_S:.1f} loaders")
        assert slowest_s < 3 * LOADER_S + SLACK_S


@pytest.mark.parametrize("lease_ttl", [0.5, 1.5])
def test_killed_owner_delays_the_others_by_its_lease(
    redis_url, raw, start, *, store, lease_ttl
):
    """The next one loads when the lease has run out: no sooner, not much later."""
    owner, *others = start(redis_url, 3, lease_ttl)
    owner.tell("load", "k", "lost", 30.0, 1)
    eventually(lambda: raw.get("loads:k"))
    owner.send(signal.SIGKILL)
    answers = together(others, "load", "k", "v", LOADER_S, 8)
    assert {value for answer in answers for value, _ in answer} == {"v"}
    assert int(raw.get("loads:k")) == 2
    slowest_s = max(seconds for answer in answers for _, seconds in answer)
    assert slowest_s < lease_of(store, lease_ttl) + LOADER_S + SLACK_S


@pytest.mark.parametrize("change", ["set", "delete"])
@pytest.mark.parametrize("lease_ttl", [5.0, 0.2])
def test_late_owner_changes_nothing(redis_url, raw, start, *, store, change, lease_ttl):
    """What was written while the owner slept stays, and what was deleted stays so."""
    owner, other = start(redis_url, 2, lease_ttl)
    asleep_in_loader(raw, owner, "k", "late")
    words = ("set", "k", "newer") if change == "set" else ("delete", "k")
    other.ask(*words)
    awake(raw, owner, "k")
    ((got, _),) = owner.answer()
    expected = "newer" if change == "set" else None
    assert got == (expected or "late")  # its caller gets a value in any case
    assert other.ask("get", "k") == expected
    assert owner.ask("get", "k") == expected
    if store is None:
        assert raw.exists("k") == (expected is not None)


def test_late_owner_after_another_load(redis_url, raw, start, store):
    """Who loaded meanwhile, after the lease had run out, is not overwritten."""
    owner, other = start(redis_url, 2, 0.3)
    asleep_in_loader(raw, owner, "k", "late")
    ((got, seconds),) = other.ask("load", "k", "in time", 0.0, 1)
    assert got == "in time"
    assert seconds < lease_of(store, 0.3) + SLACK_S
    awake(raw, owner, "k")
    ((got, _),) = owner.answer()
    assert got == "in time"
    for process in (owner, other):
        assert process.ask("get", "k") == "in time"


def test_waiting_processes_learn_from_the_bus(redis_url, raw, start):
    """With polling made rare they still have the value when it is there."""
    processes = start(redis_url, 3, LONG_S)
    for process in processes:
        process.ask("poll_every", LONG_S)
    began = time.monotonic()
    answers = together(processes, "load", "k", "v", 0.5, 4)
    assert {value for answer in answers for value, _ in answer} == {"v"}
    assert int(raw.get("loads:k")) == 1
    assert time.monotonic() - began < PATIENCE_S  # polls and leases take longer
    assert sum(process.ask("waits") for process in processes) >= 2


@pytest.mark.parametrize("store", ["redis"], indirect=True)
def test_hot_set_is_loaded_once_after_an_empty_restart(redis_server_factory, start):
    """2,000 keys, 50 callers in 2 processes, nothing left: each key loads once."""
    keys = 2000
    server = redis_server_factory()
    processes = start(server.url, 2, LONG_S)
    assert together(processes, "load_hot", keys, 25) == [0, 0]
    server.restart()
    together(processes, "ready")
    with redis.Redis(port=server.port) as raw:
        eventually(lambda: processes[0].ask("get", "hot0") is None)
        assert not raw.keys("loads:*")
        assert together(processes, "load_hot", keys, 25) == [0, 0]
        loads = raw.mget([f"loads:hot{number}" for number in range(keys)])
    assert loads == [b"1"] * keys
