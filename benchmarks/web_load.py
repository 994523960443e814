"""Loads one page over several connections and prints what it counted as JSON.

Run as a process of its own, so that it shares no interpreter with what it loads. A
connection is kept as long as the server keeps it.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time

_CONNECTIONS = 6
_CHUNK = 1 << 16


class Client:
    """One connection with one request under way."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._request = (
            f"GET / HTTP/1.1\r\nHost: {address[0]}\r\nConnection: keep-alive\r\n\r\n"
        ).encode()
        self._received = b""
        self._wanted = 0
        self.socket = self._connect()

    def send(self) -> None:
        self._received = b""
        self._wanted = 0
        self.socket.sendall(self._request)

    def receive(self) -> bool:
        """Take what has arrived; True when the response is whole."""
        self._received += self.socket.recv(_CHUNK)
        if not self._wanted:
            self._wanted = _whole_length(self._received)
        return 0 < self._wanted <= len(self._received)

    def closes(self) -> bool:
        """Whether the server said that it closes the connection."""
        head, _, _ = self._received.partition(b"\r\n\r\n")
        return b"connection: close" in head.lower()

    def reconnect(self) -> None:
        self.socket.close()
        self.socket = self._connect()

    def _connect(self) -> socket.socket:
        connection = socket.create_connection(self._address)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


def _whole_length(received: bytes) -> int:
    """Return the length of head and body, 0 while the head is incomplete."""
    head, found, _ = received.partition(b"\r\n\r\n")
    if not found:
        if not received:
            raise ConnectionError("the server closed without an answer")
        return 0
    if not head.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(f"not a page: {head[:80]!r}")
    _, _, rest = head.lower().partition(b"content-length:")
    return len(head) + 4 + int(rest.split(b"\r\n", 1)[0])


def load(host: str, port: int, for_s: float) -> dict[str, float]:
    """Load for `for_s` seconds: the number of responses and the seconds taken."""
    with selectors.DefaultSelector() as selector:
        for _ in range(_CONNECTIONS):
            client = Client((host, port))
            selector.register(client.socket, selectors.EVENT_READ, client)
            client.send()

        responses = 0
        started = time.perf_counter()
        until = started + for_s
        while time.perf_counter() < until:
            for key, _ in selector.select(timeout=5):
                client = key.data
                if not client.receive():
                    continue
                responses += 1
                if client.closes():
                    selector.unregister(client.socket)
                    client.reconnect()
                    selector.register(client.socket, selectors.EVENT_READ, client)
                client.send()
        elapsed_s = time.perf_counter() - started

        for key in list(selector.get_map().values()):
            key.data.socket.close()
    return {"responses": responses, "seconds": elapsed_s}


if __name__ == "__main__":
    print(json.dumps(load(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
