"""A bus proxy knows its senders by their first header, and shuts out single ones."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from cachebridge.testing.bus_proxy import BusProxy
from tests.rig import PATIENCE_S

A, B = "a" * 40, "b" * 40


def header(sender: str) -> bytes:
    return b"RCmb".ljust(40, b"\0") + sender.encode() + b"and so on"


@pytest.fixture
def running():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def node(running):
    listener = running.enter_context(socket.create_server(("127.0.0.1", 0)))
    listener.settimeout(PATIENCE_S)
    return listener


@pytest.fixture
def proxy(running, node):
    made = running.enter_context(BusProxy())
    made.lead_to(*node.getsockname())
    return made


@pytest.fixture
def connect(running, proxy, node):
    def connected(*pieces: bytes) -> tuple[socket.socket, socket.socket]:
        """Return the sender's end, and the node's."""
        address = (proxy.host, proxy.port)
        mine = running.enter_context(socket.create_connection(address, PATIENCE_S))
        its, _ = node.accept()
        running.enter_context(its).settimeout(PATIENCE_S)
        for piece in pieces:
            mine.sendall(piece)
        return mine, its

    return connected


def test_one_sender_is_shut_out(connect, proxy):
    """On old connections and new ones; others do not notice, and restore() ends it."""
    (mine, its), (mine_b, its_b) = connect(header(A)), connect(header(B))
    assert its.recv(1000) == header(A)
    assert its_b.recv(1000) == header(B)
    proxy.shut_out(A)
    assert is_closed(mine)
    mine, its = connect(header(A))
    assert is_closed(mine)
    assert is_closed(its)
    mine_b.sendall(b"more")
    assert its_b.recv(1000) == b"more"
    assert connect(header(B))[1].recv(1000) == header(B)
    proxy.restore()
    assert connect(header(A))[1].recv(1000) == header(A)


def test_nothing_passes_before_the_header_is_there(connect, proxy):
    """A header in pieces is forwarded whole, or not at all."""
    first, rest = header(A)[:50], header(A)[50:]
    mine, its = connect(first)
    proxy.shut_out(B)  # when it returns, the proxy has read the first piece
    its.setblocking(False)
    with pytest.raises(BlockingIOError):
        its.recv(1000)
    its.settimeout(PATIENCE_S)
    mine.sendall(rest)
    assert its.recv(1000) == header(A)


def is_closed(end: socket.socket) -> bool:
    try:
        return end.recv(1000) == b""
    except ConnectionError:
        return True
