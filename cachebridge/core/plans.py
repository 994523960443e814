"""Algorithms of several steps as plans: generators that yield steps and do no I/O.

A driver carries each step out by calling the operation of that name and sends back its
result, or throws in the L2Error that it raised; once synchronously and once
asynchronously.  Those that load values stand in ``core/loading.py``.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final, NamedTuple, TypeAlias

from cachebridge.core.entry import MISSING
from cachebridge.core.lease import RECORD_SUFFIX
from cachebridge.errors import MissingKeyError

SCAN_DONE: Final = 0


class Step(NamedTuple):
    """Call the operation ``name`` with ``args`` and send back what it returns."""

    name: str
    args: tuple[Any, ...] = ()


Plan: TypeAlias = Generator[Step, Any, Any]


def incr_plan(key: str, delta: Any, *, integer: bool) -> Plan:
    """Add ``delta`` to a value: by Redis if it can, else by compare and set.

    Floats and integers over 64 bits are read, added and replaced if nobody was faster.
    Returns the new value; raises MissingKeyError if there is none to add to.
    """
    if integer:
        reply = yield Step("incr_in_l2", (key, delta))
        if type(reply) is int:
            return reply
        if reply is None:
            raise MissingKeyError(f"Key {key!r} not found")
    while True:
        raw = yield Step("read_raw", (key,))
        value = MISSING if raw is None else (yield Step("decode", (key, raw)))
        if value is MISSING:
            raise MissingKeyError(f"Key {key!r} not found")
        value = value + delta
        if (yield Step("replace", (key, raw, value))):
            return value


def clear_plan(pattern: str, prefix: str) -> Plan:
    """Delete every key of L2 that matches ``pattern``, and ``prefix`` from every L1.

    Each batch goes with its message, so that a crash in the middle leaves nobody stale;
    the message at the end reaches what peers still hold although L2 has evicted it.
    Load records go too: their names only have a suffix behind the key's.
    """
    yield from _clear_matching(pattern)
    if not pattern.endswith("*"):
        yield from _clear_matching(pattern + RECORD_SUFFIX)
    yield Step("publish_prefix", (prefix,))


def _clear_matching(pattern: str) -> Plan:
    cursor = SCAN_DONE
    while True:
        cursor, keys = yield Step("scan", (pattern, cursor))
        names = dict.fromkeys([key.removesuffix(RECORD_SUFFIX) for key in keys])
        if names:
            yield Step("delete_many", (list(names),))
        if cursor == SCAN_DONE:
            return
