"""``Cache``: the extension, with the interface of Flask-Caching's."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from weakref import WeakSet

from flask import Flask, current_app, has_app_context, request_started

from cachebridge.errors import ConfigError
from cachebridge.flask_ext.backend.backend import CacheBridgeBackend
from cachebridge.flask_ext.backend.base import CacheMethods
from cachebridge.flask_ext.backend.null import NullBackend
from cachebridge.flask_ext.decorators.base import Decoration
from cachebridge.flask_ext.decorators.cached import (
    DEFAULT_PREFIX,
    CachedFunction,
    cached_of,
)
from cachebridge.flask_ext.decorators.callbacks import Callbacks, plain_key
from cachebridge.flask_ext.decorators.memoize import (
    MemoizedFunction,
    version_key_of,
    with_owner,
)
from cachebridge.flask_ext.decorators.parameters import (
    check_callables,
    check_flags,
    check_key_prefix,
    check_names,
    check_tags,
    check_timeout,
)
from cachebridge.flask_ext.http.exchange import watch_headers
from cachebridge.flask_ext.jinja import add_tag
from cachebridge.flask_ext.purging import PurgeMethods
from cachebridge.flask_ext.settings.backend_settings import backend_settings
from cachebridge.flask_ext.settings.config import (
    NOTHING,
    cache_type,
    configured_serializer,
    flag,
    hash_method,
    merged,
    require_dict,
    warn_of_nothing,
)
from cachebridge.waiting.io import TASKS, call

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from cachelib.serializers import BaseSerializer

    from cachebridge.core.keys import Tags
    from cachebridge.engine.binding import Binding
    from cachebridge.flask_ext.backend.base import Backend
    from cachebridge.flask_ext.decorators.types import Cached, Memoized
    from cachebridge.flask_ext.http.responses import Timeout

P = ParamSpec("P")
R = TypeVar("R")


class Cache(CacheMethods, PurgeMethods):
    """A two-level cache for Flask; ``init_app`` may be called for several apps.

    The configuration of ``Cache`` overrides that of the app, and that of ``init_app``
    overrides both, key by key.  An unusable key or value raises ConfigError, a
    ValueError, naming the key and the valid ones.

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
        require_dict(config)
        self.with_jinja2_ext = with_jinja2_ext
        self.config = config
        self.source_check: bool | None = None
        self.hash_method: Callable[..., Any] = hashlib.sha256
        self.serializer: BaseSerializer | None = None
        self.enable_signals = False
        self.compatible_keys = False
        self._only_backend: Backend | None = None
        """The backend while there is one app, so that none has to be looked up."""
        self._apps: WeakSet[Flask] = WeakSet()
        if app is not None:
            self.init_app(app, config)

    def init_app(self, app: Flask, config: dict[str, Any] | None = None) -> None:
        """Give an app its cache."""
        require_dict(config)
        whole = merged(app.config, self.config, config)
        kind = cache_type(whole)
        source_check = flag(whole, "CACHE_SOURCE_CHECK")
        enable_signals = flag(whole, "CACHE_ENABLE_SIGNALS")
        compatible_keys = flag(whole, "CACHE_COMPATIBLE_KEYS")
        hashing = hash_method(whole)
        serializer = configured_serializer(whole["CACHE_SERIALIZER"])
        backend: Backend
        settings = backend_settings(
            whole, kind=kind, arguments=tuple(whole["CACHE_ARGS"] or ())
        )
        if kind == NOTHING:
            warn_of_nothing(whole)
            backend = NullBackend(settings.default_timeout)
        else:
            backend = CacheBridgeBackend.from_settings(settings)
        self.source_check = source_check
        self.enable_signals = enable_signals
        self.compatible_keys = compatible_keys
        self.hash_method = hashing
        self.serializer = serializer
        if self.with_jinja2_ext:
            add_tag(app, self)
        request_started.connect(watch_headers, app)
        self._apps.add(app)
        self._only_backend = backend if len(self._apps) == 1 else None
        app.extensions.setdefault("cache", {})[self] = backend
        self.app = app

    @property
    def cache(self) -> Backend:
        """The backend of the current app; outside of any app, of the last one."""
        if self._only_backend is not None:
            return self._only_backend
        if not hasattr(self, "app"):
            raise RuntimeError("the cache has no app yet: call init_app(app) first")
        app = current_app if has_app_context() else self.app
        backend: Backend = app.extensions["cache"][self]
        return backend

    _backend = cache

    # -- the decorators: each takes plain and coroutine functions ----------------------

    def cached(  # noqa: PLR0917 Flask-Caching's parameters
        self,
        timeout: Timeout | None = None,
        key_prefix: str | Callable[[], str] = DEFAULT_PREFIX,
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
        *,
        tags: Tags | Callable[..., Tags] = None,
        purgeable: bool = False,
    ) -> Callable[[Callable[P, R]], Cached[P, R]]:
        """Keep the result of a view, or of a function with a ``key_prefix`` of its own.

        ``%s`` in ``key_prefix`` stands for the path of the request.  Responses that
        RFC 9111 keeps from shared caches are not kept, unless ``store_unshareable``
        says so; see ``docs/flask.md`` for this and all other parameters.  Raises
        TypeError or ValueError for a parameter that is unusable.
        """
        check_timeout("cached", timeout)
        check_tags("cached", tags)
        check_key_prefix(key_prefix)
        check_callables(
            "cached",
            unless=unless,
            forced_update=forced_update,
            is_stale=is_stale,
            response_filter=response_filter,
            make_cache_key=make_cache_key,
            hash_method=hash_method,
        )
        check_flags(
            "cached",
            query_string=query_string,
            cache_none=cache_none,
            source_check=source_check,
            response_hit_indication=response_hit_indication,
            store_unshareable=store_unshareable,
            purgeable=purgeable,
        )
        callbacks = Callbacks(unless, forced_update, is_stale, response_filter)
        decoration = Decoration(
            *(self, timeout, callbacks, hash_method, cache_none, source_check),
            tags=tags,
        )

        def decorate(function: Callable[P, R]) -> Cached[P, R]:
            decorated: Cached[P, R] = CachedFunction(
                function,
                decoration,
                key_prefix=key_prefix,
                query_string=query_string,
                make_cache_key=make_cache_key,
                shows_hits=bool(response_hit_indication),
                store_unshareable=store_unshareable,
                purgeable=purgeable,
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
        *,
        store_unshareable: bool = False,
        tags: Tags | Callable[..., Tags] = None,
    ) -> Callable[[Callable[P, R]], Memoized[P, R]]:
        """Keep the results of a function by its arguments; see ``docs/flask.md``.

        Raises TypeError for a parameter that is unusable.
        """
        check_timeout("memoize", timeout)
        check_tags("memoize", tags)
        check_callables(
            "memoize",
            make_name=make_name,
            unless=unless,
            forced_update=forced_update,
            is_stale=is_stale,
            response_filter=response_filter,
            hash_method=hash_method,
        )
        check_flags(
            "memoize",
            cache_none=cache_none,
            source_check=source_check,
            store_unshareable=store_unshareable,
        )
        check_names(args_to_ignore)
        callbacks = Callbacks(unless, forced_update, is_stale, response_filter)
        decoration = Decoration(
            *(self, timeout, callbacks, hash_method, cache_none, source_check),
            tags=tags,
        )

        def decorate(function: Callable[P, R]) -> Memoized[P, R]:
            decorated: Memoized[P, R] = MemoizedFunction(
                function,
                decoration,
                make_name=make_name,
                args_to_ignore=tuple(args_to_ignore or ()),
                store_unshareable=store_unshareable,
            ).wrapper()
            return decorated

        return decorate

    # -- deleting what the decorators keep ---------------------------------------------

    def delete_cached(
        self, f: Any, path: str | None = None, query_args: Any = None, **kwargs: Any
    ) -> bool:
        """Delete what ``cached`` keeps of a view; return whether there was anything.

        ``path`` is a path as ``request.path``, or a whole URL.  A path belongs to the
        host of the current request, else to SERVER_NAME; RuntimeError without both.
        Without ``path``, ``kwargs`` are the view's arguments: deleted is what is kept
        of all URLs that the view has with them.
        """
        cached = cached_of(f)
        if cached.is_keyed_by_url:
            return bool(self.unlink(*cached.keys(path, query_args, kwargs)))
        key = f.make_cache_key(path=path, query_args=query_args, **kwargs)
        return self.delete(plain_key(key))

    async def adelete_cached(
        self, f: Any, path: str | None = None, query_args: Any = None, **kwargs: Any
    ) -> bool:
        """See ``delete_cached``; of a plain function or a coroutine function."""
        cached = cached_of(f)
        if cached.is_keyed_by_url:
            return bool(await self.aunlink(*cached.keys(path, query_args, kwargs)))
        kwargs.update(path=path, query_args=query_args)
        return await self.adelete(await call(TASKS, f.make_cache_key, **kwargs))

    def delete_memoized(self, f: Any, *args: Any, **kwargs: Any) -> None:
        """Delete what ``memoize`` keeps of one call; without arguments, of all calls.

        For a bound method: of all calls with its object.
        """
        if args or kwargs:
            args = with_owner(f, args)
            self.delete(f.make_cache_key(f.uncached, *args, **kwargs))
        else:
            self.delete_memoized_verhash(f)

    async def adelete_memoized(self, f: Any, *args: Any, **kwargs: Any) -> None:
        """See ``delete_memoized``; of a plain function or a coroutine function."""
        if args or kwargs:
            args = with_owner(f, args)
            await self.adelete(await f.amake_cache_key(f.uncached, *args, **kwargs))
        else:
            await self.adelete_memoized_verhash(f)

    def delete_memoized_verhash(self, f: Any, *_args: Any) -> None:
        """Delete what ``memoize`` keeps of all calls."""
        key = version_key_of(f)
        self.cache.delete(key)

    async def adelete_memoized_verhash(self, f: Any, *_args: Any) -> None:
        """See ``delete_memoized_verhash``."""
        key = version_key_of(f)
        await self.cache.adelete(key)

    # -- the state of the cache --------------------------------------------------------

    @property
    def _binding(self) -> Binding:  # type: ignore[override] # the backend's
        backend = self.cache
        if not isinstance(backend, CacheBridgeBackend):
            raise ConfigError(
                "CACHE_TYPE is 'NullCache': there are no levels. counter(), warm(), "
                "stats(), health(), bypass_l1(), l1_off() and l1_on() need "
                "'RedisCache', 'RedisSentinelCache', 'RedisClusterCache', "
                "'MemcachedCache' or 'SimpleCache'."
            )
        return backend._binding  # noqa: SLF001 both are adapters
