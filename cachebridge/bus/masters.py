"""The bus of a cluster: a session at every master, and trust when all are proven.

A message is published at the master that has its key, and reaches the subscribers of
all masters.  Only at its own master is it ordered before a later heartbeat: on the way
to the others it may be lost.  So each master has a listener of its own, and L1 is
trusted as far as the earliest of their heartbeats proves.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from cachebridge.bus.listener import Listener
    from cachebridge.bus.settings import Receiver


class Sessions:
    """Which sessions there have to be, and which are proven.  Thread safe."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self._lock = threading.Lock()
        self.frames = threading.Lock()
        """Held while a message or a heartbeat is handled, as one session would."""
        self._wanted: frozenset[MasterReceiver] = frozenset()
        self._subscribed: set[MasterReceiver] = set()
        self._proofs: dict[MasterReceiver, float] = {}
        """When the last heartbeat was sent that has come back to its subscription."""
        self._is_whole = False
        """Whether every node that may be asked has a session among the wanted."""
        self._is_open = False
        """Whether the receiver knows that messages arrive."""

    def want(self, sessions: frozenset[MasterReceiver], *, is_whole: bool) -> None:
        """Say which sessions there have to be."""
        with self._lock:
            if sessions != self._wanted or not is_whole:
                self._close("the masters of the cluster are others now")
            self._wanted, self._is_whole = sessions, is_whole
            self._subscribed &= sessions
            for gone in self._proofs.keys() - sessions:
                del self._proofs[gone]
            self._open_if_possible()

    def subscribed(self, session: MasterReceiver) -> None:
        """Note that a session hears messages; when all do, L1 begins anew."""
        with self._lock:
            if session in self._wanted:
                self._subscribed.add(session)
                self._open_if_possible()

    def broke(self, session: MasterReceiver, reason: str) -> None:
        """Note that a session may have missed messages."""
        with self._lock:
            self._subscribed.discard(session)
            self._proofs.pop(session, None)
            if session in self._wanted:
                self._close(reason)

    def close(self, reason: str) -> None:
        """End trust, until each session is proven anew; they go on."""
        with self._lock:
            self._is_whole = False
            self._close(reason)

    def proven(self, session: MasterReceiver, sent_at: float) -> float | None:
        """Return what a heartbeat proves of all messages: when the earliest was sent.

        None while a session is not there, or no heartbeat has come back to one.
        """
        with self._lock:
            if session not in self._wanted:
                return None
            self._proofs[session] = sent_at
            if not self._is_open or self._proofs.keys() != self._wanted:
                return None
            return min(self._proofs.values())

    def _close(self, reason: str) -> None:
        self._is_open = False
        self.receiver.on_break(reason)

    def _open_if_possible(self) -> None:
        if self._is_open or not self._is_whole or not self._wanted:
            return
        if self._subscribed >= self._wanted:
            self._is_open = True
            self.receiver.on_subscribed()


class MasterReceiver:
    """See ``Receiver``; of the session at one master."""

    def __init__(self, sessions: Sessions, *, is_home: bool) -> None:
        """``is_home``: the master has the switch, and the name of the cluster."""
        self._sessions = sessions
        self._receiver = sessions.receiver
        self._is_home = is_home

    def on_subscribed(self) -> None:
        """Begin anew when all sessions are there."""
        self._sessions.subscribed(self)

    def on_break(self, reason: str) -> None:
        """End trust at once."""
        self._sessions.broke(self, reason)

    def on_frame(self, frame: bytes) -> bool:
        """Handle a message, which every session brings once."""
        with self._sessions.frames:
            return self._receiver.on_frame(frame)

    def on_ask(self, frame: bytes) -> None:
        """Take what another process asks: only one session hears it."""
        self._receiver.on_ask(frame)

    def pause(self, seconds: float) -> None:
        """Handle nothing more at this master for so long."""
        self._receiver.pause(seconds)

    def on_server_known(self, server_id: bytes) -> None:
        """Name the cluster."""
        if self._is_home:
            self._receiver.on_server_known(server_id)

    def on_server_changed(self) -> None:
        """The master has lost its data."""
        self._receiver.on_server_changed()

    def l1_is_on(self) -> bool:
        """Return True where the switch is not: there it cannot be lost."""
        return self._receiver.l1_is_on() if self._is_home else True

    def on_heartbeat(self, sent_at: float, *, l1_on: bool | None) -> None:
        """Extend trust as far as all masters allow."""
        with self._sessions.frames:
            proven = self._sessions.proven(self, sent_at)
            if proven is not None:
                on = l1_on if self._is_home else None
                self._receiver.on_heartbeat(proven, l1_on=on)

    def waits_for_beat(self) -> bool:
        """Return whether a caller waits for the next heartbeats."""
        return self._receiver.waits_for_beat()


