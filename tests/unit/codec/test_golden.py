"""Wire version 1 is read and written byte for byte, by every Python and version."""

from __future__ import annotations

import json

import pytest

from cachebridge.codec.messages import VERSION, decode_message, encode_message
from cachebridge.codec.values import SERIALIZERS
from tests.unit.codec.golden import FOLDER, INDEX, MESSAGES, VALUES, files

CASES = [(name, case) for name, cases in VALUES.items() for case in cases]


def golden(name):
    return (FOLDER / name).read_bytes()


def test_index_is_complete():
    """No file without an entry, no entry without a file, no case without either."""
    index = json.loads(INDEX.read_text())
    assert index["version"] == VERSION == 1
    there = sorted(path.name for path in FOLDER.glob("*.bin"))
    assert index["files"] == there == sorted(files())


@pytest.mark.parametrize(("name", "case"), CASES)
def test_value_is_read(name, case):
    """What was written once comes back equal, with its types."""
    value = VALUES[name][case]
    back = SERIALIZERS[name].decode(golden(f"{name}-{case}.bin"))
    assert type(back) is type(value)
    assert back == value
    assert repr(back) == repr(value)


@pytest.mark.parametrize(("name", "case"), CASES)
def test_value_is_written(name, case):
    """Today's code writes the same bytes: two versions in one fleet agree."""
    raw = SERIALIZERS[name].encode(VALUES[name][case])
    assert raw == golden(f"{name}-{case}.bin")


@pytest.mark.parametrize("case", MESSAGES)
def test_message(case):
    """Every type of message, both ways."""
    frame = golden(f"message-{case}.bin")
    assert decode_message(frame) == MESSAGES[case]
    assert encode_message(MESSAGES[case]) == frame


@pytest.mark.parametrize("name", VALUES)
def test_every_serializer_has_golden_bytes(name):
    """A serializer that is added gets its files; none is named twice."""
    assert set(VALUES) == set(SERIALIZERS)
    assert SERIALIZERS[name].name == name
