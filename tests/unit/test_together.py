"""Several calls at once: all requests go out before a reply is read."""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from cachebridge.errors import L2UnavailableError
from cachebridge.waiting.io import TASKS, THREADS
from cachebridge.waiting.run import REFUSED, Call, Carried, run
from cachebridge.waiting.together import SENT
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
                connection.sendall(b":1\r\n")
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


def test_a_stop_iteration_comes_out():
    """It is carried, as by ``run``."""

    async def stop():
        raise Carried(StopIteration("mine"))

    async def go_on():
        return 1

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


def test_what_was_made_for_tasks_is_refused():
    """As by ``run``."""

    async def suspend():
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match=REFUSED):
        run(THREADS.together([suspend(), suspend()]))
