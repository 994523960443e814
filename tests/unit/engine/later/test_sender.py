"""The thread that sends: when it does, and how it begins and ends."""

from __future__ import annotations

import threading

from cachebridge.engine.later import sender as sender_module
from cachebridge.engine.later.sender import Sender
from tests.rig import PATIENCE_S, eventually


class Sending:
    """A sender whose pause is a variable, and what it has sent."""

    def __init__(self):
        self.pause_s = None
        self.sent = 0
        self.held = threading.Event()
        self.held.set()
        self.sender = Sender(
            "test-sender", pause_s=lambda: self.pause_s, send=self.send
        )

    def send(self):
        self.pause_s = None
        self.held.wait(PATIENCE_S)
        self.sent += 1


def test_it_sends_when_it_is_told_to():
    """Without a pause it sleeps; woken, it asks anew, sends, and sleeps again."""
    sending = Sending()
    sender = sending.sender
    assert not sender.is_started()
    assert sender.ensure()
    thread = sender._thread
    for number in range(1, 4):
        sending.pause_s = 0.0
        sender.wake()
        eventually(lambda number=number: sending.sent == number)
    assert sender.ensure()
    assert sender._thread is thread
    sender.close(PATIENCE_S)
    assert not thread.is_alive()
    assert sending.sent == 3


def test_an_idle_thread_ends(monkeypatch):
    """Then it holds its owner no longer; the next ``ensure`` starts another."""
    monkeypatch.setattr(sender_module, "IDLE_S", 0.001)
    sending = Sending()
    sender = sending.sender
    for number in range(1, 4):
        sending.pause_s = 0.0
        sender.wake()
        assert sender.ensure()
        eventually(lambda number=number: sending.sent == number)
        eventually(lambda: not sender.is_started())


def test_what_wakes_an_ending_thread_is_sent(monkeypatch):
    """A thread that is woken while it ends goes on: no caller would start another."""
    sending = Sending()
    sender = sending.sender
    assert sender.ensure()
    thread, wake = sender._thread, sender._wake
    wake.set()
    assert not sender._ends(wake)
    assert sender._thread is thread
    sender.close(PATIENCE_S)


def test_the_end_waits_for_what_is_being_sent():
    """And no longer than it is told to; afterwards another thread can be started."""
    sending = Sending()
    sender = sending.sender
    sending.held.clear()
    sending.pause_s = 0.0
    sender.ensure()
    thread = sender._thread
    eventually(lambda: sending.pause_s is None)
    sender.close(0.0)
    assert thread.is_alive()
    assert not sender.is_started()
    sending.held.set()
    thread.join(PATIENCE_S)
    assert sending.sent == 1
    sending.pause_s = 0.0
    assert sender.ensure()
    eventually(lambda: sending.sent == 2)
    sender.close(PATIENCE_S)
