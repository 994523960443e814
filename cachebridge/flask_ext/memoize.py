"""``memoize``: results by the arguments of the call.

A key is a digest of the arguments and the version of the function, for methods also
that of the object.  Versions are keys themselves; a new version puts all entries of
the old one out of use.  They live in L1 like everything else.
"""

from __future__ import annotations

import base64
import inspect
import logging
import math
import uuid
from functools import partial, update_wrapper
from typing import TYPE_CHECKING, Any, Final, Self

from cachebridge.core.entry import MISSING
from cachebridge.errors import L2Error, UncacheableError
from cachebridge.flask_ext.arguments import CallShape
from cachebridge.flask_ext.lookup import Run, find, renew
from cachebridge.flask_ext.naming import (
    CLASS_NEEDED,
    function_namespace,
    namespace_of,
    namespace_of_owner,
)
from cachebridge.flask_ext.responses import whole_seconds
from cachebridge.flask_ext.signals import cache_memoize_hit, cache_memoize_miss

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from cachebridge.flask_ext.backend import CacheBridgeBackend
    from cachebridge.flask_ext.callbacks import Callbacks
    from cachebridge.flask_ext.extension import Cache
    from cachebridge.flask_ext.null_backend import NullBackend
    from cachebridge.flask_ext.responses import Timeout

    Backend = CacheBridgeBackend | NullBackend

log = logging.getLogger("cachebridge.flask")

VERSION_MARK: Final = "_memver"
_VERSION_CHARS: Final = 6
_DIGEST_CHARS: Final = 16
SLACK: Final = 64
"""A version outlives its latest entry by this part of the timeout, at least a second:
so seldom is its own timeout renewed, which drops the version from every L1."""


def new_version() -> str:
    """Return a version that no one had before."""
    return base64.b64encode(uuid.uuid4().bytes)[:_VERSION_CHARS].decode()


def forget_version(backend: Backend, function: Callable[..., Any]) -> None:
    """Put all entries of a function, or of a bound method's object, out of use.

    By deleting the version: the next call makes a new one.
    """
    backend.delete(_version_key_of(function))


async def aforget_version(backend: Backend, function: Callable[..., Any]) -> None:
    """See ``forget_version``."""
    await backend.adelete(_version_key_of(function))


def _version_key_of(function: Callable[..., Any]) -> str:
    memoized: MemoizedFunction | None = getattr(function, "__cachebridge__", None)
    whole, of_owner = function_namespace(function)
    if memoized is not None and memoized.ignores_owner:
        of_owner = None
    return (of_owner or whole) + VERSION_MARK


