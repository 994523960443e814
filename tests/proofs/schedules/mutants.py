"""Mutants: each switches one rule off, as a small patch of the class that holds it.

For every mutant some scenario must show what goes wrong; otherwise either the rule or
the explorer is not needed.  Where a rule is one of two that back each other up, the
table has both alone, which must pass, and both together, which must not.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from cachebridge.core.coherence import NEVER, Coherence
from cachebridge.core.fence import NO_TOKEN, Fences
from cachebridge.core.fill import Fill
from cachebridge.core.write import Write
from cachebridge.engine.counting import NO_WRITER
from cachebridge.engine.messages.incoming import Receiver
from cachebridge.engine.messages.outgoing import OutgoingMessages
from cachebridge.engine.removals import Removals
from tests.proofs.schedules.doubles import Store
from tests.proofs.schedules.invariants import ALL, AT_REST, SEEN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cachebridge.core.entry import Entry
    from cachebridge.core.fence import KeyActivity

_fill_store = Fill.store
_write_exit = Write.__exit__
_on_break = Coherence.on_break
_on_heartbeat = Receiver.on_heartbeat
_on_keys = Coherence.on_keys

Patch = tuple[type, str, Callable[..., Any]]


# -- fills -----------------------------------------------------------------------------


def _store_by_fresh_token(self: Fill, key: str, *args: Any) -> None:
    """Take the token when the value is there, not before it is asked for."""
    activity, token = self._joined[key]
    if token != NO_TOKEN:
        self._joined[key] = (activity, activity.generation)
        self._epoch = self._rules.epoch
    _fill_store(self, key, *args)


def _store_over_all(self: Fill, key: str, entry: Entry, *args: Any) -> None:
    """Let the last fill win."""
    activity, token = self._joined[key]
    if self._rules.token_holds(activity, self._epoch, token):
        self._rules.l1.pop(key)
    _fill_store(self, key, entry, *args)


def _token_despite_writes(_self: Coherence, activity: KeyActivity) -> int:
    return activity.generation


def _ignore_straggler(*_args: object) -> None:
    pass


def _store_without_bump(self: Coherence, key: str, entry: Entry) -> None:
    """Evict without closing the fills of what had to leave."""
    self.l1.put(key, entry)


def _expire_from_reply(self: Fill, key: str, entry: Entry, *args: Any) -> None:
    """Count the lifetime from the reply, not from the request."""
    late = self._rules.clock() - self.sent_at
    _fill_store(self, key, (entry[0] + late, *entry[1:]), *args)


# -- writes ----------------------------------------------------------------------------


def _begin_without_drop(
    _self: Coherence,
    _keys: Sequence[str],
    activities: Sequence[KeyActivity],
    own: frozenset[int],
) -> list[tuple[KeyActivity, int]]:
    joined = []
    for activity in activities:
        token = NO_TOKEN if activity.writes else activity.generation
        activity.writes |= own
        joined.append((activity, token))
    return joined


def _begin_with_bump_only(
    self: Coherence,
    keys: Sequence[str],
    activities: Sequence[KeyActivity],
    own: frozenset[int],
) -> list[tuple[KeyActivity, int]]:
    for activity in activities:
        activity.generation += 1
    return _begin_without_drop(self, keys, activities, own)


def _end_without_bump(_self: Coherence, _joined: object) -> None:
    pass


def _end_despite_error(self: Write, *_exc: object) -> None:
    _write_exit(self, None, None, None)


def _end_by_fresh_token(self: Write, *exc: object) -> None:
    """Store what was written whatever happened meanwhile."""
    self._joined = [(activity, activity.generation) for activity, _ in self._joined]
    self._epoch = self._rules.epoch
    _write_exit(self, *exc)


# -- messages, trust, server -----------------------------------------------------------


def _count_silently(*_args: object) -> None:
    pass


def _keep_own_counts(
    self: Coherence, origin: bytes, write_id: int, keys: Sequence[str]
) -> None:
    if origin != NO_WRITER:
        _on_keys(self, origin, write_id, keys)


def _own_by_origin(*_args: object) -> list[str]:
    return []


def _subscribed_without_flush(self: Coherence) -> None:
    self.epoch += 1
    self.connected = True


def _flush_without_epoch(self: Coherence, _cause: str) -> None:
    while self.l1.discard_some(1):
        pass


def _break_without_epoch(self: Coherence) -> None:
    epoch = self.epoch
    _on_break(self)
    self.epoch = epoch


def _break_ignored(_self: Coherence) -> None:
    pass


def _trust_from_receipt(self: Receiver, _sent_at: float, *, l1_on: bool) -> None:
    _on_heartbeat(self, self._rules.clock(), l1_on=l1_on)


def _always_on(self: Coherence, _now: float) -> bool:
    return self.trusted_until != NEVER


def _no_fence(*_args: object, **_kwargs: object) -> None:
    pass


def _fence_ends_with_any_echo(self: Fences, number: int) -> bool:
    self.awaited.discard(number)
    had_any = bool(self.up)
    self.up.clear()
    return had_any


def _fence_ends_with_any_heartbeat(self: Fences, _sent_at: float) -> None:
    self.up.clear()


async def _store_then_publish(
    self: Store,
    items: Sequence[tuple[str, bytes]],
    ttl_ms: int | None,
    message: bytes | None,
) -> None:
    asking = self._world.running
    asking.ask_server("store", items, ttl_ms, None)
    asking.ask_server("publish", message)


async def _publish_then_store(
    self: Store,
    items: Sequence[tuple[str, bytes]],
    ttl_ms: int | None,
    message: bytes | None,
) -> None:
    asking = self._world.running
    asking.ask_server("publish", message)
    asking.ask_server("store", items, ttl_ms, None)


async def _touch_silently(
    self: Store, key: str, ttl_ms: int | None, _message: bytes
) -> bool:
    return self._world.running.ask_server("touch", key, ttl_ms, None)


async def _delete_silently(
    self: Removals, keys: Sequence[str], _began: float | None
) -> int:
    """Leave it to the last message of a delete by pattern to tell of all keys."""
    with self.open_write(keys) as write, write:
        return await self.l2.delete(keys, None)


def _no_drop(_self: Coherence, _prefix: str) -> None:
    pass


async def _delete_past_rules(
    self: Removals, keys: Sequence[str], _began: float | None
) -> int:
    """Delete and tell, but leave what this process's own reads do alone."""
    with self.open_write(keys) as write, write:
        message = self.message(write)
    return await self.l2.delete(keys, message)


