"""Several calls at once: all requests go out before a reply is read."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from cachebridge.errors import L2UnavailableError
from cachebridge.waiting.io import TASKS, THREADS
from cachebridge.waiting.run import REFUSED, Call, Carried, run
from cachebridge.waiting.together import SENT, stops_when_sent
from tests.hostile import serving
from tests.rig import PATIENCE_S
from tests.unit.l2.conftest import open_store

if TYPE_CHECKING:
    import socket

CARRY = {
    "threads": lambda calls: run(THREADS.together(calls)),
    "tasks": lambda calls: asyncio.run(TASKS.together(calls)),
}


@pytest.fixture
def meeting():
    """Two servers that answer when both have a request; their addresses."""
    both = threading.Barrier(2, timeout=PATIENCE_S)

    def talk(connection: socket.socket) -> None:
        while request := connection.recv(65536):
            if b"EXISTS" in request:
                both.wait()
                connection.sendall(b":1\r\n$1\r\nv\r\n")
            else:  # the handshake
                connection.sendall(b"+OK\r\n" * request.count(b"*"))

    with ExitStack() as stack:
        yield [stack.enter_context(serving(talk)) for _ in range(2)]


@pytest.mark.parametrize("side", CARRY)
def test_no_reply_is_waited_for_before_the_last_request(meeting, side):
    """Else the first server would wait for the second request for ever."""
    stores = [open_store(f"redis://127.0.0.1:{port}", side) for port in meeting]
    for _ in range(3):
        assert CARRY[side]([each.l2.exists("k") for each in stores]) == [True, True]


@pytest.mark.parametrize("side", CARRY)
def test_one_that_fails_takes_no_other_along(meeting, free_port, side):
    """Its error comes out when all have ended."""
    ports = [meeting[0], free_port, meeting[1]]
    stores = [open_store(f"redis://127.0.0.1:{port}", side) for port in ports]
    ended = []

    async def note(store):
        ended.append(await store.l2.exists("k"))

    with pytest.raises(L2UnavailableError):
        CARRY[side]([note(each) for each in stores])
    assert ended == [True, True]


def test_calls_of_the_application_are_made(redis_url):
    """Also such as use a cache: that one waits for its own reply."""
    inner = open_store(redis_url).l2

    async def ask(number):
        call = Call(lambda: (run(inner.exists("k")), number))
        await call
        if call.error is not None:
            raise Carried(call.error)
        return call.result

    calls = [ask(number) for number in range(3)]
    assert run(THREADS.together(calls)) == [(False, n) for n in range(3)]


async def go_on():
    return 1


def test_a_stop_iteration_comes_out():
    """It is carried, as by ``run``."""

    async def stop():
        raise Carried(StopIteration("mine"))

    with pytest.raises(StopIteration, match="mine"):
        run(THREADS.together([stop(), go_on()]))


def test_an_interrupt_closes_the_others():
    """None of them stays suspended, between request and reply or before both."""
    closed = []

    async def wait():
        try:
            await SENT
        finally:
            closed.append(1)

    async def strike():
        raise KeyboardInterrupt

    early, late = wait(), wait()
    with pytest.raises(KeyboardInterrupt):
        run(THREADS.together([early, strike(), late]))
    assert closed == [1]
    assert early.cr_frame is late.cr_frame is None


def test_no_slot_is_held_until_other_requests_are_out(redis_url):
    """Two callers that each hold one would wait for each other."""
    store = open_store(redis_url, max_connections=1, socket_timeout=PATIENCE_S).l2
    calls = [store.exists("k") for _ in range(3)]
    assert run(THREADS.together(calls)) == [False] * 3


PATCHED_LATE = """
from cachebridge.waiting.io import THREADS
from cachebridge.waiting.run import run
from cachebridge.waiting.together import SENT, stops_when_sent
from gevent import monkey
monkey.patch_all()
import gevent
seen = []

async def ask():
    seen.append(stops_when_sent())
    gevent.spawn(lambda: seen.append(stops_when_sent())).join()
    await SENT
    seen.append(stops_when_sent())

async def other():
    pass

run(THREADS.together([ask(), other()]))
print(*seen)
"""


@pytest.mark.skipif(
    importlib.util.find_spec("gevent") is None,
    reason="runs a process under gevent, which is not installed",
)
def test_another_greenlet_stops_nowhere():
    """Also if gevent has patched threads after the import."""
    told = subprocess.run(
        [sys.executable, "-c", PATCHED_LATE], capture_output=True, check=True, text=True
    )
    assert told.stdout.split() == ["True", "False", "False"]


def test_a_child_of_a_fork_stops_nowhere():
    """Its threads have the numbers of the parent's."""

    async def fork():
        assert stops_when_sent()
        child = os.fork()
        if child == 0:
            os._exit(stops_when_sent())
        return os.waitpid(child, 0)[1]  # noqa: ASYNC222 a thread carries it

    assert run(THREADS.together([fork(), go_on()])) == [0, 1]


def test_what_was_made_for_tasks_is_refused():
    """As by ``run``."""

    async def suspend():
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match=REFUSED):
        run(THREADS.together([suspend(), suspend()]))
