"""What ``cached`` and ``memoize`` share: the call of a decorated function."""

from __future__ import annotations

import inspect
import logging
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeVar

from werkzeug.exceptions import HTTPException

from cachebridge.core.entry import MISSING
from cachebridge.core.loading import Loaded, unwrap_loaded
from cachebridge.errors import L2Error, UncacheableError
from cachebridge.flask_ext.decorators.callbacks import agrees, agrees_now, at_once
from cachebridge.flask_ext.http.exchange import PrivacyWatch
from cachebridge.flask_ext.http.responses import (
    CachedResponse,
    consume_generator,
    whole_seconds,
)
from cachebridge.waiting.io import TASKS, THREADS, OwnFunction, call
from cachebridge.waiting.run import Steps, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Flask

    from cachebridge.flask_ext.backend.base import Backend
    from cachebridge.flask_ext.decorators.callbacks import Callbacks
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


@dataclass(frozen=True, slots=True)
class Decoration:
    """The parameters that both decorators have, and the ``Cache`` that has them."""

    host: DecoratorHost
    timeout: Timeout | None
    callbacks: Callbacks
    hash_method: Callable[..., Any] | None
    cache_none: bool
    source_check: bool | None


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
        if type(exc) in self._told_errors:
            log.debug(text, self.function, exc_info=exc)
            return
        self._told_errors.add(type(exc))
        log.error(text, self.function, exc_info=exc)

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

    async def keeps(self, io: IO, _computation: Computation, result: Any) -> bool:
        """Return whether a result may be kept."""
        return bool(at_once(await call(io, self.callbacks.keeps, result)))

    def tell_privacy(self, ways_out: str) -> None:
        """Log, once for each function, that results depend on the user."""
        if not self._has_told:
            self._has_told = True
            log.warning(_PRIVATE, self.function, ways_out)

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


class Computation:
    """One call that L1 cannot answer: find a result, or run the function.

    The decorator decides which results are kept, and for how long; the engine decides
    which caller runs the function.
    """

    def __init__(
        self,
        decorated: DecoratedFunction,
        io: IO,
        key: str,
        args: Args,
        kwargs: Kwargs,
    ) -> None:
        self._decorated = decorated
        self._io = io
        self._key = key
        self._args = args
        self._kwargs = kwargs
        self.watch = PrivacyWatch()
        self.backend = decorated.host.cache
        self.has_run = False
        self.result: Any = MISSING
        """The function's result; MISSING until it is decided whether to keep it."""

    async def answer(self, *, forced: bool) -> Any:
        """Return the kept value, or run the function and keep its result.

        If several callers ask, one of them runs it.  ``forced`` runs it here, whatever
        is kept.  Raises UncacheableError if the result, which is in ``result`` then,
        cannot be serialized.
        """
        if forced:
            return await self._renew()
        load = OwnFunction(self._run_function)
        ttl_ms = self.backend.ttl_ms(whole_seconds(self._decorated.timeout))
        with self._unserializable_named():
            value = unwrap_loaded(
                await self.backend.calls.load_here(self._io, self._key, load, ttl_ms)
            )
        if not self.has_run and await self._is_unwanted(value):
            return await self._renew()
        return value

    async def read(self, *, forced: bool) -> Any:
        """Return the kept value, or run the function for this caller alone."""
        if not forced:
            value = self.backend.local_get(self._key)
            if value is MISSING:
                value = await self.backend.calls.get(self._io, self._key)
            if value is not MISSING and not await self._is_unwanted(value):
                return value
        return (await self._run_function()).value

    async def _renew(self) -> Any:
        """Run the function; its result replaces the kept value."""
        loaded = await self._run_function()
        if loaded.store:
            ttl_ms = loaded.ttl_ms
            if ttl_ms is ...:
                ttl_ms = self.backend.ttl_ms(whole_seconds(self._decorated.timeout))
            with self._unserializable_named():
                await self.backend.calls.set(self._io, self._key, loaded.value, ttl_ms)
        return loaded.value

    async def _run_function(self) -> Loaded:
        """Run it; return its result, whether to keep that, and for how long."""
        self.has_run = True
        self.result = MISSING
        decorated, args, kwargs = self._decorated, self._args, self._kwargs
        decorated.announce(decorated.miss_signal, self._key, args, kwargs)
        try:
            with self.watch:
                result = consume_generator(
                    await call(self._io, decorated.function, *args, **kwargs)
                )
        except HTTPException as exc:
            if not decorated.returns_responses:
                raise
            result = exc
        is_kept = (result is not None or decorated.cache_none) and (
            await decorated.keeps(self._io, self, result)
        )
        self.result = result
        if not is_kept:
            return Loaded(result, store=False)
        own = result.timeout if isinstance(result, CachedResponse) else None
        if not own or not decorated.returns_responses:
            return Loaded(result)
        return Loaded(result, self.backend.ttl_ms(own))

    async def _is_unwanted(self, value: Any) -> bool:
        """Return whether the function must run although a value was found."""
        if value is None and not self._decorated.cache_none:
            return True
        refuses = self._decorated.callbacks.refuses
        return await agrees(self._io, refuses, value, self._args, self._kwargs)

    @contextmanager
    def _unserializable_named(self) -> Iterator[None]:
        """Raise UncacheableError for an error if the function has succeeded."""
        try:
            yield
        except Exception as exc:
            if self.result is MISSING or isinstance(exc, (L2Error, UncacheableError)):
                raise
            kind = type(self.result)
            raise UncacheableError(
                f"a result of type {kind.__module__}.{kind.__qualname__} cannot be "
                f"serialized: {type(exc).__name__}: {exc}"
            ) from exc
