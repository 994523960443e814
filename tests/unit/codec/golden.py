"""The golden bytes of wire version 1: what every later version must still read.

``python -m tests.unit.codec.golden`` writes files that are missing, and never touches
one that is there: bytes that users have in Redis do not change.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

from cachebridge.codec.messages import Message, MessageType, encode_message
from cachebridge.codec.seals import Encryption, Signature
from cachebridge.codec.values import SERIALIZERS

FOLDER = Path(__file__).parent / "golden"
INDEX = FOLDER / "index.json"
ORIGIN = bytes(range(0xF0, 0xF8))
SENT_US = 1_767_225_600_000_000

ANY = {
    "none": None,
    "true": True,
    "false": False,
    "zero": 0,
    "negative": -7,
    "int64-most": 2**63 - 1,
    "int64-least": -(2**63),
    "int-larger": 2**63,
    "int-huge": -(10**40),
    "float": 1.5,
    "float-small": 1e-300,
    "text": "text",
    "text-empty": "",
    "text-wide": "é€\U0001f600\0\r\n",
    "text-lone": "\ud800",
    "text-digits": "123",
    "list": [1, "a", None, 2.5],
    "dict": {"a": 1, "b": [True], "c": {"d": "e"}},
    "list-empty": [],
    "dict-empty": {},
}
PICKLE_ONLY = {
    "bytes": b"\0\xff bytes",
    "bytearray": bytearray(b"changeable"),
    "tuple": (1, ("a", b"b")),
    "set": {1},
    "frozenset": frozenset({"a"}),
    "complex": 1 + 2j,
    "date": date(2026, 1, 2),
    "datetime": datetime(2026, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001 naive on purpose
    "datetime-utc": datetime(2026, 1, 2, tzinfo=UTC),
    "timedelta": timedelta(days=1, microseconds=2),
    "decimal": Decimal("1.10"),
    "uuid": UUID(int=0x1234567890),
    "dict-of-types": {1: "a", None: 2.5, (1, 2): b"x"},
}
NOT_IN_MSGPACK = ("int-huge", "text-lone")
MSGPACK_ONLY = {
    "bytes": b"\0\xff bytes",
    "dict-of-types": {1: "a", None: 2.5, "b": b"x", 0.5: [1.5]},
}
VALUES = {
    "pickle": {**ANY, **PICKLE_ONLY},
    "json": ANY,
    "msgpack": {
        **{case: value for case, value in ANY.items() if case not in NOT_IN_MSGPACK},
        **MSGPACK_ONLY,
    },
}

ROWS = {
    "rows": [
        {"id": number, "name": f"Blue shirt {number}", "price": 19.5 * number}
        for number in range(20)
    ],
    "none": None,
}
COMPRESSED = ("zlib", "gzip", "lzma", "zstd", "lz4")
CLASSES = {
    "zlib": "ZlibCompressor",
    "gzip": "GzipCompressor",
    "lzma": "LzmaCompressor",
    "zstd": "ZStdCompressor",
    "lz4": "Lz4Compressor",
}
"""Compressors of django-redis.  Their bytes depend on versions of libraries: they must
be read for ever, and need not be written so."""

SEALED_KEY = ":1:\u00e9 key"
SECRETS = (b"golden secret number one, 32 bytes", b"golden secret number two, 32 bytes")

MESSAGES = {
    "keys-one": Message(MessageType.KEYS, ORIGIN, 1, SENT_US, (":1:key",)),
    "keys-none": Message(MessageType.KEYS, ORIGIN, 2, SENT_US),
    "keys-odd": Message(
        MessageType.KEYS, ORIGIN, 2**64 - 1, 0, ("", " ", "é€", "\ud800", "a\0b")
    ),
    "keys-longest": Message(MessageType.KEYS, ORIGIN, 3, SENT_US, ("x" * 0xFFFF,)),
    "clear": Message(MessageType.CLEAR, ORIGIN, 0, SENT_US),
    "prefix": Message(MessageType.PREFIX, ORIGIN, 0, SENT_US, ("app:",)),
    "heartbeat": Message(MessageType.HEARTBEAT, ORIGIN, 4, SENT_US),
    "switch-on": Message(MessageType.SWITCH, ORIGIN, 0, SENT_US, on=True),
    "switch-off": Message(MessageType.SWITCH, ORIGIN, 0, SENT_US, on=False),
}


def files() -> dict[str, bytes]:
    """Return the bytes that the code of today makes, by file name."""
    made = {
        f"{name}-{case}.bin": SERIALIZERS[name].encode(value)
        for name, cases in VALUES.items()
        for case, value in cases.items()
    }
    made |= {
        f"message-{case}.bin": encode_message(message)
        for case, message in MESSAGES.items()
    }
    made |= {
        f"signed-{name}.bin": Signature(SECRETS, name).close(SEALED_KEY, content)
        for name, content in CONTENTS.items()
    }
    return made


CONTENTS = {name: each.encode(ROWS) for name, each in SERIALIZERS.items()}


def foreign_names() -> list[str]:
    """Return the names of files that others write, or chance: they are read only."""
    names = [f"django-redis-{name}-{each}.bin" for name in VALUES for each in CLASSES]
    return names + [f"encrypted-{name}.bin" for name in VALUES]


def foreign_file(name: str) -> bytes:
    """Return new bytes for such a file."""
    from importlib import import_module

    kind, *words = name.removesuffix(".bin").rsplit("-", 2)
    if kind == "django-redis":
        serializer, compressor = words
        module = import_module(f"django_redis.compressors.{compressor}")
        with_options = getattr(module, CLASSES[compressor])
        return with_options({}).compress(CONTENTS[serializer])
    serializer = words[-1]
    return Encryption(SECRETS, serializer).close(SEALED_KEY, CONTENTS[serializer])


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, raw in files().items():
        if not (FOLDER / name).exists():
            (FOLDER / name).write_bytes(raw)
    for name in foreign_names():
        if not (FOLDER / name).exists():
            (FOLDER / name).write_bytes(foreign_file(name))
    names = sorted(path.name for path in FOLDER.glob("*.bin"))
    INDEX.write_text(json.dumps({"version": 1, "files": names}, indent=1) + "\n")


if __name__ == "__main__":
    main()
