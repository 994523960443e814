"""What the bus brings, in an awkward order."""

from __future__ import annotations

from cachebridge.codec.messages import Message, MessageType, encode_message
from cachebridge.config import EngineOptions
from cachebridge.engine.engine import Engine
from cachebridge.l2.location import parse_location


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
