"""``Cache``: the extension, with the interface of Flask-Caching's."""

from __future__ import annotations

import hashlib
import inspect
import warnings
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from weakref import WeakSet

from flask import Flask, current_app, has_app_context

from cachebridge.errors import ConfigError
from cachebridge.flask_ext.acached import AsyncCachedFunction
from cachebridge.flask_ext.aextension import (
    AsyncMethods,
    require_function,
    with_owner,
)
from cachebridge.flask_ext.amemoize import AsyncMemoizedFunction
from cachebridge.flask_ext.backend import CacheBridgeBackend
from cachebridge.flask_ext.cached import CachedFunction
from cachebridge.flask_ext.callbacks import Callbacks, plain_key, require_plain
from cachebridge.flask_ext.config import (
    NOTHING,
    backend_settings,
    cache_type,
    flag,
    hash_method,
    merged,
)
from cachebridge.flask_ext.jinja import CACHE_ATTRIBUTE, CacheExtension
from cachebridge.flask_ext.memoize import forget_version
from cachebridge.flask_ext.null_backend import NullBackend
from cachebridge.flask_ext.serializers import configured_serializer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from contextlib import AbstractContextManager
    from datetime import timedelta

    from cachelib.serializers import BaseSerializer

    from cachebridge.flask_ext.functions import Cached, Memoized
    from cachebridge.flask_ext.responses import Timeout
    from cachebridge.stats import Health, Stats

P = ParamSpec("P")
R = TypeVar("R")


