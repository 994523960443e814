"""What the bus brings, in an awkward order."""

from __future__ import annotations

import threading

from cachebridge.codec.messages import Message, MessageType, encode_message
from cachebridge.config import EngineOptions
from cachebridge.engine.engine import Engine
from cachebridge.l2.location import parse_location
from tests.rig import PATIENCE_S


def test_an_old_heartbeat_does_not_undo_the_switch():
    """It may have read the switch before it was thrown; the next one counts again."""
    now = 10.0
    engine = Engine(
        parse_location("memory://switch"), EngineOptions(), clock=lambda: now
    )
    receiver = engine.receiver
    receiver.on_subscribed()
    off = Message(MessageType.SWITCH, b"12345678", 0, 0, (), on=False)
    receiver.on_frame(encode_message(off))
    assert not engine.rules.enabled
    receiver.on_heartbeat(9.9, l1_on=True)
    assert not engine.rules.enabled
    receiver.on_heartbeat(10.1, l1_on=True)
    assert engine.rules.enabled


def test_a_message_that_no_key_confirms_does_not_last():
    """A forged one turns L1 off until the next heartbeat, and is never kept."""
    engine = Engine(parse_location("memory://forged"), EngineOptions())
    receiver = engine.receiver
    receiver.on_subscribed()
    off = Message(MessageType.SWITCH, engine.rules.origin, 0, 0, (), on=False)
    receiver.on_frame(encode_message(off))
    assert not engine.rules.enabled
    assert receiver.l1_is_on()
    receiver.on_heartbeat(engine.clock(), l1_on=None)
    assert engine.rules.enabled
    receiver.on_heartbeat(engine.clock(), l1_on=False)
    receiver.on_heartbeat(engine.clock(), l1_on=None)
    assert not engine.rules.enabled
    assert not receiver.l1_is_on()


def test_pause_ends_early_for_a_caller_that_waits():
    """And the next one lasts again as long as it may."""
    engine = Engine(parse_location("memory://pause"), EngineOptions())
    hurry = engine.rules.fences.hurry
    pause = threading.Thread(target=engine.receiver.pause, args=(4 * PATIENCE_S,))
    pause.start()
    hurry.set()
    pause.join(PATIENCE_S)
    assert not pause.is_alive()
    assert not hurry.is_set()
    engine.receiver.pause(0.001)
