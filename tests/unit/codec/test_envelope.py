"""The header of tagged values: its bytes, and what is no header."""

from __future__ import annotations

import pytest

from cachebridge.codec.decoding import UndecodableError
from cachebridge.codec.envelope import (
    FLOAT_BYTES,
    STAMPS,
    Header,
    body_of,
    header_of,
    make_header,
    read_header,
)
from cachebridge.codec.values import SERIALIZERS

GOLDEN = (
    b"\xcb\x01\x02"  # the mark, and how many tags
    b"\x0aproduct:42\x00\x01\x02\x03\x04\x05\x06\x07"
    b"\x06\xc3\xa9\xe2\x82\xac!\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8"
)
STAMPED = {
    "product:42": bytes(range(8)),
    "é€!": bytes(range(0xFF, 0xF7, -1)),
}


def test_the_bytes_of_a_header():
    """What users have in Redis does not change."""
    assert make_header(STAMPED) == GOLDEN
    header = read_header(GOLDEN + b"value")
    assert header.stamps == STAMPED
    assert header.size == len(GOLDEN)
    assert body_of(GOLDEN + b"value") == b"value"
    assert header_of(GOLDEN + b"value") == GOLDEN


def test_no_tags_no_header():
    """A value without tags has its own bytes alone."""
    assert make_header({}) == b""
    assert read_header(b"value") is None
    assert body_of(b"value") == b"value"
    assert header_of(b"value") == b""


@pytest.mark.parametrize("size", range(len(GOLDEN)))
def test_what_was_cut_off_is_no_header(size):
    """A header that ends too early is damaged, wherever that is.

    But nine bytes are a float of MessagePack.
    """
    header = read_header(GOLDEN[:size])
    assert header == (Header({}, 0) if size == FLOAT_BYTES else None)


@pytest.mark.parametrize(
    "raw",
    [
        b"\xcb\x01\x00" + b"value",
        b"\xcb\x01\x21" + b"\x01t12345678" * 33,
        b"\xcb\x01\x01\x0012345678value",
        b"\xcb\x01\x01\x01\xff12345678value",
        b"\xcb\x01\x02" + b"\x01t12345678" * 2,
    ],
    ids=["no tags", "too many", "an empty tag", "no UTF-8", "a tag twice"],
)
def test_what_nobody_has_written_is_no_header(raw):
    """Bytes that no version writes are damaged; nothing raises."""
    assert read_header(raw) is None
    assert body_of(raw) == raw


def test_a_float_is_no_tagged_value():
    """The shortest header is longer: so MessagePack's floats have their own bytes."""
    assert len(make_header({"t": bytes(8)})) > FLOAT_BYTES
    for value in (5e-324, 2.2e-308, 2.0**-1007, -1.5):
        raw = SERIALIZERS["msgpack"].encode(value)
        assert len(raw) == FLOAT_BYTES
        assert body_of(raw) == raw
        assert header_of(raw) == b""


@pytest.mark.parametrize("name", SERIALIZERS)
def test_older_versions_find_nothing(name):
    """A serializer that is given the header as well takes it for a newer version's."""
    raw = GOLDEN + SERIALIZERS[name].encode([1])
    with pytest.raises(UndecodableError, match="newer version"):
        SERIALIZERS[name].decode(raw)
    assert not SERIALIZERS[name].is_damaged(raw)


def test_stamps_are_eight_bytes():
    """Everything else under the key of a stamp is no stamp, and cannot be set."""
    assert STAMPS.decode(b"12345678") == STAMPS.encode(b"12345678") == b"12345678"
    for raw in (b"", b"1234567", b"123456789"):
        assert STAMPS.is_damaged(raw)
        with pytest.raises(UndecodableError):
            STAMPS.decode(raw)
    for value in (b"1234567", "12345678", 12345678, bytearray(8)):
        with pytest.raises(TypeError, match="cachebridge-tag: are those of tags"):
            STAMPS.encode(value)
