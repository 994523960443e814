"""What is asked of every adapter, and how its answers are put into words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cachebridge.errors import CounterUnavailableError, L2Error
from cachebridge.waiting.io import THREADS
from cachebridge.waiting.run import run
from tests.rig import eventually, pending_deletes_of, write_behind_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cachebridge.core.coherence import Coherence

HELD, CHANGED, FAR, NEW, LOADED = "held", "changed", "far", "new", "loaded"
DEFAULT: Final = "default"
COUNT: Final = 5


class Keys(NamedTuple):
    """The keys of one case, all its own."""

    held: str
    """In L1; L2 has another value by now, so that an answer tells where it is from."""
    far: str
    """In L2 alone."""
    none: str
    """Nowhere."""
    count: str
    """A number, in L2."""
    excluded: str
    """In L2; L1 may not hold it."""

    @classmethod
    def of(cls, case: int) -> Keys:
        """Name the keys of a case."""
        names = ("held", "far", "none", "count", "throttle_")
        return cls(*(f"{name}{case}" for name in names))


@dataclass(slots=True)
class Asked:
    """A cache in some state, and what one case needs to ask it and to tell of it."""

    cache: Any
    swept: Any
    """Another cache of the same engine, to be cleared."""
    switched: Any
    """One of another engine, whose L1 is to be switched off and on."""
    keys: Keys
    is_away: bool = False
    degrades: bool = True
    pending: Iterable[str] = ()
    """Keys whose deletes were ever pending."""

    def value(self, value: Any) -> str:
        """Say where a value is from."""
        held = "L1 entry" if self.is_away else "value"
        words = {HELD: held, CHANGED: "value", FAR: "value", NEW: "new value"}
        words |= {LOADED: "loader's value", DEFAULT: "default"}
        return words.get(value, repr(value)) if isinstance(value, str) else repr(value)

    def will_clear(self) -> bool:
        """Return whether the clear of a whole cache is pending."""
        return bool(pending_deletes_of(self.cache)._patterns)

    def with_pending(self, answer: Any, key: str) -> str:
        """Add whether the key's delete is pending, and whether L1 has a new value."""
        is_pending = any(name.endswith(key) for name in tuple(self.pending))
        text = f"{answer!r}, delete owed" if is_pending else repr(answer)
        if self.is_away and self.degrades and self.cache.get(key) == NEW:
            text += ", new value serves this process"
        return text


