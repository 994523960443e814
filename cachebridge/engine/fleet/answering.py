"""A process answers what others ask: in a thread that comes with an ask, and goes.

The listener's thread only counts and queues.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from cachebridge.bus.asks import (
    MOST_ASK,
    BadFrameError,
    answer_channel,
    decode_ask,
    encode_answer,
)
from cachebridge.bus.thread import BusThread
from cachebridge.core.notice import Notice
from cachebridge.engine.fleet.answers import answer_of
from cachebridge.engine.fleet.channel import publish, server_of, shared_of
from cachebridge.events import event

if TYPE_CHECKING:
    from cachebridge.engine.engine import Engine

_log = logging.getLogger("cachebridge.engine")

MOST_WAITING: Final = 16
BURST: Final = 10
PER_SECOND: Final = 5.0
"""Asks that one process answers: ``BURST`` at once, and so many a second after that."""


class Answering:
    """Answers for one engine.  Thread safe."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._failing = Notice()
        self._begin()

    def _begin(self) -> None:
        """Begin without work, also in the child of a fork."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._waiting: deque[bytes] = deque()
        self._is_working = False
        self._allowed = float(BURST)
        self._allowed_at = self._engine.clock()
        self.dropped = 0
        """Asks that were too many, or malformed: they got no answer."""

    def take(self, frame: bytes) -> None:
        """Take an ask, and return at once.  Called by the listener; never raises."""
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            is_taken = len(frame) <= MOST_ASK and len(self._waiting) < MOST_WAITING
            if not is_taken or not self._is_allowed():
                self.dropped += 1
                return
            self._waiting.append(frame)
            if self._is_working:
                return
            self._is_working = True
        try:
            BusThread(self._work, "cachebridge-answers").start()
        except RuntimeError:  # the interpreter ends, or is at its limit
            with self._lock:
                self._is_working = False
                self.dropped += len(self._waiting)
                self._waiting.clear()

    def _is_allowed(self) -> bool:
        now = self._engine.clock()
        grown = self._allowed + (now - self._allowed_at) * PER_SECOND
        self._allowed, self._allowed_at = min(grown, float(BURST)), now
        if self._allowed < 1.0:
            return False
        self._allowed -= 1.0
        return True

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._is_working = False
                    return
                frame = self._waiting.popleft()
            try:
                self._answer(frame)
            except BadFrameError:
                self.dropped += 1
            except Exception as exc:  # noqa: BLE001 no caller above could handle it
                if self._failing.begins(self._engine.clock(), type(exc).__name__):
                    _log.warning(
                        "a question of another process has no answer: %s",
                        type(exc).__name__,
                        extra=event("ask.failed", error=type(exc).__name__),
                    )

    def _answer(self, frame: bytes) -> None:
        ask, engine = decode_ask(frame), self._engine
        answer: dict[str, Any] = answer_of(engine, ask, dropped=self.dropped)
        channel = answer_channel(shared_of(engine.stores), ask.nonce)
        publish(server_of(engine.stores), channel, encode_answer(ask.nonce, answer))
