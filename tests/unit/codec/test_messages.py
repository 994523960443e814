"""Messages: nothing that arrives can do more than empty L1, and nothing is ignored."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cachebridge.codec.messages import (
    MAX_BYTES,
    MAX_KEY_BYTES,
    MAX_KEYS,
    MalformedMessageError,
    Message,
    MessageType,
    UnknownVersionError,
    batches,
    decode_message,
    encode_message,
)
from cachebridge.engine.messages.incoming import Receiver
from tests.rig import FakeClock, entry_of, make_rules
from tests.unit.codec.golden import MESSAGES

TEXTS = st.text(st.characters(exclude_categories=()), max_size=20)
ANY_MESSAGE = st.builds(
    Message,
    st.sampled_from(MessageType),
    st.binary(min_size=8, max_size=8),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.lists(TEXTS, max_size=5).map(tuple),
    st.booleans(),
)


@given(ANY_MESSAGE)
def test_round_trip(message):
    """Every message that can be made is read as it was."""
    assert decode_message(encode_message(message)) == message


def decode_or_none(frame):
    """Decode; MalformedMessageError is the only way to fail."""
    try:
        return decode_message(frame)
    except MalformedMessageError:
        return None


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xcb")
@example(b"\xcb\x01")
def test_random_bytes(frame):
    """Random bytes are malformed, whatever they are."""
    assert decode_or_none(frame) is None


@given(ANY_MESSAGE, st.binary(max_size=60))
def test_random_body(message, body):
    """A right beginning followed by anything never raises anything else."""
    decode_or_none(encode_message(message)[:4] + body)


@pytest.mark.parametrize("case", MESSAGES)
def test_truncations(case):
    """Every proper beginning of a message is malformed, and every longer text."""
    frame = encode_message(MESSAGES[case])
    for end in range(min(len(frame), 300)):
        assert decode_or_none(frame[:end]) is None
    assert decode_or_none(frame + b"\0") is None
    assert decode_or_none(frame * 2) is None


@pytest.mark.parametrize("case", ["keys-one", "keys-odd", "prefix", "switch-on"])
def test_bit_flips(case):
    """Each single wrong bit gives another message or a malformed one, no crash."""
    frame = encode_message(MESSAGES[case])
    original = decode_message(frame)
    for position in range(len(frame) * 8):
        damaged = bytearray(frame)
        damaged[position // 8] ^= 1 << position % 8
        decoded = decode_or_none(bytes(damaged))
        unused_flags = position // 8 == 3
        assert decoded != original or unused_flags


def test_unknown_version_is_told_apart():
    """A newer version is no garbage."""
    frame = bytearray(encode_message(MESSAGES["clear"]))
    for version in {*range(256)} - {1}:
        frame[1] = version
        with pytest.raises(UnknownVersionError, match=f"version {version}"):
            decode_message(bytes(frame))


@pytest.mark.parametrize("kind", [3, 6, 255])
def test_unknown_type(kind):
    """A type that this version does not know is malformed, not ignored."""
    frame = bytearray(encode_message(MESSAGES["clear"]))
    frame[2] = kind
    with pytest.raises(MalformedMessageError):
        decode_message(bytes(frame))


@given(st.lists(st.sampled_from(["k", "é" * 300, "x" * MAX_KEY_BYTES]), max_size=30))
def test_batches_fit(keys):
    """Batches keep the order, lose nothing, and each fits into one message."""
    keys *= 90
    runs = batches(keys)
    assert [key for run in runs for key in run] == keys
    for run in runs:
        assert len(run) <= MAX_KEYS
        frame = Message(MessageType.KEYS, b"x" * 8, 1, 1, tuple(run))
        assert len(encode_message(frame)) <= MAX_BYTES + 2 * MAX_KEYS + 32
        assert run or not keys


def test_batches_of_few():
    """What fits goes in one."""
    assert batches(["a", "b"]) == [["a", "b"]]
    assert [len(run) for run in batches(["k"] * 2500)] == [1000, 1000, 500]


class Fixture:
    """A receiver over real rules, with one entry that shows whether it was flushed."""

    def __init__(self):
        self.clock = FakeClock()
        self.rules, self.store, self.counters = make_rules(self.clock)
        self.receiver = Receiver(
            self.rules,
            self.counters,
            trust_s=2.0,
            on_alive=lambda: None,
            on_proof=lambda: None,
            on_keys_changed=lambda _keys: None,
            on_server_known=lambda _server_id: None,
        )
        self.store.put("mine", entry_of("v"))

    def beat(self):
        self.receiver.on_heartbeat(self.clock(), l1_on=True)

    def is_on(self):
        return self.rules.is_on(self.clock())

    def holds(self):
        return self.store.look("mine") is not None


@settings(max_examples=200)
@given(
    st.lists(
        st.binary(max_size=80)
        | ANY_MESSAGE.map(encode_message)
        | st.tuples(ANY_MESSAGE, st.integers(0, 80), st.integers(0, 255)).map(
            lambda drawn: encode_message(drawn[0])[: drawn[1]] + bytes([drawn[2]])
        ),
        max_size=8,
    )
)
def test_receiver_survives_everything(frames):
    """I17: no frame raises; the worst is an empty L1, or L1 off until a heartbeat."""
    made = Fixture()
    for frame in frames:
        made.receiver.on_frame(frame)
    assert made.counters.messages_received == len(frames)
    made.clock.advance(1.0)
    made.receiver.on_frame(encode_message(MESSAGES["heartbeat"]))
    made.beat()
    made.clock.advance(1.0)
    made.beat()
    assert made.is_on(), "L1 recovers with the next proof"


def test_malformed_flushes():
    """What is not understood empties L1, is counted and logged, and trust stays."""
    made = Fixture()
    made.receiver.on_frame(b"garbage")
    assert not made.holds()
    assert made.is_on()
    assert made.counters.messages_malformed == 1
    assert made.counters.flushes == {"malformed": 1}


def test_messages_make_one_log_line_each_kind(caplog):
    """Forged ones, and a newer release's between ours: counters have them all."""
    made = Fixture()
    for _ in range(100):
        made.receiver.on_frame(b"garbage")
        made.receiver.on_frame(newer())
        made.receiver.on_frame(encode_message(MESSAGES["keys-one"]))
    assert made.counters.messages_malformed == 100
    assert made.counters.messages_unknown == 100
    assert len(caplog.records) == 2


