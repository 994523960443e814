"""What ``cached`` and ``memoize`` share: the call of a decorated function."""

from __future__ import annotations

import inspect
import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeVar

from werkzeug.exceptions import HTTPException

from cachebridge.core.entry import MISSING
from cachebridge.core.keys import tags_of
from cachebridge.events import event
from cachebridge.flask_ext.decorators.callbacks import agrees, agrees_now, at_once
from cachebridge.waiting.io import TASKS, THREADS, call
from cachebridge.waiting.run import Steps, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Flask

    from cachebridge.flask_ext.backend.base import Backend
    from cachebridge.flask_ext.decorators.callbacks import Callbacks
    from cachebridge.flask_ext.http.exchange import PrivacyWatch
    from cachebridge.flask_ext.http.responses import Timeout
    from cachebridge.identity.arguments import Args, Kwargs
    from cachebridge.waiting.io import IO

D = TypeVar("D", bound="DecoratedFunction")
_PRIVATE: Final = (
    "%s: results that depend on the session or on a cookie are not kept. %s. This is "
    "said once."
)
log: Final = logging.getLogger("cachebridge.flask")


class DecoratorHost(Protocol):
    """The ``Cache`` of a decorated function; signals are sent with it."""

    app: Flask
    enable_signals: bool
    hash_method: Callable[..., Any]
    source_check: bool | None
    compatible_keys: bool

    @property
    def cache(self) -> Backend:
        """The backend of the current app."""

    def delete_memoized(self, f: Any, *args: Any, **kwargs: Any) -> None:
        """Delete what ``memoize`` keeps of one call, or of all calls."""

    async def adelete_memoized(self, f: Any, *args: Any, **kwargs: Any) -> None:
        """See ``delete_memoized``."""


class Watched(Protocol):
    """A run of the function, and whether it has read what is a user's own."""

    watch: PrivacyWatch


@dataclass(frozen=True, slots=True)
class Decoration:
    """The parameters that both decorators have, and the ``Cache`` that has them."""

    host: DecoratorHost
    timeout: Timeout | None
    callbacks: Callbacks
    hash_method: Callable[..., Any] | None
    cache_none: bool
    source_check: bool | None
    tags: Any = None
    """A list of tags, or a function of the arguments that returns one."""


