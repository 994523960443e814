"""Why a key is in this process's L1 or not: one sentence of a closed list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cachebridge.core.dropping.trail import (
    EVICTED,
    MESSAGE,
    OWN_WRITE,
    PROBED,
    REFUSED,
    TOGETHER,
)
from cachebridge.core.entry import ABSENT, EXPIRES, KIND, is_expired, size_bytes
from cachebridge.core.outage import NEVER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cachebridge.core.dropping.trail import Drop
    from cachebridge.engine.binding import Binding
    from cachebridge.engine.engine import Engine

CODES: Final = (
    "trusted",
    "untrusted",
    "expired",
    "off",
    "excluded",
    "too_large",
    "owed_delete",
    "message",
    "own_write",
    "evicted",
    "together",
    "stale",
    "refused",
    "flushed",
    "resting",
    "never",
)
"""All answers; ``docs/command-line.md`` explains each."""
_CAUSES: Final = {
    OWN_WRITE: ("own_write", "changed by this process, and not read since"),
    EVICTED: ("evicted", "evicted to make room for others"),
    TOGETHER: ("together", "dropped with others of its prefix or tag"),
    PROBED: ("stale", "dropped by a probe: it was older than L2 for too long"),
    REFUSED["conflict"]: ("refused", "two reads found different values, neither stays"),
    REFUSED["off"]: ("refused", "read while L1 was not trusted"),
    REFUSED["tags"]: ("refused", "read while one of its tags was invalidated"),
    REFUSED["token"]: ("refused", "read while the key was being changed"),
}


def why(  # noqa: PLR0911 a list of reasons
    engine: Engine, key: str, bindings: Iterable[Binding]
) -> tuple[str, str]:
    """Return one of ``CODES``, and the sentence; ``key`` is a full key."""
    rules, now = engine.rules, engine.clock()
    entry = engine.l1.look(key)
    if entry is not None:
        if is_expired(entry, now):
            ago = _ago(now - entry[EXPIRES])
            return "expired", f"in L1, but expired {ago}: the next read asks L2"
        kind = "a mark of absence" if entry[KIND] is ABSENT else "a value"
        left = f"{size_bytes(entry)} bytes, {entry[EXPIRES] - now:.1f} s left in L1"
        if rest := _resting(engine, now):
            return "untrusted", f"in L1 ({kind}, {left}), not trusted because {rest}"
        return "trusted", f"in L1 and trusted: {kind}, {left}"
    if not rules.enabled:
        return "off", "not in L1: it is switched off in the whole fleet (l1_off)"
    if excluded := _excluded(key, bindings):
        return "excluded", f"not in L1: {excluded}"
    pending = rules.outage.pending_deletes
    if pending is not None and pending.concern((key,)):
        return "owed_delete", "not in L1: its delete is still owed since an outage"
    return _absent(engine, key, now)


def _absent(engine: Engine, key: str, now: float) -> tuple[str, str]:
    """Explain why a key that L1 may hold is not there."""
    rules = engine.rules
    if hash(key) in engine.counters.oversized_lately.copy():
        most = engine.options.l1_max_entry_bytes
        return (
            "too_large",
            f"not in L1: its value is larger than L1_MAX_ENTRY_BYTES ({most})",
        )
    drop, flush = rules.trail.last_of(key), rules.trail.last_flush
    if drop is not None and (flush is None or drop.at >= flush[1]):
        code, told = _told(drop, engine)
        return code, f"not in L1: {told}, {_ago(now - drop.at)}"
    if rest := _resting(engine, now):
        return "resting", f"not in L1, which takes nothing because {rest}"
    if drop is not None and flush is not None:
        cause, at = flush
        told = f"emptied {_ago(now - at)} ({cause}), the key was not read since"
        return "flushed", f"not in L1: {told}"
    since = ""
    if flush is not None:
        since = f" since L1 was emptied {_ago(now - flush[1])} ({flush[0]})"
    return "never", f"not in L1: not read here{since}, as far as is remembered"


def _told(drop: Drop, engine: Engine) -> tuple[str, str]:
    if drop.cause != MESSAGE:
        return _CAUSES[drop.cause]
    if drop.origin == engine.rules.origin:
        return _CAUSES[OWN_WRITE]
    told = f"changed by write {drop.write_id} of process {drop.origin.hex()}"
    return "message", told


def _resting(engine: Engine, now: float) -> str:  # noqa: PLR0911 the same
    """Say why L1 answers nothing now; empty if it does."""
    rules = engine.rules
    if not rules.enabled:
        return "it is switched off in the whole fleet (l1_off)"
    if not rules.connected:
        problem = engine.receiver.problem
        return f"no messages arrive: {problem or 'the bus is not subscribed yet'}"
    if rules.trusted_until == NEVER:
        return "no heartbeat has come back yet, or a newer release is on the bus"
    if now >= rules.trusted_until:
        return (
            f"the last heartbeat came back too long ago ({engine.options.bus_trust} s)"
        )
    if rules.resting:
        return "many entries are being dropped at this moment"
    if rules.fences.up:
        return "an add() has won and its message has not come back yet"
    if rules.outage.is_active:
        return "L2 is away"
    return ""


def _excluded(key: str, bindings: Iterable[Binding]) -> str:
    """Say why no cache of the process that makes this key lets it into L1."""
    told = ""
    for binding in bindings:
        prefix = binding.own_prefix
        if prefix is None or not key.startswith(prefix):
            continue
        own = key[len(prefix) :]
        operations = binding.operations_for(own, key)
        if operations is binding.coherent or operations is binding.of_stamps:
            return ""
        begins = [each for each in binding.options.l1_exclude if own.startswith(each)]
        told = "keys over 65,535 bytes and counters stay out of L1"
        if begins:
            told = f"excluded by L1_EXCLUDE {begins[0]!r}"
    return told


def _ago(seconds: float) -> str:
    return f"{max(0.0, seconds):.1f} s ago"
