"""Records the calls that one request makes: which level answered, how long, for whom.

Methods are replaced on the cache objects that a recorded request uses, and put back at
its end.  So nothing is recorded, and nothing costs more, elsewhere.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asgiref
import debug_toolbar
import django
from django.core.cache import caches

import cachebridge
from cachebridge.core.entry import EXPIRES, MISSING, is_expired
from cachebridge.core.keys import shown_key
from cachebridge.django_backend import CacheBridge
from cachebridge.observing import HOOK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

    from cachebridge.observing import Observer

READS: Final = ("get", "get_or_set", "get_or_load", "get_many", "has_key")
WRITES: Final = (
    "set", "set_many", "add", "touch", "append", "incr", "decr", "delete",
    "delete_many", "clear", "invalidate_tags",
)  # fmt: skip
L1: Final = "L1"
L2: Final = "L2"
MISS: Final = "miss"
SHARED: Final = "shared"
"""Another caller of this process was loading the value, and this one waited."""
MOST_CALLS: Final = 500
"""Calls of one request that are listed; all are counted."""


def _folders(*modules: ModuleType) -> tuple[str, ...]:
    return tuple(f"{Path(str(each.__file__)).parent}/" for each in modules)


_SKIPPED: Final = _folders(cachebridge, asgiref, debug_toolbar)
_STANDARD: Final = (contextlib.__file__, functools.__file__)
_FRAMEWORK: Final = _folders(django)


@dataclass
class Call:
    """One call of a cache, and what it took."""

    alias: str
    name: str
    keys: list[str]
    caller: str
    levels: dict[str, int] = field(default_factory=dict)
    """How many of its keys each level answered; empty for what is no read."""
    left_s: float | None = None
    """Seconds for which L1 may still serve the value."""
    exchanges: int = 0
    """Round trips to the shared store."""
    waited_s: float = 0.0
    """For the load of another process."""
    loaded_s: float = 0.0
    """In the loader."""
    lasted_s: float = 0.0


@dataclass
class Recording:
    """The calls of one request."""

    calls: list[Call] = field(default_factory=list)
    left_out: int = 0
    patched: list[CacheBridge] = field(default_factory=list)

    def add(self, call: Call) -> None:
        """Keep a call that has begun."""
        if len(self.calls) < MOST_CALLS:
            self.calls.append(call)
        else:
            self.left_out += 1


_recording: ContextVar[Recording | None] = ContextVar("cachebridge_toolbar")
_call: ContextVar[Call | None] = ContextVar("cachebridge_toolbar_call", default=None)
_lock = threading.Lock()
_uses: dict[int, int] = {}
"""How many recordings use a cache object: tasks may share one."""
_replaced: dict[int, dict[str, tuple[Any, Any]]] = {}
"""Of each such object what it has now, and what it had: the toolbar patches as well."""


def current() -> Recording | None:
    """Return the recording of this request; None if it is not recorded."""
    return _recording.get(None)


def begin() -> Recording:
    """Record from now on what this thread or task does."""
    recording = Recording()
    _recording.set(recording)
    with _lock:
        _OBSERVER.uses += 1
        if _OBSERVER.uses == 1:
            _OBSERVER.before, HOOK.observer = HOOK.observer, _OBSERVER
    for cache in caches.all(initialized_only=True):
        patch(cache, recording)
    return recording


def end(recording: Recording) -> None:
    """Record nothing further, and put back all methods."""
    _recording.set(None)
    for cache in recording.patched:
        _unpatch(cache)
    recording.patched.clear()
    with _lock:
        _OBSERVER.uses -= 1
        if _OBSERVER.uses == 0 and HOOK.observer is _OBSERVER:
            HOOK.observer = _OBSERVER.before


# -- methods ---------------------------------------------------------------------------


def patch(cache: object, recording: Recording) -> None:
    """Let the calls of a cache object be recorded, if it is one of ours."""
    if not isinstance(cache, CacheBridge):
        return
    with _lock:
        recording.patched.append(cache)
        _uses[id(cache)] = _uses.get(id(cache), 0) + 1
        if _uses[id(cache)] > 1:
            return
        replaced = _replaced[id(cache)] = {}
        for name in _methods_of(cache):
            made = _recorded(cache, getattr(cache, name), name)
            replaced[name] = made, vars(cache).get(name)
            vars(cache)[name] = made


def _unpatch(cache: CacheBridge) -> None:
    with _lock:
        _uses[id(cache)] -= 1
        if _uses[id(cache)]:
            return
        del _uses[id(cache)]
        for name, (made, before) in _replaced.pop(id(cache)).items():
            if vars(cache).get(name) is not made:
                continue  # wrapped by another since: without a recording it passes on
            if before is None:
                del vars(cache)[name]
            else:
                vars(cache)[name] = before


def _methods_of(cache: CacheBridge) -> list[str]:
    names = [*READS, *WRITES]
    return [
        each for each in (*names, *(f"a{n}" for n in names)) if hasattr(cache, each)
    ]


def _recorded(
    cache: CacheBridge, method: Callable[..., Any], name: str
) -> Callable[..., Any]:
    plain = name[1:] if iscoroutinefunction(method) else name
    if iscoroutinefunction(method):

        @functools.wraps(method)
        async def acall(*args: Any, **kwargs: Any) -> Any:
            if current() is None or _call.get() is not None:
                return await method(*args, **kwargs)
            with _recording_of(cache, plain, name, args, kwargs) as ended:
                result = await method(*ended.args, **ended.kwargs)
                return ended.told(result)

        return acall

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        if current() is None or _call.get() is not None:
            return method(*args, **kwargs)
        with _recording_of(cache, plain, name, args, kwargs) as ended:
            return ended.told(method(*ended.args, **ended.kwargs))

    return call


class _Ended:
    """What a call was given, and what is told of its result."""

    def __init__(self, call: Call, held: set[str], args: Any, kwargs: Any) -> None:
        self.call = call
        self._held = held
        self.args = args
        self.kwargs = kwargs
        self.is_read = False
        self._default: Any = None

    def with_mark(self) -> None:
        """Let ``get`` return a mark for a miss, whatever its default is."""
        if len(self.args) > 1:
            self._default = self.args[1]
            self.args = (self.args[0], MISSING, *self.args[2:])
        else:
            self._default = self.kwargs.get("default")
            self.kwargs = {**self.kwargs, "default": MISSING}

    def told(self, result: Any) -> Any:
        """Note which level has answered; return what the caller gets."""
        call, held = self.call, self._held
        if call.name.endswith("get_many"):
            in_l1 = sum(each in held for each in call.keys)
            call.levels = {
                L1: in_l1,
                L2: max(0, len(result) - in_l1),
                MISS: max(0, len(call.keys) - max(len(result), in_l1)),
            }
        elif self.is_read:
            call.levels = {self._level(result): 1}
        call.levels = {name: count for name, count in call.levels.items() if count}
        return self._default if result is MISSING else result

    def _level(self, result: Any) -> str:
        call = self.call
        is_absent = result is False and call.name.endswith("has_key")
        if call.loaded_s or result is MISSING or is_absent:
            return MISS
        if call.exchanges:
            return L2
        return L1 if self._held else SHARED


@contextmanager
def _recording_of(
    cache: CacheBridge, plain: str, name: str, args: Any, kwargs: Any
) -> Iterator[_Ended]:
    keys = _keys_of(plain, args, kwargs)
    call = Call(_alias_of(cache), name, [shown_key(each) for each in keys], _caller())
    held = {}
    if plain in READS:
        held = _held_in_l1(cache, keys, kwargs.get("version"))
    if held and len(keys) == 1:
        (call.left_s,) = held.values()
    ended = _Ended(call, {shown_key(each) for each in held}, args, kwargs)
    ended.is_read = plain in READS
    if plain == "get":
        ended.with_mark()
    recording = current()
    if recording is not None:
        recording.add(call)
    token, began = _call.set(call), time.perf_counter()
    try:
        yield ended
    finally:
        call.lasted_s = time.perf_counter() - began
        _call.reset(token)


def _keys_of(plain: str, args: Any, kwargs: Any) -> list[Any]:
    for name in ("key", "keys", "data"):
        if name in kwargs:
            found = kwargs[name]
            break
    else:
        found = args[0] if args else []
    if plain == "invalidate_tags":
        return list(args)
    if plain.endswith("_many"):
        # What can be read once alone is the method's to read.
        return list(found) if isinstance(found, (list, tuple, set, dict)) else []
    return [] if plain == "clear" else [found]


def _held_in_l1(
    cache: CacheBridge, keys: Iterable[Any], version: Any
) -> dict[Any, float]:
    """Return which of the keys L1 may answer now, with the seconds it still may."""
    engine = cache._binding.engine  # noqa: SLF001 private to cachebridge
    now = engine.clock()
    if not engine.rules.is_on(now):
        return {}
    found = {}
    for key in keys:
        entry = engine.l1.look(str(cache.make_key(key, version)))
        if entry is not None and not is_expired(entry, now):
            found[key] = entry[EXPIRES] - now
    return found


def _alias_of(cache: CacheBridge) -> str:
    for alias in caches:
        if getattr(caches._connections, alias, None) is cache:  # type: ignore[attr-defined] # noqa: SLF001
            return alias
    return "?"


def _caller() -> str:
    """Return where the application calls from, or else the framework for it."""
    frame, fallback = sys._getframe(1), ""  # noqa: SLF001 as `inspect` does
    while frame.f_back is not None:
        frame = frame.f_back
        name = frame.f_code.co_filename
        if name.startswith(_SKIPPED) or name in _STANDARD:
            continue
        where = f"{'/'.join(Path(name).parts[-3:])}:{frame.f_lineno}"
        if not name.startswith(_FRAMEWORK):
            return f"{where} {frame.f_code.co_name}"
        fallback = fallback or where
    return fallback


# -- exchanges, loads and waits --------------------------------------------------------


class _Recorder:
    """The observer while a request is recorded; the one before it still hears all."""

    def __init__(self) -> None:
        self.before: Observer | None = None
        self.uses = 0

    @contextmanager
    def exchange(self, label: str, request: Any) -> Iterator[None]:
        """See ``Observer``."""
        recording, call = current(), _call.get()
        with ExitStack() as outer:
            if self.before is not None:
                outer.enter_context(self.before.exchange(label, request))
            if recording is None:
                yield
                return
            is_own = call is None
            if call is None:  # by a group, a counter, a lock
                call = Call("", "other", [], _caller(), {})
                recording.add(call)
            call.exchanges += 1
            began = time.perf_counter()
            try:
                yield
            finally:
                if is_own:
                    call.lasted_s = time.perf_counter() - began

    @contextmanager
    def load(self, key: str) -> Iterator[None]:
        """See ``Observer``; calls of the loader are calls of their own."""
        call, began = _call.get(), time.perf_counter()
        token = _call.set(None)
        with ExitStack() as outer:
            if self.before is not None:
                outer.enter_context(self.before.load(key))
            try:
                yield
            finally:
                _call.reset(token)
                if call is not None:
                    call.loaded_s += time.perf_counter() - began

    @contextmanager
    def lease_wait(self, key: str) -> Iterator[None]:
        """See ``Observer``."""
        call, began = _call.get(), time.perf_counter()
        with ExitStack() as outer:
            if self.before is not None:
                outer.enter_context(self.before.lease_wait(key))
            try:
                yield
            finally:
                if call is not None:
                    call.waited_s += time.perf_counter() - began


_OBSERVER: Final = _Recorder()
