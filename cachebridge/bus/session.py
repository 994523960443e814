"""One life of a subscription, from subscribing to the first error.

The heartbeat goes out over a connection that commands use, to a private channel of this
session, and comes back through the very subscription that carries the invalidations.
The server's output buffer is first in, first out, so the echo proves that every message
for a write before the sending has been handled.  It needs no trust in threads: with a
starved listener, a half-open connection or a subscriber left behind on another server,
trust just runs out.

The heartbeat also writes a mark, which only a master accepts, and reads the last one
back: a server whose data was replaced by another's has lost it.  A connection that is
opened later proves at once that it leads to the server of the subscription: of what it
publishes on the private channel, one subscriber hears.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any, Final

from cachebridge.bus.asks import ask_channel
from cachebridge.bus.beat import Beat, Snapshots, run_id_of
from cachebridge.bus.settings import ELSEWHERE
from cachebridge.bus.subscription import Subscription
from cachebridge.events import event
from cachebridge.resp import is_wrong_server, pack, read_hello, wrong_kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.bus.settings import CommandLink, Era, ListenerSettings


_log = logging.getLogger("cachebridge.bus")

ECHO_PAUSE_S: Final = 0.0005
"""Extra delay for peers' messages after this process handled only its own echoes."""
TICKS_PER_BEAT: Final = 5
"""How often per heartbeat the thread reads the clock while nothing arrives."""
L1_OFF: Final = b"off"
"""The word of the fleet's switch; b"on" is the other."""
ASK_RUN: Final = pack(b"INFO", b"server")
END: Final = b"end"
"""Published to an old subscription when the next one hears everything."""


