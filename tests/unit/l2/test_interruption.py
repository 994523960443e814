"""A connection that was interrupted is closed: no caller reads another's reply."""

from __future__ import annotations

import random
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import greenlet
import pytest
import redis

from cachebridge.errors import L2Error
from tests.rig import PATIENT, eventually
from tests.unit.l2.conftest import open_store, pool_of

KEYS = [f"key:{number}" for number in range(50)]


class Interrupt(BaseException):
    """What no ``except Exception`` catches, as of greenlet kills and time limits."""


@pytest.fixture
def filled(own_url):
    """Return the address of a database in which every key holds its own name."""
    with redis.Redis.from_url(own_url) as client:
        client.mset({key: key for key in KEYS})
    return own_url


def read_one(store, chance):
    """Read in one of several ways; the reply must be that of the question."""
    one, two = chance.sample(KEYS, 2)
    way = chance.randrange(5)
    if way == 0:
        assert store.get(one) == (one.encode(), -1)
    elif way == 1:
        reads = [(one.encode(), -1), (two.encode(), -1)]
        assert store.get_many([one, two]) == reads
    elif way == 2:
        assert store.replace(one, one.encode(), one.encode(), b"m") is True
    elif way == 3:
        assert store.add(one, b"other", None, b"m") is False
    else:
        store.store([(one, one.encode()), (two, two.encode())], None, None)


@pytest.fixture
def receive(monkeypatch):
    """Return a function that puts another in the place of every ``recv``."""
    original = socket.socket.recv

    def replace(function):
        monkeypatch.setattr(
            socket.socket,
            "recv",
            lambda self, *args: function(self, partial(original, self), *args),
            raising=False,
        )

    return replace


@pytest.mark.parametrize("error", [KeyboardInterrupt, Interrupt, GeneratorExit])
@pytest.mark.parametrize("limit", [None, 2])
def test_interrupted_while_reading(filled, receive, error, limit):
    """Hundreds of interruptions before, between and after replies mix nothing up."""
    chance = random.Random(f"{error}{limit}")
    struck = []
    calm = [False]

    def disturbed(sock, recv, size):
        if calm[0]:
            return recv(size)
        when = chance.randrange(10)
        if when != 0:
            data = recv(chance.choice([1, 7, size]))
        if when < 2:
            struck.append(sock)
            raise error
        return data

    store = open_store(filled, max_connections=limit)
    receive(disturbed)
    rounds = 0
    while len(struck) < 300:
        rounds += 1
        before = len(struck)
        try:
            read_one(store, chance)
        except error:
            assert struck[-1].fileno() == -1, "it is closed at once"
            calm[0] = True
            read_one(store, chance)
            calm[0] = False
        else:
            assert len(struck) == before, "an interruption is never swallowed"
    assert rounds > 300
    assert all(link.is_open() for link in pool_of(store)._idle)
    if limit:
        assert pool_of(store).slots.free == limit, "no slot is lost"


# A signal may also strike inside of a finalizer, where Python can only report it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.usefixtures("untraced")  # coverage holds a lock of its own at times
def test_interrupted_by_signals(filled, monkeypatch):
    """A time limit that strikes at any instruction leaves no unread reply."""
    # Struck inside of hiredis's C code, which packs the handshake, Python may crash.
    monkeypatch.setattr("redis.connection.HIREDIS_AVAILABLE", False)
    store = open_store(filled)
    chance = random.Random(7)

    def strike(*_):
        raise Interrupt

    previous = signal.signal(signal.SIGALRM, strike)
    strikes = 0
    try:
        while strikes < 300:
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(2e-5, 6e-4))
                for _ in range(200):
                    read_one(store, chance)
            except Interrupt:
                strikes += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, previous)
    for _ in range(100):
        read_one(store, chance)


def test_killed_greenlets(filled, receive):
    """A greenlet that is killed while it waits leaves no unread reply."""
    store = open_store(filled)
    main = greenlet.getcurrent()

    def waiting(_sock, recv, size):
        if greenlet.getcurrent() is not main:
            main.switch()
        return recv(size)

    receive(waiting)
    chance = random.Random(1)
    for number in range(200):
        victim = greenlet.greenlet(store.get)
        victim.switch(KEYS[number % 50])
        if number % 3 == 0:
            victim.switch()
        if number % 7:
            victim.throw()
        read_one(store, chance)


def test_many_threads_and_interruptions(filled, receive):
    """Threads that share a pool do not feel each other's interruptions."""
    store = open_store(filled, max_connections=6)
    chance = random.Random(3)
    lock = threading.Lock()

    def disturbed(_sock, recv, size):
        with lock:
            strike = chance.random() < 0.05
        if strike:
            raise Interrupt
        return recv(size)

    def work(seed):
        own = random.Random(seed)
        strikes = 0
        for _ in range(300):
            try:
                read_one(store, own)
            except Interrupt:
                strikes += 1
        return strikes

    receive(disturbed)
    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(work, range(6))) > 50
    assert pool_of(store).slots.free == 6
    assert len(pool_of(store)._idle) <= 6


def test_garbage_on_an_idle_connection(own_server, filled):
    """An idle connection on which something has arrived unasked is not used."""
    store = open_store(filled)
    store.ping()
    (link,) = pool_of(store)._idle
    link.socket.sendall(b"PING\r\n")
    eventually(link.is_stale)
    assert store.get(KEYS[0]) == (KEYS[0].encode(), -1)
    assert not link.is_open()


def test_limit_of_connections(redis_server_factory):
    """All MAX_CONNECTIONS busy: an L2Error naming the option, and no deadlock."""
    server = redis_server_factory()
    store = open_store(server.url, max_connections=2, socket_timeout=0.1)
    patient = open_store(server.url, max_connections=2, **PATIENT)
    taken = [pool_of(store).take_now(), pool_of(store).take_now()]
    started = time.monotonic()
    with pytest.raises(L2Error, match="all 2 of MAX_CONNECTIONS are busy"):
        store.ping()
    assert time.monotonic() - started >= 0.1
    for link in taken:
        pool_of(store).give_back(link)
    with ThreadPoolExecutor(8) as threads:
        for each in [threads.submit(patient.ping) for _ in range(200)]:
            each.result()
    store.close()
    with redis.Redis.from_url(server.url) as admin:
        eventually(lambda: len(admin.client_list()) <= 2 + 1)


def test_slot_survives_a_failed_connect(free_port):
    """A connection that cannot be opened does not use up the limit."""
    store = open_store(f"redis://127.0.0.1:{free_port}/0", max_connections=1)
    for _ in range(3):
        with pytest.raises(L2Error, match="refused"):
            store.ping()
