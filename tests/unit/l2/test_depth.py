"""How deep a call stands when it waits: each coroutine level costs a thread time."""

from __future__ import annotations

import inspect
import socket
import sys
from functools import partial

import pytest

from cachebridge.core.lease import LeaseTerms, LoadedRaw
from cachebridge.l2.connections import task_exchange
from cachebridge.l2.store import Bounds
from cachebridge.waiting.run import run
from tests.rig import PATIENT
from tests.unit.l2.conftest import open_memcached, open_store
from tests.unit.l2.test_contract import KeptMessages

TERMS = LeaseTerms(60_000)
ITEMS = [("k", b"1")]
ONE_REQUEST = {
    "get": lambda store: store.get("k"),
    "exists": lambda store: store.exists("k"),
    "store": lambda store: store.store(ITEMS, None, b"m"),
    "add": lambda store: store.add("k", b"1", None, b"m"),
    "touch": lambda store: store.touch("k", None, b"m"),
    "delete": lambda store: store.delete(["k"], b"m"),
    "incr": lambda store: store.incr("k", 1, b"m"),
    "count": lambda store: store.count("k", 1, Bounds(), None, b"m"),
    "replace": lambda store: store.replace("k", b"1", b"2", b"m"),
    "get_or_lease": lambda store: store.get_or_lease("k", b"a", TERMS),
    "publish": lambda store: store.publish(b"m"),
    "flush_db": lambda store: store.flush_db(b"m"),
    "ping": lambda store: store.ping(),
}


def coroutines():
    """Return the names of the coroutines that are on the stack of this thread."""
    frame, names = sys._getframe(1), []
    while frame is not None:
        if frame.f_code.co_flags & inspect.CO_COROUTINE:
            names.append(frame.f_code.co_qualname)
        frame = frame.f_back
    return names


@pytest.fixture
def deepest(monkeypatch):
    """Return a list that gets the coroutines of each wait of a thread."""
    waits = []
    receive = socket.socket.recv

    def counting(self, size):
        waits.append(coroutines())
        return receive(self, size)

    monkeypatch.setattr(socket.socket, "recv", counting, raising=False)
    return waits


@pytest.mark.parametrize("name", ONE_REQUEST)
def test_a_thread_at_recv(own_url, deepest, name):
    """The store's part is one coroutine, the client's; so a whole ``get`` is three."""
    store = open_store(own_url, **PATIENT).l2
    run(store.store(ITEMS, None, None))
    run(ONE_REQUEST[name](store))  # opens the connection, and loads the script
    deepest.clear()
    run(ONE_REQUEST[name](store))
    assert deepest == [["Client.run"]]


def test_a_loaded_value(own_url, deepest):
    """The end of a load is no deeper."""
    store = open_store(own_url, **PATIENT).l2
    for _ in range(2):
        lease = run(store.get_or_lease("cold", b"a", TERMS))
        deepest.clear()
        run(store.store_loaded("cold", LoadedRaw(b"1", None), lease, b"m"))
        run(store.delete(["cold"], None))
    assert deepest == [["Client.run"], ["Client.run"]]


@pytest.mark.parametrize(
    ("name", "names"), [("get", ["Client.run"]), ("store", ["Client.run", "announced"])]
)
def test_a_thread_beside_a_bus(own_url, deepest, name, names):
    """A change whose message another server takes is one more; a read is none."""
    store = open_store(own_url, outbox=KeptMessages(), **PATIENT).l2
    run(store.store(ITEMS, None, None))
    deepest.clear()
    run(ONE_REQUEST[name](store))
    assert deepest == [names]


@pytest.mark.parametrize("name", ["get", "store"])
def test_a_thread_on_memcached(roomy_memcacheds, deepest, name):
    """A request takes its steps; none of them is a level of its own without need."""
    store = open_memcached(roomy_memcacheds[0].url, KeptMessages()).l2
    run(store.store(ITEMS, None, None))
    deepest.clear()
    run(ONE_REQUEST[name](store))
    (names,) = deepest
    assert names[0] == "Client.run"
    assert len(names) <= 4


@pytest.mark.parametrize("name", ["get", "store"])
def test_a_task_at_its_future(own_url, monkeypatch, name):
    """A task adds the exchange itself."""
    store = open_store(own_url, "tasks", **PATIENT)
    call = partial(ONE_REQUEST[name], store)
    call()
    waits = []
    send = task_exchange._Talk.send

    def counting(self):
        waits.append(coroutines())
        send(self)

    monkeypatch.setattr(task_exchange._Talk, "send", counting)
    call()
    assert waits == [["exchange", "Client.run"]]
