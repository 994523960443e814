"""Servers on the loopback that answer whatever a test wants, over real sockets."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from ssl import SSLContext


@contextmanager
def serving(
    talk: Callable[[socket.socket], object], *, tls: SSLContext | None = None
) -> Iterator[int]:
    """Run ``talk`` with each connection, in a thread of its own; give the port.

    The connection is closed when ``talk`` returns.
    """
    ending = threading.Event()
    threads: list[threading.Thread] = []
    open_now: set[socket.socket] = set()

    def one(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            if tls is None:
                talk(connection)
                return
            with tls.wrap_socket(connection, server_side=True) as wrapped:
                talk(wrapped)
        open_now.discard(connection)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            if ending.is_set():
                connection.close()
                return
            open_now.add(connection)
            thread = threading.Thread(target=one, args=(connection,), daemon=True)
            threads.append(thread)
            thread.start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield port
        finally:
            ending.set()
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                pass
            accepting.join()
            for connection in tuple(open_now):
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(10)


def scripted(answer: bytes, *, tls: SSLContext | None = None):
    """Answer every request with the same bytes."""

    def talk(connection: socket.socket) -> None:
        while connection.recv(65536):
            connection.sendall(answer)

    return serving(talk, tls=tls)


def redis_that_answers(answer: bytes, *, trickle_s: float = 0.0):
    """Carry the handshake out as Redis does, then answer commands with these bytes.

    With ``trickle_s`` they come one at a time, so many seconds apart, without end.
    """

    def talk(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            if b"SETINFO" in data or b"SELECT" in data or b"AUTH" in data:
                commands = sum(data.count(word) for word in (b"SETINFO", b"SELECT"))
                connection.sendall(b"+OK\r\n" * (commands + data.count(b"AUTH")))
            elif trickle_s:
                trickle(connection, answer, trickle_s)
            else:
                connection.sendall(answer)

    return serving(talk)


def trickle(connection: socket.socket, answer: bytes, pause_s: float) -> None:
    """Send byte by byte, from the first to the last and again."""
    while True:
        for byte in answer:
            connection.sendall(bytes([byte]))
            time.sleep(pause_s)  # what a client must not wait for
