"""``cached``: for views, and functions that take no arguments worth a key."""

from __future__ import annotations

import inspect
import logging
from functools import partial, update_wrapper
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from flask import (
    after_this_request,
    current_app,
    g,
    has_request_context,
    request,
    url_for,
)
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import HTTPException

from cachebridge.core.entry import MISSING
from cachebridge.errors import UncacheableError
from cachebridge.flask_ext.callbacks import at_once, plain_key
from cachebridge.flask_ext.exchanges import SessionCookie, exchange_of, shown_by
from cachebridge.flask_ext.lookup import Run, find, renew
from cachebridge.flask_ext.naming import positional_names
from cachebridge.flask_ext.sharing import obstacle_to_sharing
from cachebridge.flask_ext.signals import cache_view_hit, cache_view_miss

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flask import Response

    from cachebridge.flask_ext.callbacks import Callbacks
    from cachebridge.flask_ext.extension import Cache
    from cachebridge.flask_ext.responses import Timeout

log = logging.getLogger("cachebridge.flask")
_PATH_MARK: Final = "%s"
_HIT_MARK: Final = "flask_caching_hit_cache"
CACHED_METHODS: Final = frozenset({"GET", "HEAD"})


class CachedFunction:
    """What ``cached`` knows about the function it decorates."""

    def __init__(
        self,
        cache: Cache,
        function: Callable[..., Any],
        *,
        timeout: Timeout | None,
        key_prefix: str | Callable[[], str],
        callbacks: Callbacks,
        query_string: bool,
        hash_method: Callable[..., Any] | None,
        cache_none: bool,
        make_cache_key: Callable[..., Any] | None,
        source_check: bool | None,
        response_hit_indication: bool,
        store_unshareable: bool,
    ) -> None:
        self._cache = cache
        self._function = function
        self._timeout = timeout
        self._key_prefix = key_prefix
        self._callbacks = callbacks
        self._query_string = query_string
        self._hash_method = hash_method
        self._cache_none = cache_none
        self._make_cache_key = make_cache_key if callable(make_cache_key) else None
        self._source_check = source_check
        self._shows_hits = response_hit_indication
        self._store_unshareable = store_unshareable
        self._source: bytes | None = None
        self._names = positional_names(function)
        # Whoever makes keys may look at the method and every header of the request.
        self._has_own_keys = self._make_cache_key is not None or callable(key_prefix)
        self._is_keyed_by_request = query_string or (
            isinstance(key_prefix, str) and _PATH_MARK in key_prefix
        )

    def wrapper(self) -> Any:
        """Return the function that takes the decorated one's place."""
        wrapper: Any = update_wrapper(self._decorated(), self._function)
        wrapper.uncached = self._function
        wrapper.cache_timeout = self._timeout
        wrapper.make_cache_key = self.make_key
        self._wrapper = wrapper
        return wrapper

    # -- one call ------------------------------------------------------------------

    def _decorated(self) -> Callable[..., Any]:
        def decorated(*args: Any, **kwargs: Any) -> Any:
            return self._call(args, kwargs)

        return decorated

    def _run_function(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._function(*args, **kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        cache, callbacks = self._cache, self._callbacks
        run_function = partial(self._run_function, args, kwargs)
        if callbacks.before and callbacks.bypasses(self._function, args, kwargs):
            return run_function()
        acting_as = self._acting_method()
        if acting_as not in CACHED_METHODS:
            return run_function()
        try:
            key = self._key(args, kwargs)
            forced = callbacks.before and callbacks.forces(args, kwargs)
        except Exception:
            if cache.app.debug:
                raise
            log.exception("no key for %s: it runs uncached", self._function)
            return run_function()
        value = MISSING
        if not forced and not callbacks.on_hit:
            value = cache.cache.probe(key)
        if value is MISSING or value is None:
            cookies = SessionCookie()
            function = partial(cookies.watch, run_function)
            keeps = partial(self._keeps, cookies)
            run = self._new_run(function, keeps, key, args, kwargs)
            is_unwanted = partial(self._is_unwanted, args=args, kwargs=kwargs)
            if acting_as == "HEAD":
                value = self._read_only(key, run, forced, is_unwanted)
            else:
                value = self._answer(key, run, forced, is_unwanted)
            if run.has_run:
                return returned(value)
        return self._found(value, key, args, kwargs)

    def _new_run(
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
            before=partial(self._tell, cache_view_miss, key, args, kwargs),
            heeds_response=True,
        )

    def _found(
        self, value: Any, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self._shows_hits or self._cache.enable_signals:
            self._tell(cache_view_hit, key, args, kwargs)
        return returned(value)

    def _acting_method(self) -> str:
        """Return GET to ask the cache and fill it, HEAD only to ask it, or neither."""
        method = request.method if has_request_context() else "GET"
        if method == "GET" or not self._is_view():
            return "GET"
        return "GET" if method != "HEAD" and self._has_own_keys else method

    def _answer(
        self, key: str, run: Run, forced: bool, is_unwanted: Callable[[Any], bool]
    ) -> Any:
        """Return what is kept or what the function returns, also if that cannot be."""
        backend = self._cache.cache
        try:
            if forced:
                return renew(backend, key, run)
            value = find(backend, key, run)
            if not run.has_run and is_unwanted(value):
                return renew(backend, key, run)
        except UncacheableError:
            if run.result is MISSING or self._cache.app.debug:
                raise
            log.exception("the result of %s is not kept", self._function)
            return run.result
        return value

    def _read_only(
        self, key: str, run: Run, forced: bool, is_unwanted: Callable[[Any], bool]
    ) -> Any:
        """Return what is kept, else what the function returns for this caller alone."""
        value = MISSING if forced else self._cache.cache.lookup(key)
        if value is MISSING or is_unwanted(value):
            return run.carry_out()[0]
        return value

    def _is_unwanted(self, value: Any, args: tuple[Any, ...], kwargs: Any) -> bool:
        if value is None and not self._cache_none:
            return True
        return self._callbacks.on_hit and self._callbacks.refuses(value, args, kwargs)

    def _tell(
        self, signal: Any, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Make a hit or a miss known, as far as that is wanted."""
        if self._shows_hits:
            _indicate(hit=signal is cache_view_hit)
        if self._cache.enable_signals:
            signal.send(cache=self._cache, cache_key=key, args=args, kwargs=kwargs)

    # -- what may be kept ------------------------------------------------------------

    def _keeps(self, cookies: SessionCookie, result: Any) -> bool:
        shown = shown_by(result)
        return self._callbacks.keeps(shown) and self._may_be_shared(cookies, shown)

    def _may_be_shared(self, cookies: SessionCookie, shown: Any) -> bool:
        if self._store_unshareable:
            return True
        exchange = exchange_of(
            shown,
            in_view=has_request_context() and self._is_view(),
            sets_cookie=cookies.is_due,
            own_key=self._has_own_keys,
        )
        obstacle = obstacle_to_sharing(exchange)
        if obstacle is not None:
            log.debug("the result of %s is not kept: %s", self._function, obstacle)
        return obstacle is None

    def _is_view(self) -> bool:
        """Tell whether what the function gives is for the present request."""
        if self._is_keyed_by_request or self._has_own_keys:
            return True
        if request.endpoint is None:
            return False
        view = current_app.view_functions.get(request.endpoint)
        # Around the whole view, or, in a class, around one of its methods.
        view_class = getattr(view, "view_class", None)
        name = getattr(self._function, "__name__", "")
        method = getattr(view_class, name, None)
        return self._is_within(view) or self._is_within(method)

    def _is_within(self, function: Any) -> bool:
        """Tell whether the wrapper is the function, or what it wraps."""
        while function is not None and function is not self._wrapper:
            function = getattr(function, "__wrapped__", None)
        return function is not None

    # -- keys ------------------------------------------------------------------------

    def _key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        if self._make_cache_key is not None:
            return plain_key(self._make_cache_key(*args, **kwargs))
        make_key = self._wrapper.make_cache_key
        return plain_key(make_key(*args, use_request=True, **kwargs))

    def make_key(self, *args: Any, **kwargs: Any) -> Any:
        """Return the key of a call with these arguments.

        ``path`` and ``query_args`` stand for a request that there is not.  With a
        ``key_prefix`` that is a coroutine function the key is to be awaited.
        """
        kwargs.update(zip(self._names, args, strict=False))
        path = query_args = None
        use_request = kwargs.pop("use_request", False)
        if not use_request:
            path = kwargs.pop("path", None)
            query_args = kwargs.pop("query_args", None)
        if inspect.iscoroutinefunction(self._key_prefix):
            return self._whole_key_later(self._key_prefix, query_args)
        start = self._start_of_key(path, kwargs, use_request=use_request)
        if inspect.isawaitable(start):
            return self._whole_key_later(lambda: start, query_args)
        return self._whole_key(start, query_args)

    def _whole_key_later(
        self, start: Callable[[], Awaitable[str]], query_args: Any
    ) -> Any:
        """Return the key once its start is there: of a plain function, never."""
        return self._whole_key(at_once(start()), query_args)

    def _whole_key(self, start: str, query_args: Any) -> str:
        digest = None
        if self._query_string:
            pairs = (
                request.args.items(multi=True)
                if query_args is None
                else query_pairs(query_args)
            )
            digest = self._new_hash(str(tuple(sorted(pairs))).encode())
        if self._checks_source():
            if digest is None:
                digest = self._new_hash(self._source_bytes())
            else:
                digest.update(self._source_bytes())
        return start if digest is None else f"{start}{digest.hexdigest()}"

    def _start_of_key(
        self, path: str | None, kwargs: dict[str, Any], *, use_request: bool
    ) -> Any:
        prefix = self._key_prefix
        if callable(prefix):
            return prefix()
        if _PATH_MARK not in prefix:
            return prefix
        if path is None:
            if use_request or self._query_string:
                path = request.path
            else:
                path = url_for(self._function.__name__, _external=False, **kwargs)
        return prefix % path

    def _new_hash(self, content: bytes) -> Any:
        method = self._hash_method or self._cache.hash_method
        return method(content)

    def _checks_source(self) -> bool:
        own = self._source_check
        return bool(self._cache.source_check if own is None else own)

    def _source_bytes(self) -> bytes:
        if self._source is None:
            self._source = inspect.getsource(self._function).encode()
        return self._source


def query_pairs(query_args: Any) -> list[tuple[str, str]]:
    """Return names and values of a query string, a mapping, or pairs."""
    if isinstance(query_args, str):
        return parse_qsl(query_args.lstrip("?"), keep_blank_values=True)
    if isinstance(query_args, MultiDict):
        items: Any = query_args.items(multi=True)
    else:
        items = query_args.items() if hasattr(query_args, "items") else query_args
    return [(name, str(value)) for name, value in items]


def returned(value: Any) -> Any:
    """Return a result, and raise the exception that is one."""
    if isinstance(value, HTTPException):
        raise value
    return value


def _indicate(*, hit: bool) -> None:
    """Let the response of this request say whether the last look-up was a hit."""
    if not has_request_context():
        return
    if _HIT_MARK not in g:
        after_this_request(_add_hit_header)
    setattr(g, _HIT_MARK, hit)


def _add_hit_header(response: Response) -> Response:
    if g.get(_HIT_MARK):
        response.headers["hit_cache"] = "True"
    return response