class Session:
    """One life of the subscription, until the first error.

    Used by the listener's thread, but for ``give_up``.
    """

    def __init__(
        self,
        settings: ListenerSettings,
        stopping: threading.Event,
        *,
        on_proof: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._stopping = stopping
        self._on_proof = on_proof
        self._commands = settings.commands
        self._channels = settings.channels
        self._receiver = settings.receiver
        self._clock = settings.clock
        self._telling = threading.RLock()
        """Held while the receiver learns that it may trust L1, or must not."""
        self.gave_up = ""
        """Why another thread has ended the session, if it has."""
        self._server_id: bytes | None = None
        self._snapshots = Snapshots()
        self._mark: bytes | None = None
        """What the last heartbeat wrote, if it was the last to write."""
        self._beat: Beat | None = None
        self._next_beat = 0.0
        self._shared = self._channels.shared.encode()
        self._ask = ask_channel(self._channels.shared).encode()
        self._era: Era | None = None
        self._private = self._new_channel()
        self._subscription = self._subscribing(self._private)
        self._former: Subscription | None = None
        """What the subscription has replaced, until a heartbeat has come back."""
        self._renew_at: float | None = None
        """When to replace the subscription, None while that is not due."""
        self.was_up = False
        """Whether a heartbeat has come back: all rights are there, the bus works."""

    def _subscribing(self, private: bytes) -> Subscription:
        """Make a subscription, not open yet."""
        channels = [self._shared, private]
        if self._settings.is_asked:
            channels.append(self._ask)
        return Subscription(self._settings.make_connection(), channels)

    def _new_channel(self) -> bytes:
        """Name a private channel: the server may still know a subscriber of another."""
        return f"{self._channels.private}:{os.urandom(4).hex()}".encode()

    def serve(self) -> None:
        """Subscribe, then handle messages and heartbeats until something breaks."""
        early = self._begin()
        self._tell(self._receiver.on_subscribed)
        for reply in early:
            self._handle(reply)
        while not self._stopping.is_set():
            self._handle_arrived(self._subscription.receive())
            now, renew_at = self._clock(), self._renew_at
            if renew_at is not None and now >= renew_at and self._beat is None:
                self._make_before_break(now)
            if now >= self._next_beat or (
                self._beat is None and self._receiver.waits_for_beat()
            ):
                self._continue()

    def _begin(self) -> list[Any]:
        """Subscribe, and prove a new connection; return messages that arrived already.

        A server that loads its data takes subscriptions, and nothing else yet.  L1 must
        not be flushed for it: until then L1 is all that callers have.
        """
        link = self._commands.open_unproven()
        try:
            early = self._subscription.open(self._settings.heartbeat_s / TICKS_PER_BEAT)
            test = pack(b"PUBLISH", self._shared, self._settings.test_message)
            replies = link.exchange(test + self._probe(), 2)
            self._refuse_errors(replies)
            self._require(meets=bool(replies[1]))
            self._era = self._commands.begin_era(self._meets, link)
            if self._settings.on_run is not None:
                self._settings.on_run(run_id_of(*link.exchange(ASK_RUN, 1)))
            self._send_heartbeat(link)
            self._read_replies()
        except BaseException:
            link.close()
            raise
        return early

    def renew(self) -> None:
        """Replace the subscription's connection soon, without a gap; from any thread.

        A subscribed connection takes no AUTH, so new credentials need a new one.
        """
        self._renew_at = 0.0

    def _make_before_break(self, now: float) -> None:
        """Subscribe anew, and go on there when the old subscription is read to its end.

        Every message reaches the new one, the old one, or both: twice does no harm.  If
        the new one cannot be had, the old one goes on, and later this is tried again.
        """
        old, old_private, private = self._subscription, self._private, b""
        self._renew_at, new = None, None
        try:
            private = self._new_channel()
            new = self._subscribing(private)
            early = new.open(self._settings.heartbeat_s / TICKS_PER_BEAT)
            self._prove(private)
            self._prove(old_private, END)
        except Exception as exc:  # noqa: BLE001 the old one goes on, whatever it is
            if new is not None:
                new.close()
            _log.info(
                "the subscription is not replaced yet: %s",
                type(exc).__name__,
                extra=event("bus.not_replaced", channel=self._channels.shared),
            )
            self._renew_at = now + self._settings.trust_s
            return
        self._former = old
        self._read_to_end(old, old_private, now + self._settings.trust_s)
        self._subscription, self._private = new, private
        self._handle_arrived(early)
        self._next_beat = now

    def _prove(self, channel: bytes, payload: bytes = b"") -> None:
        """Publish over the commands' way; raises unless this process hears it."""
        link = self._commands.take_oldest() or self._commands.open()
        try:
            replies = link.exchange(pack(b"PUBLISH", channel, payload), 1)
            self._refuse_errors(replies)
            self._require(meets=bool(replies[0]))
        except BaseException:
            link.close()
            raise
        self._commands.keep(link)

    def _read_to_end(self, old: Subscription, private: bytes, until: float) -> None:
        """Handle what the old subscription has been sent before its end."""
        end = [b"message", private, END]
        while True:
            replies = old.receive()
            self._handle_arrived([reply for reply in replies if reply != end])
            if end in replies:
                return
            if self._clock() > until:
                raise ConnectionError("the old subscription has no end")

    def give_up(self, reason: str) -> None:
        """End trust now, and the session soon; from any thread."""
        with self._telling:
            self.gave_up = self.gave_up or reason
            self._receiver.on_break(reason)
        self.wake()

    def wake(self) -> None:
        """End the read that the thread waits in, from another thread."""
        self._subscription.wake()

    def close(self) -> None:
        """Close the subscription, and stop proving connections."""
        if self._era is not None:
            self._era.meets = None
        self._subscription.close()
        self._close_former()
        if self._beat is not None:
            self._beat.link.close()

    def _close_former(self) -> None:
        former, self._former = self._former, None
        if former is not None:
            former.close()

    def _tell(self, report: Callable[[], None]) -> None:
        """Tell the receiver something, unless another thread has ended the session."""
        with self._telling:
            if self.gave_up:
                raise ConnectionError(self.gave_up)
            report()

    # -- messages --------------------------------------------------------------------

    def _handle_arrived(self, replies: list[Any]) -> None:
        """Handle replies, and pause for a moment if all were echoes of own writes.

        Few readers wait for echoes, and these end the pause.  Woken for each echo, this
        thread would take the interpreter from the writer every time; in a pause they
        gather.
        """
        echoes = [self._handle(reply) for reply in replies]
        if echoes and all(echoes):
            self._receiver.pause(ECHO_PAUSE_S)

    def _handle(self, reply: Any) -> bool:
        """Handle one message; return whether it was the echo of an own write."""
        match reply:
            case [b"message", bytes(channel), bytes(payload)]:
                pass
            case _:
                raise wrong_kind(reply)
        if channel == self._shared:
            return self._receiver.on_frame(payload)
        if channel == self._ask:
            self._receiver.on_ask(payload)
        elif self._beat is not None and payload == self._beat.nonce:
            self._echoed(self._beat)
        return False

    # -- heartbeats ------------------------------------------------------------------

    def _probe(self) -> bytes:
        return pack(b"PUBLISH", self._private, b"")

    def _meets(self, link: CommandLink) -> bool:
        """Return whether a new connection leads to the server of the subscription.

        The server says how many of its subscribers hear the private channel.
        """
        if not self._settings.hears_itself:
            return True  # only a heartbeat tells
        (heard,) = link.exchange(self._probe(), 1)
        return isinstance(heard, int) and heard > 0

    def _continue(self) -> None:
        """Send the next heartbeat, or see about the one that is still under way."""
        beat, now, trust_s = self._beat, self._clock(), self._settings.trust_s
        if beat is None:
            self._send_heartbeat(self._commands.take_oldest() or self._commands.open())
        elif now - beat.since > trust_s:
            raise ConnectionError("the heartbeat did not come back")
        elif now - beat.sent_at > trust_s / 2 and (
            link := self._commands.take_oldest()
        ):
            beat.link.close()  # perhaps it alone is dead
            self._mark = None
            self._send_heartbeat(link, since=beat.since)
        else:
            self._schedule(now)

    def _schedule(self, now: float) -> None:
        beat_s = self._settings.heartbeat_s
        self._next_beat = now + self._settings.jitter(0.8 * beat_s, 1.2 * beat_s)

    def _send_heartbeat(self, link: CommandLink, *, since: float | None = None) -> None:
        now, settings = self._clock(), self._settings
        beat = self._beat = Beat(link, now, now if since is None else since)
        self._schedule(now)
        link.send(
            beat.packed(
                self._channels,
                self._private,
                settings.trust_s,
                at_replica=not settings.hears_itself,
            )
        )

    def _read_replies(self) -> None:
        """Read the replies to the heartbeat; raises if the server is the wrong one."""
        beat = self._beat
        if beat is None or beat.replies is not None:
            return
        past_replica = not self._settings.hears_itself
        found, marks, written, heard, *stats = beat.link.receive(4 + past_replica)
        self._refuse_errors([found, heard, *stats])
        self._snapshots.require_none(stats)
        self._require(meets=bool(heard))
        if isinstance(written, Exception):
            self._judge(beat.link, written)
        if isinstance(written, Exception) or isinstance(marks, Exception):
            beat.mark = b""  # one that cannot be found again
        beat.replies = [*found, None if isinstance(marks, Exception) else marks[0]]

    def _require(self, *, meets: bool) -> None:
        if not meets and self._settings.hears_itself:
            self._settings.leave(ELSEWHERE)
            raise ConnectionError(ELSEWHERE)

    def _refuse_errors(self, replies: list[Any]) -> None:
        for reply in replies:
            if isinstance(reply, Exception):
                if is_wrong_server(reply):
                    self._settings.leave(str(reply))
                raise reply

    def _judge(self, link: CommandLink, refusal: Exception) -> None:
        """Go on without a mark if the server is a master: it may be full, say.

        Every account may ask for the role with HELLO.
        """
        if not is_wrong_server(refusal):
            (about,) = link.exchange(pack(b"HELLO"), 1)
            if read_hello(about).role == "master":
                return
        self._refuse_errors([refusal])

    def _echoed(self, beat: Beat) -> None:
        """The heartbeat came back: its replies are here too."""
        self._read_replies()
        self._beat = None
        server_id, switch, mark = beat.replies or (None, None, None)
        known, expected = self._server_id, self._mark
        self._server_id, self._mark = server_id, beat.mark or None
        if server_id is not None and server_id != known:
            self._receiver.on_server_known(server_id)
        if (known or server_id) != server_id or (expected or mark) != mark:
            self._receiver.on_server_changed()
        if server_id is None:
            self._name_server(beat.link)
            return
        if switch is None and not self._receiver.l1_is_on():
            self._restore_switch(beat.link)
        self._commands.keep(beat.link)
        self._close_former()
        self.was_up = True
        self._tell(
            lambda: self._receiver.on_heartbeat(
                beat.sent_at, l1_on=None if switch is None else switch != L1_OFF
            )
        )
        self._on_proof()

    def _restore_switch(self, link: CommandLink) -> None:
        """L1 is off, and the server has lost the key that says so: by eviction, say."""
        key = self._channels.switch_key.encode()
        link.exchange(pack(b"SET", key, L1_OFF, b"NX"), 1)

    def _name_server(self, link: CommandLink) -> None:
        """The server has no id: it is new or has lost its data.  Give it one."""
        name = os.urandom(8).hex().encode()
        key = self._channels.server_id_key.encode()
        try:
            self._refuse_errors(link.exchange(pack(b"SET", key, name, b"NX"), 1))
            self._send_heartbeat(link)
        except BaseException:
            link.close()
            raise