class MemoizedFunction:
    """What ``memoize`` knows about the function it decorates."""

    def __init__(
        self,
        cache: Cache,
        function: Callable[..., Any],
        *,
        timeout: Timeout | None,
        make_name: Callable[..., str] | None,
        callbacks: Callbacks,
        hash_method: Callable[..., Any] | None,
        cache_none: bool,
        source_check: bool | None,
        args_to_ignore: Collection[str],
    ) -> None:
        self._cache = cache
        self._function = function
        self._timeout = timeout
        self._make_name = make_name if callable(make_name) else None
        self._callbacks = callbacks
        self._hash_method = hash_method
        self._cache_none = cache_none
        self._source_check = source_check
        self._args_to_ignore = args_to_ignore
        self._source: bytes | None = None
        self._shape = CallShape(function, args_to_ignore)
        self._namespace = namespace_of(function)
        self._version_key = self._namespace + VERSION_MARK
        self._has_owner = self._shape.owner == "self" and not self.ignores_owner

    @property
    def ignores_owner(self) -> bool:
        """Whether a method's entries are those of its class, not of one object."""
        return "self" in self._args_to_ignore

    def wrapper(self) -> Any:
        """Return the function that takes the decorated one's place."""
        wrapper: Any = update_wrapper(self._decorated(), self._function)
        wrapper.uncached = self._function
        wrapper.cache_timeout = self._timeout
        wrapper.make_cache_key = self.make_key
        wrapper.delete_memoized = partial(self._cache.delete_memoized, wrapper)
        wrapper.adelete_memoized = partial(self._cache.adelete_memoized, wrapper)
        wrapper.__cachebridge__ = self
        self._wrapper = wrapper
        return wrapper

    # -- one call ------------------------------------------------------------------

    def _decorated(self) -> Callable[..., Any]:
        cache, key_of = self._cache, self._key
        asks = self._callbacks.before or self._callbacks.on_hit

        def decorated(*args: Any, **kwargs: Any) -> Any:
            if asks or not self._shape.admits(args, kwargs):
                return self._call(args, kwargs)
            backend = cache.cache
            try:
                key = key_of(backend, args, kwargs)
            except Exception as exc:  # noqa: BLE001 it is raised, or logged
                return self._run_without_key(exc, args, kwargs)
            value = backend.probe(key)
            if value is MISSING or cache.enable_signals or value is None:
                return self._find(backend, key, args, kwargs)
            return value

        return decorated

    def _run_function(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._function(*args, **kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry a call out in full; an unsound one is the function's to refuse."""
        sound = self._shape.admits(args, kwargs)
        if not sound or self._callbacks.bypasses(self._function, args, kwargs):
            return self._run_function(args, kwargs)
        backend = self._cache.cache
        try:
            forced = self._callbacks.forces(args, kwargs)
            key = self._key(backend, args, kwargs)
        except Exception as exc:  # noqa: BLE001 it is raised, or logged
            return self._run_without_key(exc, args, kwargs)
        if forced:
            run = self._new_run(key, args, kwargs)
            return self._done(backend, renew(backend, key, run), args)
        return self._find(backend, key, args, kwargs)

    def _run_without_key(
        self, exc: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run the function if what failed is a callable that the application gave."""
        self._raise_or_log(exc)
        return self._run_function(args, kwargs)

    def _raise_or_log(self, exc: Exception) -> None:
        if self._cache.app.debug or isinstance(exc, (UncacheableError, L2Error)):
            raise exc
        log.error("no key for %s: it runs uncached", self._function, exc_info=exc)

    def _find(
        self, backend: Backend, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        run = self._new_run(key, args, kwargs)
        value = find(backend, key, run)
        if not run.has_run and self._is_unwanted(value, args, kwargs):
            value = renew(backend, key, run)
        if run.has_run:
            return self._done(backend, value, args)
        self._tell(cache_memoize_hit, key, args, kwargs)
        return value

    def _new_run(self, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
        function = partial(self._run_function, args, kwargs)
        return self._run_of(function, self._callbacks.keeps, key, args, kwargs)

    def _run_of(
        self,
        function: Callable[[], Any],
        keeps: Callable[[Any], Any],
        key: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Run:
        return Run(
            function=function,
            keeps=keeps,
            timeout=self._wrapper.cache_timeout,
            cache_none=self._cache_none,
            before=partial(self._tell, cache_memoize_miss, key, args, kwargs),
        )

    def _is_unwanted(self, value: Any, args: tuple[Any, ...], kwargs: Any) -> bool:
        if value is None and not self._cache_none:
            return True
        return self._callbacks.on_hit and self._callbacks.refuses(value, args, kwargs)

    def _done(self, backend: Backend, value: Any, args: tuple[Any, ...]) -> Any:
        """Let the versions live as long as the entry that has just been made."""
        timeout = self._version_timeout(backend)
        if timeout > 0:
            for key in self._version_keys(args):
                backend.keep_alive(key, timeout, timeout / (SLACK + 1))
        return value

    def _tell(
        self, signal: Any, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        cache = self._cache
        if cache.enable_signals:
            signal.send(
                cache=cache, cache_key=key, f=self._function, args=args, kwargs=kwargs
            )

    # -- keys ------------------------------------------------------------------------

    def make_key(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
        """Return the key of a call; ``f`` is the undecorated function."""
        if inspect.iscoroutinefunction(self._make_name):
            raise TypeError("make_name is a coroutine function: await the key")
        return self._of(f)._key(self._cache.cache, args, kwargs)  # noqa: SLF001 its own

    def _of(self, f: Callable[..., Any]) -> Self:
        """Return what is known about a function that is decorated the same way."""
        if f is self._function:
            return self
        return type(self)(
            self._cache,
            f,
            timeout=self._timeout,
            make_name=self._make_name,
            callbacks=self._callbacks,
            hash_method=self._hash_method,
            cache_none=self._cache_none,
            source_check=self._source_check,
            args_to_ignore=self._args_to_ignore,
        )

    def _key(
        self, backend: Backend, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> str:
        version = self._version_at_hand(backend, args)
        if version is MISSING:
            version = self._versions(backend, args)
        name = self._namespace
        if self._make_name is not None:
            name = self._make_name(name)
        return self._key_of(name, version, args, kwargs)

    def _version_at_hand(self, backend: Backend, args: tuple[Any, ...]) -> Any:
        if self._shape.owner:
            self._require_owner(args)
        return MISSING if self._has_owner else backend.probe(self._version_key)

    def _key_of(
        self, name: str, version: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> str:
        text = f"{name}{self._shape.text(args, kwargs)}"
        return f"{self._digest(text)}{version}"

    def _require_owner(self, args: tuple[Any, ...]) -> None:
        if self._shape.owner == "cls" and not (args and inspect.isclass(args[0])):
            raise ValueError(CLASS_NEEDED)

    def _digest(self, text: str) -> str:
        method = self._hash_method or self._cache.hash_method
        digest = method(text.encode())
        if self._checks_source():
            if self._source is None:
                self._source = inspect.getsource(self._function).encode()
            digest.update(self._source)
        return base64.b64encode(digest.digest())[:_DIGEST_CHARS].decode()

    def _checks_source(self) -> bool:
        own = self._source_check
        return bool(self._cache.source_check if own is None else own)

    # -- versions ----------------------------------------------------------------------

    def _version_keys(self, args: tuple[Any, ...]) -> list[str]:
        if not (self._has_owner and args):
            return [self._version_key]
        of_owner = namespace_of_owner(self._function, args[0])
        return [self._version_key, of_owner + VERSION_MARK]

    def _versions(self, backend: Backend, args: tuple[Any, ...]) -> str:
        """Return the versions, made if there are none; all processes agree on them."""
        keys = self._version_keys(args)
        found: list[Any] = [backend.probe(key) for key in keys]
        if MISSING in found:
            found = backend.get_many(*keys)
        for position, version in enumerate(found):
            if type(version) is not str:
                found[position] = self._new_version(backend, keys[position])
        return "".join(found)

    def _new_version(self, backend: Backend, key: str) -> str:
        """Make a version, or take that of whoever was faster."""
        timeout = self._version_timeout(backend)
        version = new_version()
        kept = backend.load_here(key, lambda: version, timeout)
        if kept == version and timeout > 0:
            backend.keep_alive(key, timeout, timeout / (SLACK + 1), is_new=True)
        return str(kept)

    def _version_timeout(self, backend: Backend) -> int:
        """Return the timeout of a version, in whole seconds as cachelib has them."""
        own = whole_seconds(self._wrapper_timeout())
        seconds = backend.default_timeout if own is None else own
        return math.ceil(seconds * (SLACK + 1) / SLACK)

    def _wrapper_timeout(self) -> Timeout | None:
        wrapper = getattr(self, "_wrapper", None)
        timeout: Timeout | None = self._timeout
        return timeout if wrapper is None else wrapper.cache_timeout