class DecoratedFunction(ABC):
    """What a decorator knows about the function it decorates."""

    hit_signal: ClassVar[Any]
    miss_signal: ClassVar[Any]
    returns_responses: ClassVar[bool]
    """Whether a result that is an HTTPException is raised."""
    raised_errors: ClassVar[tuple[type[Exception], ...]] = ()
    """Errors of making a key that are raised in debug mode and without."""

    _admits: Callable[[tuple[Any, ...], dict[str, Any]], bool]
    """Whether the cache may answer a call with these arguments."""

    def __init__(self, function: Callable[..., Any], decoration: Decoration) -> None:
        self._decoration = decoration
        self.host = decoration.host
        self.function = function
        self.callbacks = decoration.callbacks
        self.cache_none = decoration.cache_none
        self._hash_method = decoration.hash_method
        self._is_async = inspect.iscoroutinefunction(function)
        self._shows_hits = False
        self._has_told = False
        self._told_errors: set[type[Exception]] = set()
        self._source: bytes | None = None
        self._wrapper: Any = None

    def wrapper(self) -> Any:
        """Return the function that takes the decorated one's place.

        Raises TypeError if a plain function would have to await a callable.
        """
        self.callbacks.require_plain(self.function)
        decorated = self._async_decorated() if self._is_async else self._decorated()
        wrapper: Any = update_wrapper(decorated, self.function)
        wrapper.uncached = self.function
        wrapper.cache_timeout = self._decoration.timeout
        wrapper.make_cache_key = self.make_key
        wrapper.__cachebridge__ = self
        self._wrapper = wrapper
        return wrapper

    # -- one call ----------------------------------------------------------------------

    def _decorated(self) -> Callable[..., Any]:
        """Return the wrapper of a plain function: a hit makes no coroutine."""
        host, function, callbacks = self.host, self.function, self.callbacks
        before, on_hit = callbacks.before, callbacks.on_hit
        admits, key_at_hand = self._admits, self._key_at_hand
        shows_hits, returns_responses = self._shows_hits, self.returns_responses
        cache_none = self.cache_none

        def decorated(*args: Any, **kwargs: Any) -> Any:
            if not admits(args, kwargs):
                return function(*args, **kwargs)
            if before and agrees_now(callbacks.bypasses(function, args, kwargs)):
                return function(*args, **kwargs)
            backend = host.cache
            try:
                forced = before and agrees_now(callbacks.forces(args, kwargs))
                key = key_at_hand(backend, args, kwargs)
                if key is None:
                    key = run(self._key(THREADS, backend, args, kwargs))
            except Exception as exc:  # noqa: BLE001 it is raised, or logged
                self._raise_or_log(exc)
                return function(*args, **kwargs)
            value = MISSING if forced else backend.local_get(key)
            is_miss = value is MISSING or (value is None and not cache_none)
            if is_miss or (
                on_hit and agrees_now(callbacks.refuses(value, args, kwargs))
            ):
                forced = forced or not is_miss
                find = self._find(THREADS, key, args, kwargs, forced=forced)
                with Steps(find) as steps:  # this very frame calls the function
                    while steps.go_on():
                        steps.answer = steps.function()
                return steps.result
            if shows_hits or host.enable_signals:
                self.announce(self.hit_signal, key, args, kwargs)
            if returns_responses and isinstance(value, HTTPException):
                raise value
            return value

        return decorated

    def _async_decorated(self) -> Callable[..., Any]:
        """Return the wrapper of a coroutine function: a hit does not suspend."""
        host, function, callbacks = self.host, self.function, self.callbacks
        before, on_hit = callbacks.before, callbacks.on_hit
        admits, key_at_hand = self._admits, self._key_at_hand
        shows_hits, returns_responses = self._shows_hits, self.returns_responses
        cache_none = self.cache_none

        async def decorated(*args: Any, **kwargs: Any) -> Any:
            if not admits(args, kwargs):
                return await function(*args, **kwargs)
            if before and await agrees(
                TASKS, callbacks.bypasses, function, args, kwargs
            ):
                return await function(*args, **kwargs)
            backend = host.cache
            try:
                forced = before and await agrees(TASKS, callbacks.forces, args, kwargs)
                key = key_at_hand(backend, args, kwargs)
                if key is None:
                    key = await self._key(TASKS, backend, args, kwargs)
            except Exception as exc:  # noqa: BLE001 it is raised, or logged
                self._raise_or_log(exc)
                return await function(*args, **kwargs)
            value = MISSING if forced else backend.local_get(key)
            if value is MISSING or (value is None and not cache_none):
                return await self._find(TASKS, key, args, kwargs, forced=forced)
            if on_hit and await agrees(TASKS, callbacks.refuses, value, args, kwargs):
                return await self._find(TASKS, key, args, kwargs, forced=True)
            if shows_hits or host.enable_signals:
                self.announce(self.hit_signal, key, args, kwargs)
            if returns_responses and isinstance(value, HTTPException):
                raise value
            return value

        return decorated

    def _raise_or_log(self, exc: Exception) -> None:
        """Log the error that prevented a key; raise it in debug mode."""
        if self.host.app.debug or isinstance(exc, self.raised_errors):
            raise exc
        self.log_error("no key for %s: it runs uncached. This is said once", exc)

    def log_error(self, text: str, exc: Exception) -> None:
        """Log an error once for each kind: any visitor may cause it.

        ``text`` has a place for the function.
        """
        told = event("flask.failed", error=type(exc).__name__)
        if type(exc) in self._told_errors:
            log.debug(text, self.function, exc_info=exc, extra=told)
            return
        self._told_errors.add(type(exc))
        log.error(text, self.function, exc_info=exc, extra=told)

    @abstractmethod
    async def _find(
        self, io: IO, key: str, args: Args, kwargs: Kwargs, *, forced: bool
    ) -> Any:
        """Carry out a call that L1 cannot answer."""

    @property
    def timeout(self) -> Timeout | None:
        """The timeout of entries; users may replace it on the wrapper."""
        if self._wrapper is None:
            return self._decoration.timeout
        timeout: Timeout | None = self._wrapper.cache_timeout
        return timeout

    def tags_for(self, args: Args, kwargs: Kwargs) -> tuple[str, ...]:
        """Return the tags of the result of a call."""
        tags = self._decoration.tags
        return tags_of(tags(*args, **kwargs) if callable(tags) else tags)

    async def keeps(self, io: IO, _run: Watched, result: Any) -> bool:
        """Return whether a result may be kept."""
        return bool(at_once(await call(io, self.callbacks.keeps, result)))

    def tell_privacy(self, ways_out: str) -> None:
        """Log, once for each function, that results depend on the user."""
        if not self._has_told:
            self._has_told = True
            told = event("flask.private")
            log.warning(_PRIVATE, self.function, ways_out, extra=told)

    @abstractmethod
    def announce(self, signal: Any, key: str, args: Args, kwargs: Kwargs) -> None:
        """Send a signal of a hit or a miss, if signals are on."""

    # -- keys --------------------------------------------------------------------------

    @abstractmethod
    def make_key(self, *args: Any, **kwargs: Any) -> Any:
        """Return the key of a call."""

    @abstractmethod
    def _key_at_hand(self, backend: Backend, args: Args, kwargs: Kwargs) -> str | None:
        """Return the key of a call; None if making it may have to wait."""

    @abstractmethod
    async def _key(self, io: IO, backend: Backend, args: Args, kwargs: Kwargs) -> str:
        """Return the key of a call."""

    def _checks_source(self) -> bool:
        own = self._decoration.source_check
        return bool(self.host.source_check if own is None else own)

    def _source_bytes(self) -> bytes:
        if self._source is None:
            self._source = inspect.getsource(self.function).encode()
        return self._source


def decorated_of(f: Any, kind: type[D]) -> D | None:
    """Return what a decorator knows of a function, also below other decorators."""
    for each in layers_of(f):
        known = getattr(each, "__cachebridge__", None)
        if isinstance(known, kind):
            return known
    return None


def layers_of(f: Any) -> Iterator[Any]:
    """Yield a function, then what it wraps, down to the undecorated function."""
    while f is not None:
        yield f
        f = getattr(f, "__wrapped__", None)
