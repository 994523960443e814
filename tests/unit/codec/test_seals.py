"""Seals: what opens, what does not, and what a writer without a key cannot make."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachebridge.codec.decoding import UndecodableError
from cachebridge.codec.seals import (
    ENCRYPTED,
    FORGED,
    NOT_ENCRYPTED,
    SIGNED,
    UNKNOWN_KEY,
    UNSIGNED,
    Encryption,
    SealError,
    Signature,
    is_sealed,
    seal_of,
    unverified,
)
from cachebridge.codec.values import SERIALIZERS

OLD, NEW, OTHER = (letter * 32 for letter in (b"o", b"n", b"x"))
KINDS = [Signature, Encryption]
START = {Signature: SIGNED, Encryption: ENCRYPTED}


@pytest.mark.parametrize("kind", KINDS)
@given(key=st.text(), content=st.binary())
def test_round_trip(kind, key, content):
    """Any content under any key, half of a surrogate pair included."""
    seal = kind([NEW], "pickle")
    raw = seal.close(key, content)
    assert raw.startswith(START[kind])
    assert is_sealed(raw)
    assert seal.open(key, raw) == seal.content(key, raw) == content


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_no_changed_bit_passes(kind, data):
    """Of the head, the seal or the content."""
    seal = kind([NEW], "pickle")
    raw = bytearray(seal.close("k", b"content"))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(SealError):
        seal.open("k", bytes(raw))


@pytest.mark.parametrize("kind", KINDS)
@given(raw=st.binary(max_size=80), cut=st.integers(0, 40))
def test_no_other_bytes_pass(kind, raw, cut):
    """Random ones, also after a true beginning, and what was cut off."""
    seal = kind([NEW], "pickle")
    closed = seal.close("k", b"content")
    for forged in (raw, closed[:6] + raw, closed[:2] + raw, closed[: -1 - cut]):
        with pytest.raises(SealError):
            seal.open("k", forged)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("key", "other"), [("a", "b"), ("ab", "a"), ("", "\0"), ("a:1:b", "a:2:b")]
)
def test_moved_to_another_key(kind, key, other):
    """The full key is bound, and its length: no part of it can become content."""
    seal = kind([NEW], "pickle")
    with pytest.raises(SealError, match=FORGED) as raised:
        seal.open(other, seal.close(key, b"content"))
    assert raised.value.is_forged


def test_key_and_content_cannot_be_divided_otherwise():
    """The same bytes in a row, with another end of the key."""
    signature = Signature([NEW], "pickle")
    raw = signature.close("ab", b"c")
    with pytest.raises(SealError):
        signature.open("a", raw[:-1] + b"bc")


@pytest.mark.parametrize("kind", KINDS)
def test_rotation(kind):
    """In three steps, each of which reads what those beside it have written."""
    steps = [kind(keys, "pickle") for keys in ([OLD], [OLD, NEW], [NEW, OLD], [NEW])]
    for one, two in pairwise(steps):
        for writer, reader in ((one, two), (two, one)):
            assert reader.open("k", writer.close("k", b"content")) == b"content"
    with pytest.raises(SealError, match=UNKNOWN_KEY) as raised:
        steps[3].open("k", steps[0].close("k", b"content"))
    assert not raised.value.is_forged


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("other", "scope"), [(Signature, "json"), (Encryption, "json"), (None, "pickle")]
)
def test_scopes_and_kinds_are_apart(kind, other, scope):
    """What was sealed as JSON, or in the other way, never opens as a sealed pickle."""
    if other is None:
        other = Signature if kind is Encryption else Encryption
    raw = other([NEW], scope).close("k", b"content")
    with pytest.raises(SealError, match=UNKNOWN_KEY):
        kind([NEW], "pickle").open("k", raw)


@pytest.mark.parametrize(
    ("kind", "why"), [(Signature, UNSIGNED), (Encryption, NOT_ENCRYPTED)]
)
@pytest.mark.parametrize("serializer", SERIALIZERS.values(), ids=SERIALIZERS)
def test_without_a_seal(kind, why, serializer):
    """Refused, unless it is told to accept them; never with a seal that is wrong."""
    strict, lenient = (
        kind([NEW], "pickle", accepts_unsigned=each) for each in (False, True)
    )
    for value in (1.5, 7, "text", None, True, ["x"], {}):
        raw = serializer.encode(value)
        assert not is_sealed(raw)
        assert lenient.open("k", raw) == lenient.content("k", raw) == raw
        with pytest.raises(SealError, match=why):
            strict.open("k", raw)
    with pytest.raises(SealError, match=UNKNOWN_KEY):
        lenient.open("k", kind([OTHER], "pickle").close("k", b"content"))


def test_a_signed_value_is_read_by_a_process_without_keys():
    """It trusts the store anyway; what is encrypted it cannot read."""
    content = SERIALIZERS["json"].encode({"a": 1})
    signed = Signature([NEW], "json").close("k", content)
    assert unverified(signed) == content
    for serializer in SERIALIZERS.values():
        raw = Signature([NEW], serializer.format).close("k", serializer.encode([1]))
        assert serializer.decode(raw) == [1]
        raw = Signature([NEW], serializer.format).close("k", b"7")
        assert serializer.decode(raw) == 7
        with pytest.raises(UndecodableError, match="encrypted"):
            serializer.decode(Encryption([NEW], serializer.format).close("k", b"7"))
    assert not SERIALIZERS["pickle"].is_damaged(signed[:25])


def test_the_same_value_is_encrypted_anew():
    """Nonces never repeat, and nothing of the content shows."""
    seal = Encryption([NEW], "pickle")
    closed = {seal.close("k", b"content" * 9) for _ in range(200)}
    assert len({raw[6:18] for raw in closed}) == len(closed) == 200
    assert not any(b"content" in raw for raw in closed)


def test_equal_options_give_one_seal():
    """So caches with the same options share their values in L1."""
    made = [
        seal_of(keys, (), "pickle", accepts_unsigned=False)
        for keys in ((NEW,), (NEW,), (NEW, OLD), ())
    ]
    assert made[0] is made[1]
    assert made[1] is not made[2]
    assert made[3] is None
