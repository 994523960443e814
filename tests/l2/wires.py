"""Links whose sockets a test can listen to and disturb."""

from __future__ import annotations

from cachebridge.l2.pool import Link


class Wire:
    """A socket that asks ``receiving`` and ``sending`` before it does what it does."""

    def __init__(self, link, sock, receiving, sending):
        self._link = link
        self._sock = sock
        self._receiving = receiving
        self._sending = sending

    def recv(self, size):
        self._receiving(self._link, before=True)
        data = self._sock.recv(size)
        self._receiving(self._link, before=False)
        return data

    def sendall(self, data):
        self._sending(data)
        self._sock.sendall(data)


def tap(monkeypatch, *, receiving=None, sending=None):
    """Have every link that is opened from now on report what it does.

    ``receiving(link, before=)`` is called around each read, ``sending(data)`` before
    each send; what they raise comes out of the socket.
    """
    opened = Link.__init__

    def tapped(self, connection):
        opened(self, connection)
        self._socket = Wire(
            self,
            self._socket,
            receiving or (lambda _link, before: None),
            sending or (lambda _data: None),
        )

    monkeypatch.setattr(Link, "__init__", tapped)