class MastersBus:
    """A listener for each master.  Thread safe."""

    def __init__(
        self,
        receiver: Receiver,
        *,
        watch: Callable[[], None],
        masters: Callable[[], Mapping[Any, bytes]],
        is_whole: Callable[[], bool],
        make_listener: Callable[[Any, bytes, Receiver], Listener],
        home: bytes,
    ) -> None:
        """``masters`` returns them with a hash tag each: that of ``home`` for one.

        ``watch`` has them become known, also if no caller asks for anything.
        ``is_whole``: no other node is in use.
        """
        self._watch = watch
        self._masters = masters
        self._is_whole = is_whole
        self._make_listener = make_listener
        self._home = home
        self._sessions = Sessions(receiver)
        self._lock = threading.Lock()
        self._listeners: dict[Hashable, tuple[bytes, MasterReceiver, Listener]] = {}
        self._is_started = False

    def start(self) -> None:
        """Listen to the masters that are known, and to others as they become known."""
        self._is_started = True
        try:
            self.follow()
            self._watch()
        except BaseException:  # no thread may run that no caller knows
            self.stop()
            raise

    def follow(self) -> None:
        """Listen to the masters that there are now."""
        with self._lock:
            if not self._is_started:
                return
            wanted, known = self._masters(), self._listeners
            for master, (tag, _, listener) in list(known.items()):
                if wanted.get(master) != tag:
                    del known[master]
                    listener.stop()
            fresh = list(wanted.keys() - known.keys())
            for master in fresh:
                tag = wanted[master]
                receiver = MasterReceiver(self._sessions, is_home=tag == self._home)
                listener = self._make_listener(master, tag, receiver)
                known[master] = tag, receiver, listener
            sessions = frozenset(receiver for _, receiver, _ in known.values())
            self._sessions.want(sessions, is_whole=self._is_whole())
            try:
                while fresh:
                    known[fresh[-1]][-1].start()
                    fresh.pop()
            finally:  # those that cannot be started now are made anew later
                for master in fresh:
                    del known[master]

    def on_change(self, reason: str) -> None:
        """End trust before a node is used that no session has proven."""
        self._sessions.close(reason)

    def _each(self) -> list[Listener]:
        with self._lock:
            return [listener for _, _, listener in self._listeners.values()]

    def stop(self) -> None:
        """End soon, without waiting."""
        self._is_started = False
        for listener in self._each():
            listener.stop()

    def renew(self) -> None:
        """Replace the connections of the subscriptions, without a gap."""
        for listener in self._each():
            listener.renew()

    def break_off(self, reason: str) -> None:
        """End trust at once, and begin anew everywhere."""
        for listener in self._each():
            listener.break_off(reason)

    def on_leave(self, master: Hashable, reason: str) -> None:
        """End trust at once, and begin anew at one master."""
        with self._lock:
            known = self._listeners.get(master)
        if known is not None:
            known[-1].break_off(reason)

    def join(self, timeout_s: float) -> None:
        """Wait until all have ended, for at most ``timeout_s`` seconds."""
        until = time.monotonic() + timeout_s
        for listener in self._each():
            listener.join(max(0.0, until - time.monotonic()))

    def is_alive(self) -> bool:
        """Return whether it listens, also while no master is known yet."""
        return self._is_started  # a listener ends only when it is stopped