def newer(case="keys-one"):
    frame = bytearray(encode_message(MESSAGES[case]))
    frame[1] = 2
    return bytes(frame)


def test_newer_version_ends_trust():
    """L1 rests until a known message has come and then a heartbeat."""
    made = Fixture()
    made.receiver.on_frame(newer())
    assert not made.is_on()
    assert not made.holds()
    made.beat()
    assert not made.is_on(), "a heartbeat alone does not bring trust back"
    made.clock.advance(1.0)
    made.receiver.on_frame(encode_message(MESSAGES["keys-one"]))
    assert not made.is_on()
    made.beat()
    assert made.is_on()


def test_newer_version_flushes_once_a_second():
    """A rolling upgrade is no storm of flushes."""
    made = Fixture()
    for _ in range(500):
        made.receiver.on_frame(newer())
        made.clock.advance(0.01)
    assert made.counters.flushes["version"] in {5, 6}


def test_nothing_survives_a_newer_message():
    """An entry made between two newer messages is never served: a flush is due."""
    made = Fixture()
    made.receiver.on_frame(newer())
    made.receiver.on_frame(encode_message(MESSAGES["keys-one"]))
    for _ in range(6):
        made.clock.advance(0.3)
        made.receiver.on_frame(encode_message(MESSAGES["keys-one"]))
        made.beat()
        if made.is_on():
            made.store.put("mine", entry_of("soon to be stale"))
        made.receiver.on_frame(newer())
        made.receiver.on_frame(encode_message(MESSAGES["keys-one"]))
        made.beat()
        assert not (made.is_on() and made.holds())


@pytest.mark.parametrize(
    ("case", "stays"),
    [
        ("keys-one", True),
        ("prefix", True),
        ("heartbeat", True),
        ("switch-on", True),
        ("switch-off", False),
        ("clear", False),
    ],
)
def test_known_messages(case, stays):
    """Each type does what it says to an entry that it does not name."""
    made = Fixture()
    made.receiver.on_frame(encode_message(MESSAGES[case]))
    assert made.holds() is stays


def test_delay_is_measured():
    """The time from the sending of an invalidation is counted, never below zero."""
    made = Fixture()
    made.receiver.on_frame(encode_message(MESSAGES["keys-one"]))
    future = MESSAGES["keys-one"]._replace(sent_us=2**63)
    made.receiver.on_frame(encode_message(future))
    own = MESSAGES["keys-one"]._replace(origin=made.rules.origin)
    made.receiver.on_frame(encode_message(own))
    assert made.counters.delay_count == 2
    assert made.counters.delay_sum_s > 0
    assert made.counters.delay_buckets[0] == made.counters.delay_buckets[-1] == 1