Ask = Callable[[Asked], Any]
Tell = Callable[[Asked, Any], str]


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table: a call, and its answer in words."""

    row: str
    method: str
    ask: Ask
    tell: Tell = lambda _asked, answer: repr(answer)
    trips: int = 1
    """How often it may wait for the server before it has its answer."""
    comes_last: bool = False
    """Whether others would notice."""


def words_of(case: Case, asked: Asked, answer: Any) -> str:
    """Put an answer, or the exception in its place, into words."""
    if isinstance(answer, CounterUnavailableError) and asked.degrades:
        return "`ValueError`"
    if isinstance(answer, L2Error):
        return "`L2Error`"
    if isinstance(answer, Exception):
        return f"`{type(answer).__name__}`"
    return case.tell(asked, answer)


def _value(asked: Asked, answer: Any) -> str:
    return asked.value(answer)


def found_in(asked: Asked, answer: dict[str, Any]) -> str:
    """Tell which of the keys that were read have a value, and from where."""
    names = asked.keys._asdict()
    parts = [
        f"{name}: {asked.value(answer[key])}"
        for name, key in names.items()
        if key in answer
    ]
    if not parts:
        return "{}"
    if len(parts) == 1 and "L1 entry" in parts[0]:
        return "the L1 entries among them"
    return "all that exist" if len(parts) == 3 else ", ".join(parts)


def _kept(asked: Asked, answer: Any, key: str) -> str:
    if not (asked.is_away and asked.degrades):
        return asked.value(answer)
    again = asked.cache.get_or_load(key, lambda: NEW)
    return asked.value(answer) + (", kept" if again == LOADED else "")


def _pending(name: str) -> Tell:
    return lambda asked, answer: asked.with_pending(answer, getattr(asked.keys, name))


def _pending_listed(asked: Asked, answer: list[str]) -> str:
    text = asked.with_pending(None, asked.keys.far).removeprefix("None")
    return ("all keys" if len(answer) == 2 else repr(answer)) + text


def _bypassing(asked: Asked) -> Any:
    with asked.cache.bypass_l1():
        return asked.cache.get(asked.keys.held, DEFAULT)


def _switching(asked: Asked) -> None:
    asked.switched.l1_off()
    asked.switched.l1_on()


class _Alone:
    """The rules as if no other engine were on the server, whatever is found out."""

    siblings = ()

    def __init__(self, rules: Coherence) -> None:
        self._rules = rules

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rules, name)


def _set_later(asked: Asked) -> Any:
    queue = write_behind_of(asked.cache)
    rules = queue._rules
    queue._rules = _Alone(rules)
    try:
        answer = asked.cache.set(asked.keys.held, NEW, wait=False)
    finally:
        queue._rules = rules
    run(queue.before(THREADS, [*queue.latest]))  # now: a fault may last for one call
    eventually(lambda: not queue)
    return answer


def _counter(asked: Asked) -> Any:
    return asked.cache.counter(asked.keys.none, floor=None)


def _add_and_flush(asked: Asked) -> Any:
    batched = asked.cache.batched_counter(asked.keys.none, batch_ms=3_600_000)
    batched.add()
    return batched.flush()


def _in(asked: Asked) -> bool:
    return asked.keys.held in asked.cache


def _load(_arg: str) -> str:
    return LOADED


def _load_many(args: list[str]) -> dict[str, str]:
    return dict.fromkeys(args, LOADED)


def _group(asked: Asked) -> Any:
    return asked.cache.group("outages", _load, load_many=_load_many)


def _expire(asked: Asked, timeout: int) -> Any:
    return asked.cache.expire(asked.keys.far, timeout)


COMMON: Final = (
    Case("`get`, in L1", "get", lambda a: a.cache.get(a.keys.held, DEFAULT), _value),
    Case("`get`, else", "get", lambda a: a.cache.get(a.keys.far, DEFAULT), _value),
    Case(
        "`get` of a session or throttle",
        "get",
        lambda a: a.cache.get(a.keys.excluded, DEFAULT),
        _value,
    ),
    Case(
        "`get_many`",
        "get_many",
        lambda a: a.cache.get_many(
            [a.keys.held, a.keys.far, a.keys.none, a.keys.count]
        ),
        found_in,
    ),
    Case(
        "`warm`",
        "warm",
        lambda a: a.cache.warm([a.keys.far]),
        lambda a, gained: "0" if a.is_away and not gained else "what L1 takes",
    ),
    Case("`has_key`, in L1", "has_key", lambda a: a.cache.has_key(a.keys.held)),
    Case("`in`, in L1", "__contains__", _in),
    Case("`has_key`, else", "has_key", lambda a: a.cache.has_key(a.keys.far)),
    Case(
        "`get` within `bypass_l1()`",
        "bypass_l1",
        _bypassing,
        _value,
    ),
    Case(
        "`set`",
        "set",
        lambda a: a.cache.set(a.keys.held, NEW),
        _pending("held"),
    ),
    Case("`set`, `wait=False`", "set", _set_later, _pending("held")),
    Case(
        "`set` of a session or throttle",
        "set",
        lambda a: a.cache.set(a.keys.excluded, NEW),
        _pending("excluded"),
    ),
    Case(
        "`set`, TTL over",
        "set",
        lambda a: a.cache.set(a.keys.far, NEW, 0),
        _pending("far"),
    ),
    Case(
        "`set_many`",
        "set_many",
        lambda a: a.cache.set_many({a.keys.far: NEW, a.keys.held: NEW}),
        _pending_listed,
    ),
    Case("`add`, absent", "add", lambda a: a.cache.add(a.keys.none, NEW)),
    Case("`touch`", "touch", lambda a: a.cache.touch(a.keys.far, 100)),
    Case(
        "`touch`, TTL over",
        "touch",
        lambda a: a.cache.touch(a.keys.far, 0),
        _pending("far"),
    ),
    Case("`incr`", "incr", lambda a: a.cache.incr(a.keys.count)),
    Case("`decr`", "decr", lambda a: a.cache.decr(a.keys.count)),
    Case("`append`", "append", lambda a: a.cache.append(a.keys.far, "!"), trips=2),
    Case(
        "`append`, absent",
        "append",
        lambda a: a.cache.append(a.keys.none, "!"),
        trips=2,
    ),
    Case("`counter.take`", "counter", lambda a: _counter(a).take()),
    Case("`counter.give`", "counter", lambda a: _counter(a).give()),
    Case("`counter.value`", "counter", lambda a: _counter(a).value()),
    Case("`counter.reset`", "counter", lambda a: _counter(a).reset(5)),
    Case("`batched_counter.add`, `flush`", "batched_counter", _add_and_flush),
    Case("`delete`", "delete", lambda a: a.cache.delete(a.keys.far), _pending("far")),
    Case(
        "`get_or_load`, in L1",
        "get_or_load",
        lambda a: a.cache.get_or_load(a.keys.held, lambda: LOADED),
        _value,
    ),
    Case(
        "`get_or_load`, absent",
        "get_or_load",
        lambda a: a.cache.get_or_load(a.keys.none, lambda: LOADED),
        lambda a, answer: _kept(a, answer, a.keys.none),
    ),
    Case(
        "`get_or_load`, in L2 alone",
        "get_or_load",
        lambda a: a.cache.get_or_load(a.keys.far, lambda: LOADED),
        lambda a, answer: _kept(a, answer, a.keys.far),
    ),
    Case(
        "`get_or_load` of a session or throttle",
        "get_or_load",
        lambda a: a.cache.get_or_load(a.keys.excluded, lambda: LOADED),
        lambda a, answer: _kept(a, answer, a.keys.excluded),
    ),
    Case(
        "`get` of a group, absent",
        "group",
        lambda a: _group(a).get(a.keys.none),
        _value,
    ),
    Case(
        "`get_many` of a group, absent",
        "group",
        lambda a: _group(a).get_many([a.keys.none]),
        lambda a, answer: a.value(answer.get(a.keys.none)),
        trips=2,
    ),
    Case(
        "`invalidate` of a group, absent",
        "group",
        lambda a: _group(a).invalidate(a.keys.none),
        lambda a, answer: a.with_pending(answer, repr(a.keys.none)),
    ),
    Case(
        "`refresh` of a group",
        "group",
        lambda a: _group(a).refresh(a.keys.none),
        _value,
        trips=3,
    ),
    Case(
        "`invalidate_tags`",
        "invalidate_tags",
        lambda a: a.cache.invalidate_tags(a.keys.none),
        lambda a, answer: a.with_pending(answer, a.keys.none),
    ),
    Case(
        "`stats`",
        "stats",
        lambda a: a.cache.stats(),
        lambda _a, answer: "works" if answer.l1_entries >= 0 else "?",
    ),
    Case(
        "`l1_off`, `l1_on`",
        "l1_off",
        _switching,
        lambda _a, _answer: "done",
        comes_last=True,
    ),
    Case(
        "`clear`",
        "clear",
        lambda a: a.swept.clear(),
        lambda a, answer: repr(answer) + (", clear owed" if a.will_clear() else ""),
        comes_last=True,
    ),
    Case(
        "`health().ok`",
        "health",
        lambda a: a.cache.health(),
        lambda _a, answer: repr(answer.ok),
        comes_last=True,
    ),
)

BY_PATTERN: Final = (
    Case(
        "`keys`",
        "keys",
        lambda a: a.cache.keys(f"*{a.keys.far}"),
        lambda a, answer: (
            "those that match" if answer == [a.keys.far] else repr(answer)
        ),
    ),
    Case(
        "`iter_keys`",
        "iter_keys",
        lambda a: list(set(a.cache.iter_keys(f"*{a.keys.far}"))),
        lambda a, answer: (
            "those that match" if answer == [a.keys.far] else "no more keys"
        ),
    ),
    Case(
        "`delete_pattern`",
        "delete_pattern",
        lambda a: a.cache.delete_pattern(f"{a.keys.far}*"),
        lambda a, answer: repr(answer) + (", delete owed" if a.will_clear() else ""),
        trips=3,
    ),
)
"""What Memcached cannot do."""

REDIS_API: Final = (
    Case(
        "`ttl`, `pttl`",
        "ttl",
        lambda a: a.cache.ttl(a.keys.far),
        lambda _a, answer: repr(answer) if answer == 0 else "what is left",
    ),
    Case("`expire`, `persist` and the like", "expire", lambda a: _expire(a, 300)),
    Case(
        "`expire`, TTL over",
        "expire",
        lambda a: _expire(a, 0),
        _pending("far"),
    ),
    Case("`set`, `nx=True`", "set", lambda a: a.cache.set(a.keys.none, NEW, nx=True)),
    Case(
        "`set`, `xx=True`",
        "set",
        lambda a: a.cache.set(a.keys.far, NEW, xx=True),
        _pending("far"),
    ),
    Case(
        "`incr`, `ignore_key_check=True`",
        "incr",
        lambda a: a.cache.incr(a.keys.count, ignore_key_check=True),
    ),
)
"""What django-redis's API has besides."""
