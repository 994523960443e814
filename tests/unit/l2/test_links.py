"""Connections of threads and of tasks: interrupted ones close, busy ones are shared."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from cachebridge import UnsupportedOperationError
from cachebridge.errors import L2Error
from cachebridge.l2.connections.task_pool import TaskPool
from cachebridge.waiting.run import run
from tests.rig import eventually
from tests.unit.l2.conftest import open_store, pool_of


class Interrupt(BaseException):
    """What no ``except Exception`` catches."""


def the_idle_link(store):
    (link,) = pool_of(store)._idle
    return link


def slots_of(store):
    return pool_of(store).slots


def test_an_interrupted_thread_closes_its_link(own_url, monkeypatch):
    """Whatever interrupts it: the reply that is under way answers no other call."""
    store = open_store(own_url, max_connections=1)
    store.ping()
    link = the_idle_link(store)

    def interrupted(self, size):
        raise Interrupt

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "recv", interrupted, raising=False)
        with pytest.raises(Interrupt):
            store.get("k")
    assert not link.is_open()
    assert slots_of(store).free == 1
    assert store.get("k") == (None, -2)


@pytest.mark.parametrize("how", ["cancelled", "timed out"])
def test_an_interrupted_task_closes_its_link(redis_server_factory, how):
    """Cancelled while it awaits the reply, or by its own timeout."""
    server = redis_server_factory()
    store = open_store(server.url, "tasks", max_connections=1, socket_timeout=0.6)
    store.ping()
    link = the_idle_link(store)

    async def interrupt():
        task = asyncio.ensure_future(store.l2.get("k"))
        await asyncio.sleep(0.05)
        if how == "cancelled":
            task.cancel()
        return await asyncio.gather(task, return_exceptions=True)

    server.pause()
    try:
        (result,) = asyncio.run(interrupt())
    finally:
        server.resume()
    assert isinstance(result, asyncio.CancelledError if how == "cancelled" else L2Error)
    assert not link.is_open()
    assert slots_of(store).free == 1
    assert store.client.links._turns.free == 64
    assert not store.client.links._held._tasks
    assert store.get("k") == (None, -2)


@pytest.mark.parametrize("limit", [1, 3])
def test_contended_links(redis_server_factory, side, limit):
    """Callers queue for MAX_CONNECTIONS; all are served, on no more connections."""
    server = redis_server_factory()
    store = open_store(server.url, side, max_connections=limit, socket_timeout=20.0)
    with ThreadPoolExecutor(12) as threads:
        calls = [
            threads.submit(store.store, [(f"k{n}", b"%d" % n)], None, None)
            for n in range(60)
        ]
        assert all(call.result(20) == () for call in calls)
    reads = store.get_many([f"k{n}" for n in range(60)])
    assert [raw for raw, _ in reads] == [b"%d" % n for n in range(60)]
    assert slots_of(store).free == limit
    assert len(pool_of(store)._idle) <= limit
    with redis.Redis.from_url(server.url) as admin:
        assert admin.info("clients")["connected_clients"] <= limit + 1


def test_threads_and_tasks_contend_for_the_same_links(own_url):
    """Both sides share the pool, its idle connections and its limit."""
    threads = open_store(own_url, max_connections=2, socket_timeout=20.0)
    tasks = open_store(own_url, "tasks")
    tasks.client.links = TaskPool(pool_of(threads))
    with ThreadPoolExecutor(8) as pool:
        calls = [
            pool.submit(store.exists, "k")
            for _ in range(50)
            for store in (threads, tasks)
        ]
        assert not any(call.result(20) for call in calls)
    assert slots_of(threads).free == 2
    assert len(pool_of(threads)._idle) <= 2


def test_a_task_takes_an_idle_link_at_once(own_url):
    """It suspends only if there is none, if all are busy, or if it wants a new one."""
    store = open_store(own_url, "tasks", max_connections=1)
    links = store.client.links
    assert links.take_now() is None, "on no loop"

    async def main():
        assert links.take_now() is None, "none is idle"
        assert links._turns.free == 64
        link = await links.take()
        assert links.take_now() is None, "it is busy"
        links.give_back(link)
        assert links.take_now(fresh=True) is None
        assert links.take_now() is link
        assert slots_of(store).free == 0
        links.discard(link)
        assert not link.is_open()

    asyncio.run(main())
    assert slots_of(store).free == 1
    assert links._turns.free == 64
    assert not links._held._tasks


def test_tasks_that_are_more_than_may_call_at_once(own_url):
    """They take turns, first come first served, and no turn is lost."""
    store = open_store(own_url, "tasks")

    async def main():
        return await asyncio.gather(*(store.l2.exists("k") for _ in range(300)))

    assert asyncio.run(main()) == [False] * 300
    assert store.client.links._turns.free == 64
    assert len(pool_of(store)._idle) <= 64


def test_a_call_of_the_wrong_side(own_url):
    """A thread cannot carry a call for tasks to its end; the error says so."""
    store = open_store(own_url, "tasks").l2
    with pytest.raises(UnsupportedOperationError, match="no asyncio event loop"):
        run(store.get("k"))

    async def on_a_loop():
        run(store.get("k"))

    with pytest.raises(RuntimeError, match="must not suspend"):
        asyncio.run(on_a_loop())
    eventually(lambda: not store.client.links._held._tasks)
    assert store.client.links._turns.free == 64


def test_a_thread_s_call_within_a_task(own_url):
    """It blocks the loop, as plain code does, and never suspends."""
    store = open_store(own_url)

    async def main():
        store.store([("k", b"1")], None, None)
        return store.get("k")

    assert asyncio.run(main()) == (b"1", -1)


def test_forked_children_share_no_link(own_url, side):
    """After ``forget`` both sides begin anew, with all slots and turns."""
    store = open_store(own_url, side, max_connections=2)
    store.ping()
    link = the_idle_link(store)
    store.forget()
    assert link.is_open()
    assert not pool_of(store)._idle
    assert slots_of(store).free == 2
    assert store.get("k") == (None, -2)
    assert threading.active_count() < 50
    link.close()


def test_a_task_that_goes_on_in_a_forked_child(own_url):
    """The link that it had is closed: it belongs to the parent's task."""
    store = open_store(own_url, "tasks")

    async def main():
        links = store.client.links
        link = await links.take()
        links.forget()
        links.discard(link)
        assert not link.is_open()

    asyncio.run(main())


def test_a_dead_connection_is_noticed_without_poll(own_url, monkeypatch):
    """Eventlet takes ``select.poll`` away: what the server has closed is replaced."""
    monkeypatch.delattr(select, "poll")
    store = open_store(own_url)
    store.ping()
    link = the_idle_link(store)
    assert not link.is_stale()
    link.socket.shutdown(socket.SHUT_RDWR)
    assert link.is_stale()
    assert store.get("k") == (None, -2)
    assert not link.is_open()
