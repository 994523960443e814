"""A connection that was interrupted is closed: nobody ever reads another's reply."""

from __future__ import annotations

import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import greenlet
import pytest
import redis

from cachebridge.errors import L2Error
from tests.l2.conftest import open_store

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


@pytest.mark.parametrize("error", [KeyboardInterrupt, Interrupt, GeneratorExit])
@pytest.mark.parametrize("limit", [None, 2])
def test_interrupted_while_reading(filled, monkeypatch, error, limit):
    """Hundreds of interruptions before, between and after replies mix nothing up."""
    chance = random.Random(f"{error}{limit}")
    read = redis.connection.Connection.read_response
    striking = threading.Event()
    struck = []

    def disturbed(self, *args, **options):
        when = chance.randrange(12) if striking.is_set() else None
        if when == 0:
            struck.append(self)
            raise error
        reply = read(self, *args, **options)
        if when == 1:
            struck.append(self)
            raise error
        return reply

    store = open_store(filled, max_connections=limit)
    monkeypatch.setattr(redis.connection.Connection, "read_response", disturbed)
    rounds = 0
    while len(struck) < 300:
        rounds += 1
        before = len(struck)
        striking.set()
        try:
            read_one(store, chance)
        except error:
            striking.clear()
            assert struck[-1]._sock is None, "it is closed at once"
            read_one(store, chance)
        else:
            assert len(struck) == before, "an interruption is never swallowed"
    assert rounds > 300
    pooled = [each.connection for each in store._pool._idle]
    assert not {id(c) for c in pooled} & {id(c) for c in struck}
    if limit:
        assert store._pool._slots._value == limit, "no slot is lost"


# A signal may also strike inside of a finalizer, where Python can only report it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_interrupted_by_signals(filled):
    """A time limit that strikes at any instruction leaves no foreign reply behind."""
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


def test_killed_greenlets(filled, monkeypatch):
    """A greenlet that is killed while it waits for its reply leaves nothing behind."""
    store = open_store(filled)
    read = redis.connection.Connection.read_response
    main = greenlet.getcurrent()

    def waiting(self, *args, **options):
        if greenlet.getcurrent() is not main:
            main.switch()
        return read(self, *args, **options)

    monkeypatch.setattr(redis.connection.Connection, "read_response", waiting)
    chance = random.Random(1)
    for number in range(200):
        victim = greenlet.greenlet(store.get)
        victim.switch(KEYS[number % 50])
        if number % 3 == 0:
            victim.switch()
        if number % 7:
            victim.throw()
        read_one(store, chance)


def test_many_threads_and_interruptions(filled, monkeypatch):
    """Threads that share a pool do not feel each other's interruptions."""
    store = open_store(filled, max_connections=6)
    read = redis.connection.Connection.read_response
    chance = random.Random(3)
    lock = threading.Lock()

    def disturbed(self, *args, **options):
        with lock:
            strike = chance.random() < 0.05
        if strike:
            raise Interrupt
        return read(self, *args, **options)

    def work(seed):
        own = random.Random(seed)
        strikes = 0
        for _ in range(300):
            try:
                read_one(store, own)
            except Interrupt:
                strikes += 1
        return strikes

    monkeypatch.setattr(redis.connection.Connection, "read_response", disturbed)
    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(work, range(6))) > 50
    assert store._pool._slots._value == 6
    assert len(store._pool._idle) <= 6


def test_garbage_on_an_idle_connection(own_server, filled):
    """An idle connection on which something has arrived unasked is not used."""
    store = open_store(filled)
    store.ping()
    connection = store._pool._idle[0].connection
    connection.send_command("PING")
    connection.can_read(timeout=1)
    assert store.get(KEYS[0]) == (KEYS[0].encode(), -1)
    assert connection._sock is None


def test_limit_of_connections(redis_server_factory):
    """All MAX_CONNECTIONS busy: an L2Error naming the option, and no deadlock."""
    server = redis_server_factory()
    store = open_store(server.url, max_connections=2, socket_timeout=0.1)
    taken = [store._pool.take(), store._pool.take()]
    started = time.monotonic()
    with pytest.raises(L2Error, match="all 2 of MAX_CONNECTIONS are busy"):
        store.ping()
    assert 0.1 <= time.monotonic() - started < 0.3
    for pooled in taken:
        store._pool.give_back(pooled)
    with ThreadPoolExecutor(8) as threads:
        for each in [threads.submit(store.ping) for _ in range(200)]:
            each.result()
    with redis.Redis.from_url(server.url) as admin:
        assert len(admin.client_list()) <= 2 + 1


def test_slot_survives_a_failed_connect(free_port):
    """A connection that cannot be opened does not use up the limit."""
    store = open_store(f"redis://127.0.0.1:{free_port}/0", max_connections=1)
    for _ in range(3):
        with pytest.raises(L2Error, match="refused"):
            store.ping()
