"""Algorithms of several steps as plans: generators that yield steps and do no I/O.

A driver carries each step out by calling the operation of that name and sends back its
result, once synchronously and once asynchronously.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final, NamedTuple, TypeAlias

from cachebridge.core.entry import MISSING
from cachebridge.errors import MissingKeyError

SCAN_DONE: Final = 0


class Step(NamedTuple):
    """Call the operation ``name`` with ``args`` and send back what it returns."""

    name: str
    args: tuple[Any, ...] = ()


Plan: TypeAlias = Generator[Step, Any, Any]


class Loaded(NamedTuple):
    """What a loader may return instead of a bare value.

    ``ttl_ms`` goes before the caller's.  With ``store=False`` the value is for the
    caller who ran the loader alone; those who waited each run their own.
    """

    value: Any
    ttl_ms: int | None = None
    store: bool = True


def load_plan(key: str, ttl_ms: int | None) -> Plan:
    """Load a value that neither level has, and let an earlier writer win.

    ``add`` rather than ``set``: whoever wrote while the loader ran knows better.
    Returns the bytes of the value that counts.
    """
    raw = yield Step("read_raw", (key,))
    if raw is not None:
        return raw
    value, raw, own_ttl_ms = yield Step("load")
    ttl_ms = ttl_ms if own_ttl_ms is None else own_ttl_ms
    if ttl_ms == 0 or (yield Step("add_encoded", (key, value, raw, ttl_ms))):
        return raw
    winner = yield Step("read_raw", (key,))
    return raw if winner is None else winner


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
    """
    cursor = SCAN_DONE
    while True:
        cursor, keys = yield Step("scan", (pattern, cursor))
        if keys:
            yield Step("delete_many", (keys,))
        if cursor == SCAN_DONE:
            break
    yield Step("publish_prefix", (prefix,))