@dataclass(frozen=True)
class Mutant:
    """A change of the rules, and where it shows."""

    name: str
    patches: tuple[Patch, ...]
    scenarios: tuple[str, ...]
    """Where it shows: in each of them."""
    watch: frozenset[str] = SEEN
    """What is looked at: at most what a caller can see."""

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Have the rules changed for a while."""
        with ExitStack() as patched:
            for owner, name, change in self.patches:
                patched.enter_context(patch.object(owner, name, change, create=True))
            yield


FILLS_DURING_WRITES = (Coherence, "fill_token", _token_despite_writes)
NO_END_BUMP = (Coherence, "end_write", _end_without_bump)
NO_BREAK_EPOCH = (Coherence, "on_break", _break_without_epoch)
NO_FLUSH_EPOCH = (Coherence, "flush", _flush_without_epoch)
LOCAL_WRITES = ("local", "mixed", "ghost")
"""Scenarios in which reads and writes of one process overlap."""

CAUGHT = (
    Mutant("no fill token", ((Fill, "store", _store_by_fresh_token),), ("fill",)),
    Mutant("last fill overwrites", ((Fill, "store", _store_over_all),), ("fill",)),
    Mutant(
        "no straggler rule",
        ((Coherence, "close_straggler", _ignore_straggler),),
        ("fill", "two"),
    ),
    Mutant(
        "eviction closes no fills",
        ((Coherence, "store", _store_without_bump),),
        ("evict",),
    ),
    Mutant("fills during own writes", (FILLS_DURING_WRITES,), ("two",)),
    Mutant(
        "lifetime counts from the reply",
        ((Fill, "store", _expire_from_reply),),
        ("expire",),
    ),
    Mutant("no write token", ((Write, "__exit__", _end_by_fresh_token),), ("two",)),
    Mutant(
        "no begin-drop", ((Coherence, "begin_write", _begin_without_drop),), ("local",)
    ),
    Mutant(
        "begin bumps but keeps the entry",
        ((Coherence, "begin_write", _begin_with_bump_only),),
        ("two",),
    ),
    Mutant(
        "failed write keeps its value",
        ((Write, "__exit__", _end_despite_error),),
        ("ghost", "cancel"),
        AT_REST,
    ),
    Mutant(
        "echo ignored by origin",
        ((Coherence, "_not_of_own", _own_by_origin),),
        ("ghost", "ghost2"),
        AT_REST,
    ),
    Mutant(
        "SET, then PUBLISH",
        ((Store, "store", _store_then_publish),),
        ("crash",),
        AT_REST,
    ),
    Mutant(
        "PUBLISH, then SET", ((Store, "store", _publish_then_store),), ("two",), AT_REST
    ),
    Mutant("touch publishes nothing", ((Store, "touch", _touch_silently),), ("touch",)),
    Mutant(
        "no flush on the acknowledgement",
        ((Coherence, "on_subscribed", _subscribed_without_flush),),
        ("disc", "disc2"),
        AT_REST,
    ),
    Mutant("tokens survive the acknowledgement", (NO_FLUSH_EPOCH,), ("disc3",)),
    Mutant(
        "tokens survive break and acknowledgement",
        (NO_BREAK_EPOCH, NO_FLUSH_EPOCH),
        ("disc", "disc2"),
        AT_REST,
    ),
    Mutant("break ignored", ((Coherence, "on_break", _break_ignored),), ("disc",)),
    Mutant(
        "trust counts from receipt",
        ((Receiver, "on_heartbeat", _trust_from_receipt),),
        ("hb",),
    ),
    Mutant(
        "a counter publishes nothing",
        ((OutgoingMessages, "of_count", _count_silently),),
        ("count", "count-disc"),
        AT_REST,
    ),
    Mutant(
        "a change leaves what L1 knew of a counter",
        ((Coherence, "on_keys", _keep_own_counts),),
        ("count2",),
    ),
    Mutant(
        "a delete by pattern is told at its end alone",
        ((Removals, "delete_found", _delete_silently),),
        ("pattern-crash",),
        AT_REST,
    ),
    Mutant(
        "a delete by pattern drops nothing here",
        (
            (Removals, "delete_found", _delete_past_rules),
            (Coherence, "on_prefix", _no_drop),
        ),
        ("pattern",),
    ),
    Mutant("no fence", ((Coherence, "raise_fence", _no_fence),), ("lock",)),
    Mutant(
        "fence ends with any echo",
        ((Fences, "end", _fence_ends_with_any_echo),),
        ("lock2",),
    ),
    Mutant(
        "fence ends with any heartbeat",
        ((Fences, "end_before", _fence_ends_with_any_heartbeat),),
        ("lock-beat",),
    ),
    Mutant("trust never ends", ((Coherence, "is_on", _always_on),), ("hb",)),
)

NOTHING_TO_SEE = (
    Mutant("no end-bump", (NO_END_BUMP,), LOCAL_WRITES, ALL),
    Mutant(
        "fills during own writes, seen at rest",
        (FILLS_DURING_WRITES,),
        LOCAL_WRITES,
        AT_REST,
    ),
    Mutant("tokens survive the break", (NO_BREAK_EPOCH,), ("disc", "disc3"), ALL),
)
"""Rules that another one backs up: alone they can go, with the other they cannot."""

END_BUMP = Mutant(
    "fills during own writes and no end-bump",
    (FILLS_DURING_WRITES, NO_END_BUMP),
    LOCAL_WRITES,
    AT_REST,
)