class Cache(AsyncMethods):
    """A two-level cache for Flask; ``init_app`` may be called for several apps.

    The configuration is that of the app, then that of ``Cache``, then that of
    ``init_app``; the last one that has a key decides.  What is wrong with it raises
    ConfigError, a ValueError, naming the key and the valid ones.

    The methods that begin with ``a`` are the same for tasks: ``docs/flask.md``.
    """

    app: Flask
    """The app that was initialized last."""

    def __init__(
        self,
        app: Flask | None = None,
        with_jinja2_ext: bool = True,
        config: dict[str, Any] | None = None,
    ) -> None:
        _require_dict(config)
        self.with_jinja2_ext = with_jinja2_ext
        self.config = config
        self.source_check: bool | None = None
        self.hash_method: Callable[..., Any] = hashlib.sha256
        self.serializer: BaseSerializer | None = None
        self.enable_signals = False
        self._only_backend: CacheBridgeBackend | NullBackend | None = None
        """The backend as long as there is one app: no need to ask which it is."""
        self._apps: WeakSet[Flask] = WeakSet()
        if app is not None:
            self.init_app(app, config)

    def init_app(self, app: Flask, config: dict[str, Any] | None = None) -> None:
        """Give an app its cache."""
        _require_dict(config)
        whole = merged(app.config, self.config, config)
        kind = cache_type(whole)
        source_check = flag(whole, "CACHE_SOURCE_CHECK")
        enable_signals = flag(whole, "CACHE_ENABLE_SIGNALS")
        hashing = hash_method(whole)
        serializer = configured_serializer(whole["CACHE_SERIALIZER"])
        backend: CacheBridgeBackend | NullBackend
        settings = backend_settings(
            whole, kind=kind, arguments=tuple(whole["CACHE_ARGS"] or ())
        )
        if kind == NOTHING:
            _warn_of_nothing(whole)
            backend = NullBackend(settings.default_timeout)
        else:
            backend = CacheBridgeBackend.from_settings(settings)
        self.source_check = source_check
        self.enable_signals = enable_signals
        self.hash_method = hashing
        self.serializer = serializer
        if self.with_jinja2_ext:
            setattr(app.jinja_env, CACHE_ATTRIBUTE, self)
            app.jinja_env.add_extension(CacheExtension)
        self._apps.add(app)
        self._only_backend = backend if len(self._apps) == 1 else None
        app.extensions.setdefault("cache", {})[self] = backend
        self.app = app

    @property
    def cache(self) -> CacheBridgeBackend | NullBackend:
        """The backend of the present app; of the last one outside of any app."""
        if self._only_backend is not None:
            return self._only_backend
        if not hasattr(self, "app"):
            raise RuntimeError("the cache has no app yet: call init_app(app) first")
        app = current_app if has_app_context() else self.app
        backend: CacheBridgeBackend | NullBackend = app.extensions["cache"][self]
        return backend

    # -- the backend's methods ---------------------------------------------------------

    def get(self, key: str) -> Any:
        """Return the value, None if there is none."""
        return self.cache.get(key)

    def get_many(self, *keys: str) -> list[Any]:
        """Return a value or None for each key, in one round trip."""
        return self.cache.get_many(*keys)

    def get_dict(self, *keys: str) -> dict[str, Any]:
        """Return a value or None by key, in one round trip."""
        return self.cache.get_dict(*keys)

    def has(self, key: str) -> bool:
        """Tell whether the key exists."""
        return self.cache.has(key)

    def set(
        self, key: str, value: Any, timeout: int | timedelta | None = None
    ) -> bool | None:
        """Set the value; True if that was done."""
        return self.cache.set(key, value, timeout)

    def add(self, key: str, value: Any, timeout: int | timedelta | None = None) -> bool:
        """Set the value and its timeout in one step, unless the key exists."""
        return self.cache.add(key, value, timeout)

    def set_many(
        self, mapping: dict[str, Any], timeout: int | timedelta | None = None
    ) -> list[Any]:
        """Set all values in one round trip; return the keys of those that were."""
        return self.cache.set_many(mapping, timeout)

    def delete(self, key: str) -> bool:
        """Delete the key; tell whether it existed."""
        return self.cache.delete(key)

    def delete_many(self, *keys: str) -> list[Any]:
        """Delete all keys in one round trip; return those that are gone: all."""
        return self.cache.delete_many(*keys)

    def unlink(self, *keys: str) -> Any:
        """Delete all keys; return how many existed."""
        backend = self.cache
        if isinstance(backend, NullBackend):
            return backend.delete_many(*keys)
        return backend.unlink(*keys)

    def clear(self) -> bool:
        """Delete this cache's keys; True if that was done."""
        return self.cache.clear()

    def get_or_load(
        self,
        key: str,
        loader: Callable[[], Any],
        timeout: int | timedelta | None = None,
        *,
        default: Any = None,
        lease_ttl: float | None = None,
        stale_ttl: float | None = None,
        stale_if_error: float | None = None,
        negative_ttl: float | None = None,
        early_refresh: float | None = None,
    ) -> Any:
        """Return the value, or what the loader returns, which runs once for all.

        A loader that returns ``cachebridge.ABSENT`` says "no such thing": callers get
        ``default``.  The others override the cache's options for this call.
        """
        return self.cache.get_or_load(
            key,
            loader,
            timeout,
            default=default,
            lease_ttl=lease_ttl,
            stale_ttl=stale_ttl,
            stale_if_error=stale_if_error,
            negative_ttl=negative_ttl,
            early_refresh=early_refresh,
        )

    # -- decorators --------------------------------------------------------------------

    def cached(  # noqa: PLR0917 Flask-Caching's parameters
        self,
        timeout: Timeout | None = None,
        key_prefix: str | Callable[[], str] = "view/%s",
        unless: Callable[..., Any] | None = None,
        forced_update: Callable[..., Any] | None = None,
        is_stale: Callable[..., Any] | None = None,
        response_filter: Callable[..., Any] | None = None,
        query_string: bool = False,
        hash_method: Callable[..., Any] | None = None,
        cache_none: bool = False,
        make_cache_key: Callable[..., Any] | None = None,
        source_check: bool | None = None,
        response_hit_indication: bool | None = False,
        store_unshareable: bool = False,
    ) -> Callable[[Callable[P, R]], Cached[P, R]]:
        """Keep the result of a view, or of a function with a ``key_prefix`` of its own.

        ``%s`` in ``key_prefix`` stands for the path of the request.  Responses that
        RFC 9111 keeps from shared caches are not kept, unless ``store_unshareable``
        says so; see ``docs/flask.md`` for this and all other parameters.
        """

        def decorate(function: Callable[P, R]) -> Cached[P, R]:
            require_plain(
                function,
                unless=unless,
                forced_update=forced_update,
                is_stale=is_stale,
                response_filter=response_filter,
                make_cache_key=make_cache_key,
                key_prefix=key_prefix,
            )
            is_async = inspect.iscoroutinefunction(function)
            kind = AsyncCachedFunction if is_async else CachedFunction
            decorated: Cached[P, R] = kind(
                self,
                function,
                timeout=timeout,
                key_prefix=key_prefix,
                callbacks=Callbacks(unless, forced_update, is_stale, response_filter),
                query_string=query_string,
                hash_method=hash_method,
                cache_none=cache_none,
                make_cache_key=make_cache_key,
                source_check=source_check,
                response_hit_indication=bool(response_hit_indication),
                store_unshareable=store_unshareable,
            ).wrapper()
            return decorated

        return decorate

    def memoize(  # noqa: PLR0917 Flask-Caching's parameters
        self,
        timeout: Timeout | None = None,
        make_name: Callable[..., str] | None = None,
        unless: Callable[..., bool] | None = None,
        forced_update: Callable[..., bool] | None = None,
        is_stale: Callable[..., bool] | None = None,
        response_filter: Callable[..., Any] | None = None,
        hash_method: Callable[..., Any] | None = None,
        cache_none: bool = False,
        source_check: bool | None = None,
        args_to_ignore: Collection[str] | None = None,
    ) -> Callable[[Callable[P, R]], Memoized[P, R]]:
        """Keep the results of a function by its arguments; see ``docs/flask.md``."""

        def decorate(function: Callable[P, R]) -> Memoized[P, R]:
            require_plain(
                function,
                unless=unless,
                forced_update=forced_update,
                is_stale=is_stale,
                response_filter=response_filter,
                make_name=make_name,
            )
            decorated: Memoized[P, R] = AsyncMemoizedFunction(
                self,
                function,
                timeout=timeout,
                make_name=make_name,
                callbacks=Callbacks(unless, forced_update, is_stale, response_filter),
                hash_method=hash_method,
                cache_none=cache_none,
                source_check=source_check,
                args_to_ignore=tuple(args_to_ignore or ()),
            ).wrapper()
            return decorated

        return decorate

    def delete_cached(
        self, f: Any, path: str | None = None, query_args: Any = None, **kwargs: Any
    ) -> bool:
        """Delete what ``cached`` keeps of a view; tell whether there was anything.

        Without ``path``, ``kwargs`` are the view's arguments.
        """
        key = f.make_cache_key(path=path, query_args=query_args, **kwargs)
        return self.delete(plain_key(key))

    def delete_memoized(self, f: Any, *args: Any, **kwargs: Any) -> None:
        """Delete what ``memoize`` keeps of one call; without arguments, of all calls.

        Of a bound method: of its object.
        """
        require_function(f)
        if args or kwargs:
            args = with_owner(f, args)
            self.delete(f.make_cache_key(f.uncached, *args, **kwargs))
        else:
            forget_version(self.cache, f)

    def delete_memoized_verhash(self, f: Any, *_args: Any) -> None:
        """Delete what ``memoize`` keeps of all calls."""
        require_function(f)
        forget_version(self.cache, f)

    # -- the state of the cache --------------------------------------------------------

    def stats(self) -> Stats:
        """Return a snapshot of the counters of this process."""
        return self._two_levels().stats()

    def health(self) -> Health:
        """Ask the shared store now and report the state of both levels."""
        return self._two_levels().health()

    def bypass_l1(self) -> AbstractContextManager[None]:
        """Let reads of this thread or task go to Redis while the context is open."""
        return self._two_levels().bypass_l1()

    def l1_off(self) -> None:
        """Switch L1 off in every process on this server, now and after restarts."""
        self._two_levels().l1_off()

    def l1_on(self) -> None:
        """Undo ``l1_off``."""
        self._two_levels().l1_on()

    def _two_levels(self) -> CacheBridgeBackend:
        backend = self.cache
        if isinstance(backend, NullBackend):
            raise ConfigError("CACHE_TYPE is 'NullCache': there are no levels.")
        return backend


def _require_dict(config: object) -> None:
    if config is not None and not isinstance(config, dict):
        raise ConfigError("`config` must be an instance of dict or None")


def _warn_of_nothing(config: dict[str, Any]) -> None:
    if not flag(config, "CACHE_NO_NULL_WARNING"):
        warnings.warn(
            "CACHE_TYPE is NullCache: nothing is cached. CACHE_NO_NULL_WARNING "
            "silences this.",
            stacklevel=3,
        )
    if config["CACHE_SERIALIZER"] is not None:
        warnings.warn(
            "CACHE_SERIALIZER has no effect with CACHE_TYPE NullCache.", stacklevel=3
        )
