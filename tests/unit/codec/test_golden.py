"""Wire version 1 is read and written byte for byte, by every Python and version."""

from __future__ import annotations

import json

import pytest

from cachebridge.codec.compression import compressor_of
from cachebridge.codec.messages import VERSION, decode_message, encode_message
from cachebridge.codec.seals import Encryption, Signature
from cachebridge.codec.values import SERIALIZERS
from tests.unit.codec.golden import (
    CLASSES,
    CONTENTS,
    FOLDER,
    INDEX,
    MESSAGES,
    ROWS,
    SEALED_KEY,
    SECRETS,
    VALUES,
    files,
    foreign_names,
)

CASES = [(name, case) for name, cases in VALUES.items() for case in cases]


def golden(name):
    return (FOLDER / name).read_bytes()


def test_index_is_complete():
    """No file without an entry, no entry without a file, no case without either."""
    index = json.loads(INDEX.read_text())
    assert index["version"] == VERSION == 1
    there = sorted(path.name for path in FOLDER.glob("*.bin"))
    assert index["files"] == there == sorted([*files(), *foreign_names()])


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


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("compressor", CLASSES)
def test_what_django_redis_has_compressed(name, compressor):
    """Each of its compressors with each of its serializers."""
    raw = golden(f"django-redis-{name}-{compressor}.bin")
    assert compressor_of(raw).name == compressor
    assert SERIALIZERS[name].decode(raw) == ROWS


@pytest.mark.parametrize("name", VALUES)
def test_signed(name):
    """Signatures are the same in every version, and any of the secrets will do."""
    raw, content = golden(f"signed-{name}.bin"), CONTENTS[name]
    assert Signature(SECRETS, name).close(SEALED_KEY, content) == raw
    assert Signature(SECRETS[::-1], name).open(SEALED_KEY, raw) == content
    assert SERIALIZERS[name].decode(raw) == ROWS  # by a reader without keys


@pytest.mark.parametrize("name", VALUES)
def test_encrypted(name):
    """What was encrypted once is read with the same secrets."""
    raw = golden(f"encrypted-{name}.bin")
    assert Encryption(SECRETS[::-1], name).open(SEALED_KEY, raw) == CONTENTS[name]


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
