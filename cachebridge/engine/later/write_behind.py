"""Values that were set without waiting: queued, and sent soon, together.

A queued value is this process's own write, whose place among all writes is that of its
sending.  Any other call that concerns its key, but a hit of L1, has it sent first: so
every caller of the process reads its own writes, and no later write is overtaken.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from os import getpid
from typing import TYPE_CHECKING, Protocol

from cachebridge.core.write import QueuedWrite
from cachebridge.engine.later.sender import Sender
from cachebridge.engine.messages.hosting import freezes_threads
from cachebridge.errors import L2Error, L2UnavailableError
from cachebridge.events import event
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine, Hashable, Iterable
    from typing import Any

    from cachebridge.config import EngineOptions
    from cachebridge.core.coherence import Coherence
    from cachebridge.core.entry import Entry
    from cachebridge.stats import Counters
    from cachebridge.waiting.io import IO

_log = logging.getLogger("cachebridge.engine")


class WriteBehindHost(Protocol):
    """What the queue needs of its engine."""

    options: EngineOptions
    rules: Coherence
    counters: Counters
    pid: int


class SendsQueued(Protocol):
    """Sends what was queued, for threads; an outage is counted, not raised."""

    @property
    def degrades(self) -> bool:
        """Whether what could not be sent may serve this process during an outage."""

    def send(self, write: QueuedWrite) -> Coroutine[Any, Any, bool]:
        """Send it; return False if each of its values has to be sent alone."""


class WriteBehind:
    """The queue of one engine.  Thread safe.

    It has one write for each *lane*: values that one command, with one outcome, may
    send.  One thread sends; callers that cannot go on before wait for it.
    """

    def __init__(self, host: WriteBehindHost) -> None:
        self._host = host
        self._rules = host.rules
        self._counters = host.counters
        self._delay_s = host.options.write_behind_ms / 1000
        self._patience_s = (
            host.options.socket_connect_timeout + host.options.socket_timeout
        )
        self._sender = Sender(
            "cachebridge-write-behind", pause_s=self._pause_s, send=self._send_all
        )
        self.reset()

    def reset(self) -> None:
        """Begin anew in the child of a fork: the parent sends its own."""
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        """Held by the thread that sends."""
        self._open: dict[Hashable, tuple[QueuedWrite, SendsQueued]] = {}
        """By lane: what still takes values."""
        self._due = 0.0
        """When they are to be sent."""
        self._sealed: deque[tuple[QueuedWrite, SendsQueued]] = deque()
        """What is sent next."""
        self.latest: dict[str, QueuedWrite] = {}
        """The last write of each key that has not been sent to its end."""
        self._sender.reset()

    def __len__(self) -> int:
        return len(self.latest)

    def is_possible(self) -> bool:
        """Return whether values can be queued here at all.

        Another engine of this process on the same server is told of each write before
        it returns.
        """
        return not self._rules.siblings and not freezes_threads()

    def put(
        self,
        lane: Hashable,
        sends: SendsQueued,
        key: str,
        raw: bytes,
        *,
        ends: float | None,
        entry: Entry | None,
    ) -> bool:
        """Queue a value; return False if it cannot be, and has to be sent at once.

        ``ends`` is when its TTL is over, by the clock of the rules, and ``entry`` what
        L1 serves from now on.  All values of a lane have a TTL, or none has.
        """
        if not self._sender.ensure():
            return False
        with self._lock:
            if self._rules.siblings:
                return False
            write, _ = self._open.get(lane, (None, None))
            latest = self.latest.get(key)
            if latest is not None and latest is not write and not latest.is_sealed:
                return False  # another lane has it
            if write is not None and not write.has_room(key, raw):
                self._due = 0.0
                self._sender.wake()
                return False
            if is_first := not self._open:
                self._due = self._rules.clock() + self._delay_s
                self._sender.wake()
            if write is None:
                write = QueuedWrite(self._rules, serves_outage=sends.degrades).begin()
                self._open[lane] = write, sends
            self._counters.writes_queued += 1
            self._counters.writes_coalesced += key in write
            self.latest[key] = write  # first: a later call waits, whatever strikes
            write.join(key, raw, ends, entry)
        if is_first and not self._sender.ensure():  # the thread has ended meanwhile
            self._send_all()
        return True

    async def before(self, io: IO, keys: Iterable[str]) -> L2Error | None:
        """Have sent what is queued of these keys; return an error if that takes long.

        The bound is that of one request, however many writes it waits for.  Where the
        sending has failed, there is nothing more to wait for.
        """
        with self._lock:
            latest = self.latest
            found = {latest[key] for key in keys if key in latest}
            if not found:
                return None
            self._due = 0.0
            self._sender.wake()
        deadline = self._rules.clock() + self._patience_s
        if not self._sender.ensure():
            self._send_all()
        for write in found:
            left_s = max(0.0, deadline - self._rules.clock())
            if not await io.wait(write.sent, left_s):
                return L2UnavailableError("values that were set before are being sent")
        return None

    def withdraw(self, keys: Collection[str]) -> set[str]:
        """Drop what is queued of these keys, unless it is being sent; return which.

        For a write that does not wait any longer: no older value may come after it.
        """
        with self._lock:
            writes = [write for write, _ in (*self._open.values(), *self._sealed)]
            return {key for each in writes for key in keys if each.withdraw(key)}

    def close(self) -> None:
        """Send all, and end the thread; a later ``put`` starts another."""
        if self._host.pid != getpid():
            return
        try:
            self._sender.close(self._patience_s)
            self._send_all()
        except BaseException:
            self._sender.ensure()  # it sends the rest
            raise

    def _pause_s(self) -> float | None:
        with self._lock:
            if self._sealed:
                return 0.0
            if not self._open:
                return None
            return max(0.0, self._due - self._rules.clock())

    def _send_all(self) -> None:
        if not self._turn.acquire(timeout=self._patience_s):
            return  # the thread that sends is stuck, at the end of the process
        try:
            with self._lock:
                for write, _ in self._open.values():
                    write.seal()
                self._sealed += self._open.values()
                self._open.clear()
            while self._sealed:
                self._send(*self._sealed[0])
        finally:
            self._turn.release()

    def _send(self, write: QueuedWrite, sends: SendsQueued) -> None:
        """Send the first, and forget it: repeated, if that was interrupted."""
        try:
            if write.is_over:  # an interrupt has ended it; the outcome is unknown
                self._counters.writes_lost += len(write)
            elif not len(write):  # all of it was withdrawn
                write.__exit__(None, None, None)
            elif not run(sends.send(write)):
                self._split(write, sends)
                return  # its turn comes again, when it is empty
        except Exception as exc:  # noqa: BLE001 the thread has to go on
            self._counters.writes_lost += len(write)
            write.__exit__(type(exc), exc, None)
            told = event("queue.lost", count=len(write))
            _log.exception(
                "%d values that were queued are lost", len(write), extra=told
            )
        with self._lock:
            kept = {key: last for key, last in self.latest.items() if last is not write}
            self.latest = kept
        write.sent.set()
        self._sealed.popleft()

    def _split(self, write: QueuedWrite, sends: SendsQueued) -> None:
        """Put a write for each value before this one: L2 has refused them together."""
        with self._lock:
            for key in list(write):
                alone = write.begin_another()
                self._sealed.appendleft((alone, sends))
                write.move(key, alone)
